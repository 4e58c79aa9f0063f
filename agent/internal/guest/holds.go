package guest

import (
	"math"
	"sync"
)

// holds keeps holds and releases in the order in which the host has asked for them: each is carried out in a goroutine
// of its own, and a host that gave up on a hold asks for the release while that is still under way.
type holds struct {
	mu       sync.Mutex
	last     uint64 // the greatest ticket so far
	released uint64 // holds with a ticket up to this one are over, or never begin
	begun    uint64 // the latest hold that has begun
}

// ask returns the ticket of a hold. It is called where the request is read.
func (h *holds) ask() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	return h.last
}

// cancel returns the ticket of a release. From now on no hold from before it begins.
func (h *holds) cancel() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	if h.released < h.last {
		h.released = h.last
	}
	return h.last
}

// begin carries out the hold, unless it is over or a later one has begun; do must not wait. It reports whether it did.
func (h *holds) begin(ticket uint64, do func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ticket <= h.released || ticket <= h.begun {
		return false
	}
	h.begun = ticket
	do()
	return true
}

// end carries out the release, unless a later hold has begun: do must not wait either.
func (h *holds) end(ticket uint64, do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ticket > h.begun {
		do()
	}
}

// close ends every hold, also those to come.
func (h *holds) close(do func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.released = math.MaxUint64
	do()
}
