package command

import (
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// freezeWait bounds the wait for processes to stand still: one that hangs in the kernel does so when it returns.
	freezeWait = 100 * time.Millisecond
	freezePoll = 500 * time.Microsecond
)

// Freezer makes all commands stand still while the machine is copied, so that in a copy none of them runs before the
// copy is a machine of its own. The zero value only holds back new ones, a nil one nothing.
//
// No command may be on its way from fork to exec in a frozen cgroup: it would stop there, and with it the thread of the
// agent that waits for it in vfork, which keeps a processor of the Go runtime from everybody else. So starts wait for
// the thaw, and the freezing waits for starts. No lock is held in a wait: a start may hang, and Thaw must not.
type Freezer struct {
	base string // empty without cgroups

	mu       sync.Mutex
	timer    *time.Timer
	still    *Standstill   // nil when nothing is frozen or about to be
	starting int           // commands between fork and exec
	idle     chan struct{} // closed when starting becomes 0; nil when nobody waits for that
}

// Standstill is a time in which commands stand still, or are about to.
type Standstill struct {
	over    chan struct{} // closed by the thaw
	refused bool          // starts that have waited come to nothing; set before over is closed
}

// Caller is who wants a command. Gone is only asked for while commands must wait; it is closed when nobody wants the
// command any more.
type Caller interface {
	Gone() <-chan struct{}
}

// NewFreezer is for the commands in groups, which may be nil.
func NewFreezer(groups *Groups) *Freezer {
	if groups == nil {
		return &Freezer{}
	}
	return &Freezer{base: groups.base}
}

// Begin is the part of a freeze that does not wait: from now on no command starts, until Thaw, at the latest until the
// limit has passed on the guest's own clock. While commands stand still it only sets a new limit.
func (f *Freezer) Begin(limit time.Duration) *Standstill {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.begin(limit)
}

func (f *Freezer) begin(limit time.Duration) *Standstill {
	if f.still == nil {
		f.still = &Standstill{over: make(chan struct{})}
	} else {
		f.timer.Stop()
	}
	var timer *time.Timer
	timer = time.AfterFunc(limit, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.timer == timer { // else it was too late to stop it, and what it would end is another's
			f.thaw(false)
		}
	})
	f.timer = timer
	return f.still
}

// Finish stops all commands. It reports false when they were let go before they had been stopped.
func (f *Freezer) Finish(s *Standstill) bool {
	f.mu.Lock()
	for f.starting > 0 && f.still == s {
		if f.idle == nil {
			f.idle = make(chan struct{})
		}
		idle := f.idle
		f.mu.Unlock()
		select {
		case <-idle:
		case <-s.over:
		}
		f.mu.Lock()
	}
	if f.still != s {
		f.mu.Unlock()
		return false
	}
	frozen := f.base != "" && overwrite(f.base+"/cgroup.freeze", "1") == nil // else a kernel without a freezer
	f.mu.Unlock()
	if frozen {
		for end := time.Now().Add(freezeWait); !f.stands() && time.Now().Before(end); {
			time.Sleep(freezePoll)
		}
	}
	select {
	case <-s.over:
		return false
	default:
		return true
	}
}

// Thaw lets the commands go on, and those start that have waited. Idempotent.
func (f *Freezer) Thaw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.thaw(false)
}

// ThawCopy lets the commands go on in a copy. Those that have waited do not start: who asked for them is with the
// original, where they do.
func (f *Freezer) ThawCopy() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.thaw(true)
}

func (f *Freezer) thaw(refuse bool) {
	if f.still == nil {
		return
	}
	f.timer.Stop()
	f.timer = nil
	if f.base != "" {
		_ = overwrite(f.base+"/cgroup.freeze", "0")
	}
	f.still.refused = refuse
	close(f.still.over)
	f.still = nil
}

// beginStart waits until a command may be started, which endStart must follow. It reports false when nobody wants the
// command any more.
func (f *Freezer) beginStart(caller Caller) bool {
	if f == nil {
		return true
	}
	var gone <-chan struct{}
	for {
		f.mu.Lock()
		still := f.still
		if still == nil {
			defer f.mu.Unlock()
			select {
			case <-gone: // nil, and never closed, for a command that did not wait
				return false
			default:
				f.starting++
				return true
			}
		}
		f.mu.Unlock()
		if gone == nil && caller != nil {
			gone = caller.Gone()
		}
		select {
		case <-still.over:
			if still.refused {
				return false
			}
		case <-gone:
			return false
		}
	}
}

func (f *Freezer) endStart() {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starting--
	if f.starting == 0 && f.idle != nil {
		close(f.idle)
		f.idle = nil
	}
}

func (f *Freezer) stands() bool {
	events, err := os.ReadFile(f.base + "/cgroup.events")
	return err != nil || strings.Contains(string(events), "frozen 1")
}
