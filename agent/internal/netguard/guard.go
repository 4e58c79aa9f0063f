// Package netguard decides which Ethernet frames pass between a guest and passt, of which it runs two, and makes the
// frames that refuse the others.
//
// passt turns what a guest sends into sockets of the host, so a destination such as 127.0.0.1 or 0.0.0.0 would be
// the host itself. Nothing here trusts a frame: what is not understood whole is dropped.
package netguard

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"time"

	"smolvm.dev/agent/internal/egress"
)

const (
	// passt binds the guest's UDP source port on all addresses of the host, so a guest may only use ports that
	// Linux gives to outgoing sockets (ip(7), ip_local_port_range), and few of them at a time (sourcePortLimit). Host
	// services with a port up there, such as WireGuard's 51820 or Tailscale's 41641, are not protected from that.
	lowestUDPSource = 32768

	// refusalLimit bounds the refusing frames of one refusalWindow: a guest must not keep us busy with nothing else.
	refusalLimit  = 200
	refusalWindow = 100 * time.Millisecond
)

// Identity is who the guest is on its link.
type Identity struct {
	MAC     net.HardwareAddr
	Address net.IP
	Gateway net.IP
	DNS     net.IP // Where DNS is answered; nil for nowhere.
}

// Verdict says what becomes of a frame from the guest. The zero value drops it.
type Verdict struct {
	Forward bool
	Lane    Lane // Where it is forwarded to.
	// Question is a DNS question, in the frame's memory; From is whose.
	Question []byte
	From     conversation
	// Reply is a message for the guest, nil for none.
	Reply []byte
	// Ended is a connection that had to make room for this one.
	Ended *Ending
	of    *connection // that a forwarded segment belongs to
}

// Guard judges frames. It is safe for use by many goroutines.
type Guard struct {
	crafter
	dns   uint32
	rules *egress.Rules
	note  func(egress.Denial)
	now   func() time.Time
	limit limit // of the rate
	// toGuest and toPasst are where frames wait; nil where there is no limit.
	toGuest, toPasst *fairQueue

	mutex       sync.Mutex
	epoch       uint64
	hasNames    bool
	flows       flowTable
	connections connectionTable
	opens       allowance
	refusals    int // since `counting`
	counting    time.Time
}

// NewGuard judges by the rules, and notes what they refuse.
func NewGuard(id Identity, rules *egress.Rules, note func(egress.Denial)) *Guard {
	g := &Guard{rules: rules, note: note, now: time.Now, flows: newFlowTable(), connections: connectionTable{}}
	copy(g.guestMAC[:], id.MAC)
	g.gatewayMAC = [6]byte{2, 0, 0, 0, 0, 1} // Until passt has told its own.
	g.guest, g.gateway = addressOf(id.Address), addressOf(id.Gateway)
	if id.DNS != nil {
		g.dns = addressOf(id.DNS)
	}
	return g
}

// SetNames tells whether there is a passt of the names: then DNS is answered by TCP too.
func (g *Guard) SetNames(are bool) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.hasNames = are
}

// HasNames tells what SetNames told.
func (g *Guard) HasNames() bool {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return g.hasNames
}

func (g *Guard) setGatewayMAC(address [6]byte) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.gatewayMAC = address
}

// answer makes the message of a datagram that answers one of the guest's.
func (g *Guard) answer(from conversation, payload []byte) []byte {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return g.datagram(from, payload)
}

// Epoch changes when frames that were judged before must not be forwarded any more.
func (g *Guard) Epoch() uint64 {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return g.epoch
}

// isStale tells that a frame that waits must not go on any more.
func (g *Guard) isStale(w waiting) bool {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return g.epoch != w.epoch || w.of != nil && w.of.isEnded
}

// lost tells of frames of the guest that were to go to a passt, and did not: a SYN among them may come again.
func (g *Guard) lost(messages []byte) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	for len(messages) > 0 {
		end := lengthSize + int(binary.BigEndian.Uint32(messages))
		p, whole := parseOutbound(messages[lengthSize+ethernetSize : end])
		messages = messages[end:]
		if !whole || p.protocol != protocolTCP || !p.opens() {
			continue
		}
		if known := g.connections[p.conversation]; known != nil && known.first == p.sequence && !known.accepted {
			known.isLost = true
		}
	}
}

// Outbound judges a frame from the guest.
func (g *Guard) Outbound(frame []byte) Verdict {
	// What a clone sends under its template's addresses, before the agent has given it its own, needs no record.
	if len(frame) < ethernetSize || string(frame[6:12]) != string(g.guestMAC[:]) {
		return Verdict{}
	}
	body := frame[ethernetSize:]
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherTypeARP:
		return Verdict{Forward: g.isOwnARP(body), Lane: ToHost}
	case etherTypeIPv6:
		g.noteIPv6(body)
		return Verdict{} // passt runs with -4, and this holds even if it did not.
	case etherTypeIPv4:
	default:
		g.malformed()
		return Verdict{}
	}
	p, whole := parseOutbound(body)
	if !whole || binary.BigEndian.Uint32(p.bytes[12:]) != g.guest {
		g.malformed()
		return Verdict{}
	}
	verdict, denial := g.judge(&p)
	if denial != nil {
		g.note(*denial)
	}
	return verdict
}

func (g *Guard) isOwnARP(body []byte) bool {
	if len(body) < arpSize || binary.BigEndian.Uint64(body)>>16 != 0x000108000604 {
		return false
	}
	sender := binary.BigEndian.Uint32(body[14:])
	return string(body[8:14]) == string(g.guestMAC[:]) && (sender == g.guest || sender == 0)
}

func (g *Guard) judge(p *packet) (Verdict, *egress.Denial) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	switch {
	case p.protocol == protocolUDP && g.isDNS(p):
		return Verdict{Question: p.payload(), From: p.conversation}, nil
	case p.protocol == protocolTCP:
		return g.judgeTCP(p)
	case p.protocol == protocolUDP, p.name() == egress.ProtocolICMP:
		return g.judgeDatagram(p)
	case p.protocol == protocolICMP && p.icmpType == icmpUnreachable:
		return Verdict{}, nil // What any system says to an answer that came too late.
	}
	_, denial := g.decide(p)
	return Verdict{}, denial
}

func (g *Guard) isDNS(p *packet) bool {
	return g.dns != 0 && p.remote == g.dns && p.remotePort == dnsPort
}

// decide asks the rules where a packet may go.
func (g *Guard) decide(p *packet) (Lane, *egress.Denial) {
	if p.protocol == protocolTCP && g.hasNames && g.isDNS(p) {
		return ToNames, nil
	}
	protocol := p.name()
	decision := g.rules.Decide(protocol, toAddr(p.remote), p.remotePort)
	switch {
	case decision.Action == egress.Direct:
		return ToHost, nil
	case decision.Action == egress.ByName && p.protocol == protocolTCP:
		return ToNames, nil
	}
	return 0, &egress.Denial{Protocol: protocol, Address: toAddr(p.remote), Port: p.remotePort, Rule: decision.Rule,
		Allow: decision.Allow}
}

// judgeTCP asks the rules for what opens a connection; everything else goes where its connection goes.
func (g *Guard) judgeTCP(p *packet) (verdict Verdict, denial *egress.Denial) {
	now := g.now()
	known := g.connections[p.conversation]
	if known != nil && known.isRepeated(p, now) {
		return Verdict{}, nil
	}
	if p.opens() {
		lane, denial := g.decide(p)
		if denial != nil {
			return Verdict{Reply: g.refusal(p, now)}, denial
		}
		if !g.opens.take(now) {
			return Verdict{}, nil // The guest tries again, later each time.
		}
		if known == nil {
			verdict.Ended = g.makeRoom()
		}
		// Also in the place of an earlier one of the same ports.
		known = &connection{lane: lane, first: p.sequence, next: p.sequence, scale: p.windowScale(), opened: now}
		g.connections[p.conversation] = known
	}
	if known == nil {
		return Verdict{Reply: g.refusal(p, now)}, nil // One that was ended, or of an earlier netguard.
	}
	g.connections.sent(p, known, now)
	if p.flags&tcpSyn == 0 {
		p.limitWindow(g.limit.window(known.way, g.toGuest.crowd()), known.scale)
	}
	verdict.Forward, verdict.Lane, verdict.of = true, known.lane, known
	return verdict, nil
}

func (g *Guard) judgeDatagram(p *packet) (Verdict, *egress.Denial) {
	now := g.now()
	if _, denial := g.decide(p); denial != nil {
		return Verdict{Reply: g.refusal(p, now)}, denial
	}
	if p.protocol == protocolUDP && p.guestPort < lowestUDPSource || !g.flows.note(p.conversation, now) {
		return Verdict{Reply: g.refusal(p, now)}, &egress.Denial{Protocol: p.name(), Address: toAddr(p.remote),
			Port: p.remotePort, Rule: egress.RuleMalformed}
	}
	return Verdict{Forward: true, Lane: ToHost}, nil
}

// refusal makes the frame that tells the guest; nil when there were too many.
func (g *Guard) refusal(p *packet, now time.Time) []byte {
	if now.Sub(g.counting) >= refusalWindow {
		g.counting, g.refusals = now, 0
	}
	if g.refusals >= refusalLimit {
		return nil
	}
	g.refusals++
	if p.protocol == protocolTCP {
		return g.reset(p)
	}
	if isMulticast(p.remote) {
		return nil // RFC 1122, 3.2.2: no ICMP error about what went to many.
	}
	return g.prohibited(p)
}

// Inbound tells whether a frame from a passt goes on to the guest. Only answers do: passt's sockets take datagrams
// from anybody, which would make the guest a UDP server on the host's addresses.
func (g *Guard) Inbound(frame []byte, lane Lane) bool {
	if len(frame) < ethernetSize {
		return false
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherTypeARP:
		return lane == ToHost
	case etherTypeIPv4:
	default:
		return false
	}
	p, whole := parseInbound(frame[ethernetSize:], g.guest)
	if !whole {
		return false
	}
	g.mutex.Lock()
	defer g.mutex.Unlock()
	now := g.now()
	if p.protocol == protocolTCP {
		return g.connections.received(&p, lane, now, func(way time.Duration) int {
			return g.limit.remoteWindow(way, g.toPasst.crowd())
		})
	}
	return lane == ToHost && g.flows.has(p.conversation, now)
}

func (g *Guard) malformed() {
	g.note(egress.Denial{Protocol: egress.ProtocolOther, Rule: egress.RuleMalformed})
}

// noteIPv6 records where a packet went. What goes to a multicast address is any system's chatter (router solicitations).
func (g *Guard) noteIPv6(body []byte) {
	const destination, headerSize, multicast = 24, 40, 0xff
	if len(body) < headerSize || body[destination] == multicast {
		return
	}
	var address [16]byte
	copy(address[:], body[destination:])
	g.note(egress.Denial{Protocol: egress.ProtocolIPv6, Address: netip.AddrFrom16(address), Rule: egress.RuleIPv6})
}

// name is what the rules call the packet's protocol.
func (p *packet) name() egress.Protocol {
	switch {
	case p.protocol == protocolTCP:
		return egress.ProtocolTCP
	case p.protocol == protocolUDP:
		return egress.ProtocolUDP
	case p.protocol == protocolICMP && p.icmpType == icmpEchoRequest:
		return egress.ProtocolICMP
	}
	return egress.ProtocolOther
}

func toAddr(address uint32) netip.Addr {
	var bytes [4]byte
	binary.BigEndian.PutUint32(bytes[:], address)
	return netip.AddrFrom4(bytes)
}

// isMulticast tells of an address from 224.0.0.0 on: many machines, reserved, or broadcast.
func isMulticast(address uint32) bool { return address >= 0xe0000000 }
