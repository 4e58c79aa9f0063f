package netguard

import "smolvm.dev/agent/internal/egress"

// Ending is what ends a connection of the guest's on both sides.
type Ending struct {
	Lane    Lane
	ToGuest []byte
	ToPasst []byte
}

func (g *Guard) makeRoom() *Ending {
	if len(g.connections) < connectionLimit {
		return nil
	}
	return g.end(g.connections.victim())
}

// end forgets a connection.
func (g *Guard) end(of conversation) *Ending {
	known := g.connections[of]
	known.isEnded = true
	delete(g.connections, of)
	ending := &Ending{Lane: known.lane}
	ending.ToGuest, ending.ToPasst = g.resets(of, known)
	return ending
}

// EndRefused ends what the rules refuse now. What was judged before must not be forwarded any more.
func (g *Guard) EndRefused() []*Ending {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.epoch++
	g.flows.keep(func(c conversation) bool {
		_, denial := g.decide(&packet{conversation: c, icmpType: icmpEchoRequest})
		return denial == nil
	})
	var endings []*Ending
	for c, known := range g.connections {
		if g.stays(c, known.lane) {
			continue
		}
		if ending := g.end(c); !known.over() {
			endings = append(endings, ending)
		}
	}
	return endings
}

// stays tells whether a connection is still allowed where it is. One that goes by name may stay so although it could
// go directly now; the proxy ends it if its name is refused.
func (g *Guard) stays(c conversation, lane Lane) bool {
	if lane == ToNames && c.remote == g.dns && g.dns != 0 {
		return g.hasNames
	}
	action := g.rules.Decide(egress.ProtocolTCP, toAddr(c.remote), c.remotePort).Action
	return action == egress.Direct || action == egress.ByName && lane == ToNames
}

// EndLane ends what went through a passt that has gone. What was judged before must not reach the next one.
func (g *Guard) EndLane(lane Lane) []*Ending {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.epoch++
	if lane == ToHost {
		g.flows = newFlowTable()
	}
	var endings []*Ending
	for c, known := range g.connections {
		if known.lane != lane {
			continue
		}
		if ending := g.end(c); !known.over() {
			endings = append(endings, ending)
		}
	}
	return endings
}

// resets are the segments that end a connection on both sides: the guest's, and passt's with its socket.
func (c *crafter) resets(of conversation, known *connection) (toGuest, toPasst []byte) {
	if known.answered {
		toGuest = c.segment(of, true, tcpRst, known.acknowledged, 0)
	} else {
		toGuest = c.segment(of, true, tcpRst|tcpAck, 0, known.next)
	}
	return toGuest, c.segment(of, false, tcpRst|tcpAck, known.next, known.acknowledged)
}
