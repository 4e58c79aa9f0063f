package command

import (
	"os"
	"testing"
	"time"
)

// control makes a directory with the files of a cgroup that stands still at once.
func control(t *testing.T) (base string, state func() string) {
	base = t.TempDir()
	for name, text := range map[string]string{"cgroup.freeze": "0", "cgroup.events": "populated 1\nfrozen 1\n"} {
		if err := os.WriteFile(base+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return base, func() string {
		text, err := os.ReadFile(base + "/cgroup.freeze")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

func TestFreezeAndThaw(t *testing.T) {
	base, state := control(t)
	f := NewFreezer(&Groups{base: base})
	f.Thaw()
	if state() != "0" {
		t.Fatal("changed by a thaw before any freeze")
	}
	f.Freeze(time.Minute)
	if state() != "1" {
		t.Fatal("not frozen")
	}
	f.Thaw()
	f.Thaw()
	if state() != "0" {
		t.Fatal("not thawed")
	}
}

func TestFreezeEndsByItself(t *testing.T) {
	base, state := control(t)
	f := NewFreezer(&Groups{base: base})
	f.Freeze(time.Millisecond)
	for end := time.Now().Add(10 * time.Second); state() != "0"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still frozen")
		}
	}
}

func TestASecondFreezeHasItsOwnLimit(t *testing.T) {
	base, state := control(t)
	f := NewFreezer(&Groups{base: base})
	f.Freeze(time.Hour)
	f.Freeze(time.Millisecond)
	for end := time.Now().Add(10 * time.Second); state() != "0"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still frozen")
		}
	}
}

func TestProcessesThatDoNotStandStillAreNotWaitedForLong(t *testing.T) {
	base, state := control(t)
	if err := os.WriteFile(base+"/cgroup.events", []byte("frozen 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := NewFreezer(&Groups{base: base})
	f.Freeze(time.Minute)
	if state() != "1" {
		t.Fatal("not frozen")
	}
}

func TestWithoutGroupsNothingHappens(t *testing.T) {
	f := NewFreezer(nil)
	f.Freeze(time.Minute)
	f.Thaw()
}

func TestAStartWaitsForTheThaw(t *testing.T) {
	base, state := control(t)
	f := NewFreezer(&Groups{base: base})
	f.Freeze(time.Minute)
	started := make(chan string)
	go func() {
		f.enter()
		defer f.leave()
		started <- state()
	}()
	select {
	case <-started:
		t.Fatal("started while everything stands still")
	case <-time.After(50 * time.Millisecond):
	}
	f.Freeze(time.Minute) // only a new limit
	f.Thaw()
	if was := <-started; was != "0" {
		t.Fatal("started before the thaw")
	}
	f.Freeze(time.Minute)
	f.Thaw()
}

func TestAFreezeWaitsForAStart(t *testing.T) {
	base, state := control(t)
	f := NewFreezer(&Groups{base: base})
	f.enter()
	frozen := make(chan struct{})
	go func() {
		f.Freeze(time.Minute)
		close(frozen)
	}()
	time.Sleep(50 * time.Millisecond)
	if state() != "0" {
		t.Fatal("frozen while a command is started")
	}
	f.leave()
	<-frozen
	if state() != "1" {
		t.Fatal("not frozen")
	}
	f.Thaw()
}
