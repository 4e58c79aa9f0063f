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
	// samples is how many entries of a full table are looked at for the one that goes.
	samples = 16
)

// flowTable remembers to whom the guest sent UDP and pings, and from which UDP ports. Not for concurrent use.
type flowTable struct {
	last    map[conversation]time.Time
	sources map[uint16]time.Time
}

func newFlowTable() flowTable {
	return flowTable{last: map[conversation]time.Time{}, sources: map[uint16]time.Time{}}
}

// note remembers a packet of the guest, or says no: it uses too many source ports.
func (t *flowTable) note(c conversation, now time.Time) bool {
	if c.protocol == protocolUDP && !t.noteSource(c.guestPort, now) {
		return false
	}
	if _, known := t.last[c]; !known && len(t.last) >= flowLimit {
		t.makeRoom(now)
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

// makeRoom forgets one flow, an idle one where a short look finds it; the guest can only hurt itself.
func (t *flowTable) makeRoom(now time.Time) {
	looked := 0
	var victim conversation
	for c, last := range t.last {
		victim = c
		looked++
		if now.Sub(last) > flowIdle || looked >= samples {
			break
		}
	}
	delete(t.last, victim)
}
