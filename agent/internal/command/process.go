package command

import (
	"sync"
	"syscall"
	"time"
)

// Process is a started command.
type Process struct {
	Pid int
	// Done is closed when the process itself has ended; Status and RunTime are valid from then on.
	Done    chan struct{}
	Status  syscall.WaitStatus
	RunTime time.Duration

	started time.Time
	reaper  *Reaper
	ended   bool // guarded by the reaper's lock

	groupMu sync.Mutex // held while the group's descriptors are used, so that Release cannot close them
	group   *group
}

func (p *Process) finish(status syscall.WaitStatus) {
	p.Status = status
	p.RunTime = time.Since(p.started)
	close(p.Done)
}

// Signal sends a signal to the process group of the command. A command that has ended is left alone.
func (p *Process) Signal(signal syscall.Signal) {
	p.reaper.mu.Lock()
	defer p.reaper.mu.Unlock()
	if !p.ended {
		_ = syscall.Kill(-p.Pid, signal)
	}
}

// emptyPoll is the pause between two looks whether a killed command is gone.
const emptyPoll = 2 * time.Millisecond

// KillAll kills every process of the command, also those left behind when the command itself has ended.
func (p *Process) KillAll() {
	p.groupMu.Lock()
	killed := p.group != nil && p.group.kill() == nil
	p.groupMu.Unlock()
	if killed && placedAtStart {
		return
	}
	p.Signal(syscall.SIGKILL)
	killSession(p.Pid)
}

// AwaitEmpty waits until no process of the command is left, after KillAll, or until the limit has passed. Call it
// before Release.
func (p *Process) AwaitEmpty(limit time.Duration) {
	p.groupMu.Lock()
	group := p.group
	p.groupMu.Unlock()
	if group == nil {
		return
	}
	for end := time.Now().Add(limit); group.populated() && time.Now().Before(end); {
		time.Sleep(emptyPoll)
	}
}

// Release gives the cgroup back. Call it after Done; KillAll then falls back to the session.
func (p *Process) Release() {
	p.groupMu.Lock()
	defer p.groupMu.Unlock()
	if p.group != nil {
		p.group.retire()
		p.group = nil
	}
}
