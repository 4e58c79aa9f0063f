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
	// sourcePortLimit bounds the UDP ports of the host that passt holds for the guest, one for each source port.
	sourcePortLimit = 256
	// sourcePortIdle is how long a source port counts after its last datagram: passt's 180 s, and time for passt to
	// have got that datagram and to have looked at its clock.
	sourcePortIdle = flowIdle + 5*time.Second
)

type flow struct {
	remote     uint32
	guestPort  uint16
	remotePort uint16
}

// flowTable remembers to whom the guest sent UDP, and from which ports.
type flowTable struct {
	mutex   sync.Mutex
	last    map[flow]time.Time
	sources map[uint16]time.Time
	now     func() time.Time
}

func newFlowTable() *flowTable {
	return &flowTable{last: map[flow]time.Time{}, sources: map[uint16]time.Time{}, now: time.Now}
}

// note remembers a datagram of the guest, or says no: it uses too many source ports.
func (t *flowTable) note(f flow) bool {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	now := t.now()
	if !t.noteSource(f.guestPort, now) {
		return false
	}
	if _, known := t.last[f]; !known && len(t.last) >= flowLimit {
		t.makeRoom(now)
	}
	t.last[f] = now
	return true
}

func (t *flowTable) noteSource(port uint16, now time.Time) bool {
	if _, known := t.sources[port]; !known && len(t.sources) >= sourcePortLimit {
		for other, last := range t.sources {
			if now.Sub(last) > sourcePortIdle {
				delete(t.sources, other)
			}
		}
		if len(t.sources) >= sourcePortLimit {
			return false
		}
	}
	t.sources[port] = now
	return true
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
