package hostfs

import (
	"sync"
	"syscall"
)

// handle is a file or directory that the guest has open.
type handle struct {
	node *node
	fd   int
	uses int // 1 for the guest, and 1 for each request that is being worked on
	list *listing
}

// handles is all of a root's. A descriptor is closed only when no request uses it: its number may be another file's
// in the next moment.
type handles struct {
	budget *Budget

	mu   sync.Mutex
	byID map[uint64]*handle
	last uint64
}

func newHandles(budget *Budget) *handles {
	return &handles{budget: budget, byID: make(map[uint64]*handle)}
}

// add takes over the descriptor, also when it fails.
func (s *handles) add(t *tree, h *handle) (uint64, error) {
	if !s.budget.take(1) {
		_ = syscall.Close(h.fd)
		return 0, syscall.ENFILE
	}
	h.uses = 1
	t.mu.Lock()
	h.node.open = append(h.node.open, h)
	t.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	s.byID[s.last] = h
	return s.last, nil
}

// use finds a handle of the guest's; done must be called with it.
func (s *handles) use(id uint64, directory bool) (*handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.byID[id]
	if h == nil || (h.list != nil) != directory {
		return nil, syscall.EBADF
	}
	h.uses++
	return h, nil
}

func (s *handles) done(h *handle) {
	s.mu.Lock()
	h.uses--
	last := h.uses == 0
	s.mu.Unlock()
	if last {
		_ = syscall.Close(h.fd)
		if h.list != nil {
			h.list.free()
		}
		s.budget.give(1)
	}
}

// useOf finds any open file of a node: all that is left of one whose name is gone.
func (s *handles) useOf(t *tree, n *node) *handle {
	t.mu.Lock()
	open := append([]*handle(nil), n.open...)
	t.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range open {
		if h.uses > 0 {
			h.uses++
			return h
		}
	}
	return nil
}

// release ends the guest's use.
func (s *handles) release(t *tree, id uint64, directory bool) {
	s.mu.Lock()
	h := s.byID[id]
	if h == nil || (h.list != nil) != directory {
		s.mu.Unlock()
		return
	}
	delete(s.byID, id)
	s.mu.Unlock()
	t.mu.Lock()
	for i, other := range h.node.open {
		if other == h {
			h.node.open = without(h.node.open, i)
			break
		}
	}
	t.drop(h.node)
	t.mu.Unlock()
	s.done(h)
}

// without drops one, and room that is no longer needed: a guest can open one node after the other very often.
func without(open []*handle, i int) []*handle {
	last := len(open) - 1
	open[i], open[last] = open[last], nil
	if open = open[:last]; 4*len(open) <= cap(open) {
		open = append([]*handle(nil), open...)
	}
	return open
}

// closeAll is for the end of a connection.
func (s *handles) closeAll(t *tree) {
	s.mu.Lock()
	ids := make(map[uint64]bool, len(s.byID))
	for id, h := range s.byID {
		ids[id] = h.list != nil
	}
	s.mu.Unlock()
	for id, directory := range ids {
		s.release(t, id, directory)
	}
}
