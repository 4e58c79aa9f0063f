package netguard

import (
	"sync"
	"time"
)

const (
	// flowLimit bounds the table of UDP conversations.
	flowLimit = 8192
	// flowIdle is how long a conversation may be silent; passt forgets its own after 180 s.
	flowIdle = 180 * time.Second
)

type flow struct {
	remote     uint32
	guestPort  uint16
	remotePort uint16
}

// flowTable remembers to whom the guest sent UDP.
type flowTable struct {
	mutex sync.Mutex
	last  map[flow]time.Time
	now   func() time.Time
}

func newFlowTable() *flowTable {
	return &flowTable{last: map[flow]time.Time{}, now: time.Now}
}

func (t *flowTable) note(f flow) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	now := t.now()
	if _, known := t.last[f]; !known && len(t.last) >= flowLimit {
		t.makeRoom(now)
	}
	t.last[f] = now
}

func (t *flowTable) has(f flow) bool {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	now := t.now()
	last, known := t.last[f]
	if !known || now.Sub(last) > flowIdle {
		return false
	}
	t.last[f] = now
	return true
}

// makeRoom forgets one flow, an idle one where a short look finds it; the guest can only hurt itself.
func (t *flowTable) makeRoom(now time.Time) {
	looked := 0
	var victim flow
	for f, last := range t.last {
		victim = f
		looked++
		if now.Sub(last) > flowIdle || looked >= 16 {
			break
		}
	}
	delete(t.last, victim)
}
