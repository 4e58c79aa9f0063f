// Package command starts programs in the guest, watches over them and ends them. It knows nothing of frames.
package command

import (
	"sync"
	"syscall"
	"unsafe"
)

const (
	waitAll    = 0 // P_ALL
	waitExited = 0x4
	waitNoReap = 0x1000000 // WNOWAIT
)

// siginfo is the part of the kernel's 128-byte siginfo_t that waitid fills and the reaper reads.
type siginfo struct {
	signo, errno, code, _ int32
	pid                   int32
	_                     [128 - 20]byte
}

// Reaper waits for every child of this process: the commands and, for PID 1, every orphan of the guest.
//
// A child is first seen without being reaped and then reaped under the lock, so a pid in the table is never one
// that the kernel has given to somebody else. The lock is not held while forking: an exec from a file system that
// hangs must not stop the signals and exits of other commands. A child that ends before its start has
// registered it waits in early. A start that hangs keeps all there that ends meanwhile, one entry for a pid; ends from
// before a later start are not taken for those of its process, which may have got the same pid.
type Reaper struct {
	mu       sync.Mutex
	running  map[int]*Process
	starting int
	begun    uint64           // starts so far
	early    map[int]earlyEnd // only filled while something is starting
	started  chan struct{}
	closed   bool
}

type earlyEnd struct {
	status syscall.WaitStatus
	begun  uint64 // starts that had begun by then
}

// NewReaper starts the one reaper that a process may have.
func NewReaper() *Reaper {
	r := &Reaper{running: make(map[int]*Process), early: make(map[int]earlyEnd), started: make(chan struct{}, 1)}
	go r.run()
	return r
}

func (r *Reaper) run() {
	for {
		var info siginfo
		// A thread that blocks here wakes up with fewer detours than SIGCHLD through the runtime would.
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, waitAll, 0, uintptr(unsafe.Pointer(&info)),
			waitExited|waitNoReap, 0, 0)
		switch {
		case errno == syscall.ECHILD:
			<-r.started
		case errno == 0 && info.pid > 0:
			r.reap(int(info.pid))
		}
	}
}

func (r *Reaper) reap(pid int) {
	var status syscall.WaitStatus
	r.mu.Lock()
	got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
	if err != nil || got != pid {
		r.mu.Unlock()
		return
	}
	process := r.running[pid]
	if process != nil {
		delete(r.running, pid)
		process.ended = true
	} else if r.starting > 0 {
		r.early[pid] = earlyEnd{status, r.begun}
	}
	r.mu.Unlock()
	if process != nil {
		process.finish(status)
	}
}

func (r *Reaper) start(p *Process, fork func() (int, error)) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return syscall.ESHUTDOWN
	}
	r.starting++
	r.begun++
	number := r.begun
	r.mu.Unlock()

	pid, err := fork()

	r.mu.Lock()
	end, early := r.early[pid]
	early = early && end.begun >= number
	if err == nil {
		p.Pid = pid
		delete(r.early, pid)
		if early {
			p.ended = true
		} else {
			r.running[pid] = p
		}
	}
	r.starting--
	if r.starting == 0 && len(r.early) > 0 {
		r.early = make(map[int]earlyEnd)
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if early {
		p.finish(end.status)
	}
	select {
	case r.started <- struct{}{}:
	default:
	}
	return nil
}

// Close makes every later start fail with ESHUTDOWN.
func (r *Reaper) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
}

// Idle reports that this process has no children; for PID 1 that no other process runs in the guest.
func Idle() bool {
	var info siginfo
	_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, waitAll, 0, uintptr(unsafe.Pointer(&info)),
		waitExited|waitNoReap|syscall.WNOHANG, 0, 0)
	return errno == syscall.ECHILD
}
