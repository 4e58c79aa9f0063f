package session

import (
	"sync"
	"time"
)

// copyGrace is how long a copy goes on taking the loss of clients for the work of the copying: a lane reports that its
// client left some time after the copy has begun to run, and only lane.leaveGrace later it is believed.
const copyGrace = time.Second

// Window is a time in which commands survive the end of their connection, because the host is copying the machine: in
// the copy all clients are gone, and the commands must go on. The zero value is a closed window.
type Window struct {
	mu sync.Mutex
	// until is the end of the open window on the guest's monotonic clock, which stands still while the machine does.
	until time.Time
	// grace is the end of the window of a copy, for connections from before it.
	grace time.Time
	epoch uint64 // how often this machine turned out to be a copy
}

// Open opens the window for that long, whatever was before.
func (w *Window) Open(limit time.Duration) {
	w.mu.Lock()
	w.until = time.Now().Add(limit)
	w.mu.Unlock()
}

// Close ends the window that Open has opened.
func (w *Window) Close() {
	w.mu.Lock()
	w.until = never
	w.mu.Unlock()
}

// Copied says that this machine is a copy: connections from before go on to be covered for a moment, if they were.
func (w *Window) Copied() {
	w.mu.Lock()
	now := time.Now()
	if now.Before(w.until) {
		w.grace = now.Add(copyGrace)
	}
	w.until = never
	w.epoch++
	w.mu.Unlock()
}

// current returns the epoch of a connection that is opened now.
func (w *Window) current() uint64 {
	if w == nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.epoch
}

// covers reports that the commands of a connection of that epoch survive its end.
func (w *Window) covers(epoch uint64) bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	return now.Before(w.until) || epoch < w.epoch && now.Before(w.grace)
}
