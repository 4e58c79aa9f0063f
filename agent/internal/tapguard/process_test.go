package tapguard

import (
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestProcess(t *testing.T) {
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Process.Kill() }()
	pid := sleeper.Process.Pid
	startTime, err := startTimeOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openProcess(pid, startTime+"1"); err != syscall.ESRCH {
		t.Errorf("another start time: %v", err)
	}
	for _, bad := range []int{0, -1, 1 << 30} {
		if _, err := openProcess(bad, startTime); err == nil {
			t.Errorf("pid %d was taken", bad)
		}
	}
	p, err := openProcess(pid, startTime)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if p.ended(false) {
		t.Error("ended while it lives")
	}
	procPath = t.TempDir() // As with hidepid.
	if _, err := openProcess(pid, startTime); !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), "hidepid") {
		t.Errorf("a process that is not shown: %v", err)
	}
	procPath = "/proc"
	_ = sleeper.Process.Kill()
	p.wait()
	// It is a zombie now, whose number and start time still are those: it counts as ended.
	if _, err := openProcess(pid, startTime); err != syscall.ESRCH {
		t.Errorf("a zombie: %v", err)
	}
	_ = sleeper.Wait()
}
