package netguard

import "time"

const (
	// connectionLimit bounds the table of TCP connections. One more ends an old one.
	connectionLimit = 8192
	// samples is how many entries of a full table are looked at for the one that goes.
	samples = 16
	// opensPerSecond bounds new connections in the long run, opensBurst those after a rest: each is one in the host's
	// table of connections (conntrack) too, where it stays for minutes.
	opensPerSecond = 200
	opensBurst     = 2000
	// answerPatience is for how long passt gets a SYN only once. A guest sends its own again after 1, 3 and 7 s; the last
	// of these goes on, as passt may have lost the first.
	answerPatience = 5 * time.Second
)

// Lane is one of the two passts.
type Lane uint8

const (
	// ToHost is the passt in the host's network.
	ToHost Lane = iota
	// ToNames is the passt in the network namespace where every address leads to the egress proxy.
	ToNames
	lanes = 2
)

// connection is what is known of a TCP connection of the guest's: enough to route and to end it.
type connection struct {
	lane         Lane
	scale        uint8         // of the guest's window
	remoteScale  uint8         // of passt's
	accepted     bool          // passt has answered
	way          time.Duration // how long that took
	opened       time.Time
	last         time.Time
	first        uint32 // the guest's first sequence number
	next         uint32 // the guest's next sequence number
	acknowledged uint32 // what the guest expects next
	answered     bool   // the guest has acknowledged something
	guestEnded   bool   // FIN was seen
	remoteEnded  bool
	isLost       bool // its SYN has not reached passt
	isEnded      bool // what waits of it must not reach passt any more
}

// isRepeated tells of a SYN that came again because the answer takes its time: passt resets the connection when it gets
// one (seen with passt of 2023).
func (c *connection) isRepeated(p *packet, now time.Time) bool {
	return p.opens() && p.sequence == c.first && !c.answered && !c.isLost && now.Sub(c.opened) < answerPatience
}

func (c *connection) over() bool { return c.guestEnded && c.remoteEnded }

// allowance counts what may be opened. The zero value is a full one.
type allowance struct {
	used float64
	last time.Time
}

// take uses one, or says no.
func (a *allowance) take(now time.Time) bool {
	if passed := now.Sub(a.last).Seconds(); passed > 0 {
		a.last = now
		if a.used -= passed * opensPerSecond; a.used < 0 {
			a.used = 0
		}
	}
	if a.used+1 > opensBurst {
		return false
	}
	a.used++
	return true
}

// connectionTable remembers the guest's TCP connections. Not for concurrent use.
type connectionTable map[conversation]*connection

// sent remembers a segment of the guest that goes to passt.
func (t connectionTable) sent(p *packet, c *connection, now time.Time) {
	c.last = now
	if next := p.next(); p.opens() || int32(next-c.next) > 0 {
		c.next = next
	}
	if p.flags&tcpAck != 0 {
		c.acknowledged, c.answered = p.acknowledged, true
	}
	if p.flags&tcpFin != 0 {
		c.guestEnded = true
	}
	if p.flags&tcpRst != 0 {
		delete(t, p.conversation)
	}
}

// received tells whether a segment of passt belongs to a connection, and remembers it. window is what passt's is limited
// to where its answer took that long.
func (t connectionTable) received(p *packet, lane Lane, now time.Time, window func(way time.Duration) int) bool {
	c, known := t[p.conversation]
	if !known || c.lane != lane {
		return false
	}
	c.last = now
	switch {
	case p.flags&tcpSyn == 0 && c.accepted:
		p.limitWindow(window(c.way), c.remoteScale)
	case p.flags&tcpSyn != 0:
		c.remoteScale, c.way, c.accepted = p.windowScale(), now.Sub(c.opened), true
	}
	if p.flags&tcpFin != 0 {
		c.remoteEnded = true
	}
	if p.flags&tcpRst != 0 {
		c.isEnded = true
		delete(t, p.conversation)
	}
	return true
}

// victim chooses a connection to end so that there is room: one that is over, or the longest silent of a few.
func (t connectionTable) victim() (oldest conversation) {
	looked := 0
	var last time.Time
	for key, c := range t {
		if c.over() {
			return key
		}
		if looked == 0 || c.last.Before(last) {
			oldest, last = key, c.last
		}
		if looked++; looked >= samples {
			break
		}
	}
	return oldest
}
