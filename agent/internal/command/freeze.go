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
// copy is a machine of its own. The zero value does nothing.
type Freezer struct {
	base string

	// gate is held for writing while the commands stand still, and for reading while one is started.
	gate sync.RWMutex

	mu    sync.Mutex
	timer *time.Timer // not nil while the commands stand still
}

// NewFreezer is for the commands in groups, which may be nil.
func NewFreezer(groups *Groups) *Freezer {
	if groups == nil {
		return &Freezer{}
	}
	return &Freezer{base: groups.base}
}

// Freeze stops all commands until Thaw, at the latest until the limit has passed on the guest's own clock. Commands that
// are started meanwhile wait. While they stand still it only sets a new limit.
func (f *Freezer) Freeze(limit time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.base == "" {
		return
	}
	if f.timer != nil {
		f.timer.Stop()
		f.timer = time.AfterFunc(limit, f.Thaw)
		return
	}
	f.gate.Lock()
	f.timer = time.AfterFunc(limit, f.Thaw)
	if overwrite(f.base+"/cgroup.freeze", "1") != nil {
		return // a kernel without a freezer
	}
	for end := time.Now().Add(freezeWait); !f.stands() && time.Now().Before(end); {
		time.Sleep(freezePoll)
	}
}

// Thaw lets the commands go on. Idempotent.
func (f *Freezer) Thaw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer == nil {
		return
	}
	f.timer.Stop()
	f.timer = nil
	_ = overwrite(f.base+"/cgroup.freeze", "0")
	f.gate.Unlock()
}

// enter waits until a command may be started; leave says that it was.
func (f *Freezer) enter() {
	if f != nil {
		f.gate.RLock()
	}
}

func (f *Freezer) leave() {
	if f != nil {
		f.gate.RUnlock()
	}
}

func (f *Freezer) stands() bool {
	events, err := os.ReadFile(f.base + "/cgroup.events")
	return err != nil || strings.Contains(string(events), "frozen 1")
}
