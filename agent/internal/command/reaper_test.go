package command

import (
	"syscall"
	"testing"
	"time"
)

// TestAReusedPidIsNotTakenForItsFirstOwner: while a start hangs, ends of others are kept.
func TestAReusedPidIsNotTakenForItsFirstOwner(t *testing.T) {
	r := NewReaper()
	hanging, release, returned := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(returned)
		_ = r.start(&Process{Done: make(chan struct{}), reaper: r}, func() (int, error) {
			close(hanging)
			<-release
			return 0, syscall.EIO
		})
	}()
	<-hanging
	// An orphan, as far as the reaper can tell.
	fork := func() int {
		pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{})
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	orphan := fork()
	r.started <- struct{}{}
	await(t, r, orphan)

	late := &Process{Done: make(chan struct{}), reaper: r}
	if err := r.start(late, func() (int, error) { return orphan, nil }); err != nil {
		t.Fatal(err)
	}
	select {
	case <-late.Done:
		t.Error("a new process has the end of an old one with the same pid")
	default:
	}

	// What ends while its own start is under way has ended.
	quick := &Process{Done: make(chan struct{}), reaper: r}
	if err := r.start(quick, func() (int, error) {
		pid := fork()
		select {
		case r.started <- struct{}{}:
		default:
		}
		await(t, r, pid)
		return pid, nil
	}); err != nil {
		t.Fatal(err)
	}
	<-quick.Done
	close(release)
	<-returned
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.early) != 0 {
		t.Errorf("%d ends are kept although nothing starts", len(r.early))
	}
}

func await(t *testing.T, r *Reaper, pid int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		r.mu.Lock()
		_, seen := r.early[pid]
		r.mu.Unlock()
		if seen {
			return
		}
	}
	t.Fatalf("the end of %d is not noticed", pid)
}
