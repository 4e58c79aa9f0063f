package netguard

import "time"

const (
	// flowLimit bounds the table of UDP and ping conversations.
	flowLimit = 8192
	// flowIdle is how long a conversation may be silent; passt forgets its own after 180 s.
	flowIdle = 180 * time.Second
	// sourcePortLimit bounds the UDP ports of the host that passt holds for the guest, one for each source port.
	sourcePortLimit = 256
	// sourcePortIdle is how long a source port counts after its last datagram: passt's 180 s, and time for passt to
	// have got that datagram and to have looked at its clock.
	sourcePortIdle = flowIdle + 5*time.Second
	// sweepPause is the shortest time between two looks for what is idle in a full table.
	sweepPause = time.Second
)

// flowTable remembers to whom the guest sent UDP and pings, and from which UDP ports. Not for concurrent use.
type flowTable struct {
	last    map[conversation]time.Time
	sources map[uint16]time.Time
	swept   time.Time // when last was looked through
}

func newFlowTable() flowTable {
	return flowTable{last: map[conversation]time.Time{}, sources: map[uint16]time.Time{}}
}

// note remembers a packet of the guest, or says no: it has too many conversations or source ports.
func (t *flowTable) note(c conversation, now time.Time) bool {
	if _, known := t.last[c]; !known && !t.hasRoom(now) {
		return false
	}
	if c.protocol == protocolUDP && !t.noteSource(c.guestPort, now) {
		return false
	}
	t.last[c] = now
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

func (t *flowTable) has(c conversation, now time.Time) bool {
	last, known := t.last[c]
	if !known || now.Sub(last) > flowIdle {
		return false
	}
	t.last[c] = now
	return true
}

// keep forgets every conversation that is not allowed any more.
func (t *flowTable) keep(allowed func(conversation) bool) {
	for c := range t.last {
		if !allowed(c) {
			delete(t.last, c)
		}
	}
}

// hasRoom forgets the idle flows of a full table, and tells whether there is room then. A live one never makes room for
// another: each holds a place in the host's own table of connections (conntrack), which one guest must not fill.
func (t *flowTable) hasRoom(now time.Time) bool {
	if len(t.last) < flowLimit {
		return true
	}
	if now.Sub(t.swept) < sweepPause {
		return false
	}
	t.swept = now
	for c, last := range t.last {
		if now.Sub(last) > flowIdle {
			delete(t.last, c)
		}
	}
	return len(t.last) < flowLimit
}
