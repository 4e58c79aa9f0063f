// Package netguard decides which Ethernet frames pass between a guest and passt, and answers the guest's DNS.
//
// passt turns what a guest sends into sockets of the host, so a destination such as 127.0.0.1 or 0.0.0.0 would be
// the host itself. Nothing here trusts a frame: what is not understood whole is dropped.
package netguard

import (
	"encoding/binary"
	"net"
	"sync/atomic"
)

// Verdict says what becomes of a frame from the guest.
type Verdict int

const (
	// Drop discards the frame.
	Drop Verdict = iota
	// Pass hands the frame to passt.
	Pass
	// Resolve hands the frame's UDP payload to the resolver.
	Resolve
)

const (
	ethernetSize = 14
	ipv4Size     = 20
	udpSize      = 8
	tcpSize      = 20
	arpSize      = 28

	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806

	protocolICMP = 1
	protocolTCP  = 6
	protocolUDP  = 17

	tcpSyn = 0x02
	tcpAck = 0x10

	icmpEchoRequest = 8
	dnsPort         = 53

	// passt binds the guest's UDP source port on all addresses of the host, so a guest may only use ports that
	// Linux gives to outgoing sockets (ip(7), ip_local_port_range), and few of them at a time (sourcePortLimit). Host
	// services with a port up there, such as WireGuard's 51820 or Tailscale's 41641, are not protected from that.
	lowestUDPSource = 32768
)

// Range is an IPv4 network.
type Range struct{ base, mask uint32 }

// Config describes the guest and what it may reach.
type Config struct {
	MAC      net.HardwareAddr
	Address  net.IP
	Network  *net.IPNet
	DNS      net.IP // Answered here; nil for none.
	Forwards []uint16
	Allow    []*net.IPNet // Exceptions from Deny.
	Deny     []*net.IPNet
}

// Policy is immutable but for the host's own addresses and the table of UDP flows.
type Policy struct {
	mac      [6]byte
	address  uint32
	network  Range
	dns      uint32
	forwards map[uint16]bool
	allow    []Range
	deny     []Range
	host     atomic.Value // hostNetworks
	flows    *flowTable
}

// hostNetworks is what the host answers to itself: single addresses, and whole ranges.
type hostNetworks struct {
	addresses map[uint32]bool
	ranges    []Range
}

func (h hostNetworks) hold(address uint32) bool {
	return h.addresses[address] || within(h.ranges, address)
}

// neverReached are destinations that mean the host itself, its link, or no single machine. No option opens them.
var neverReached = ranges("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")

// deniedAnyway are destinations that serve the host alone, whatever -deny says: Azure's WireServer hands out the
// machine's configuration and certificates. -allow opens them.
var deniedAnyway = ranges("168.63.129.16/32")

// NewPolicy builds the rules for one guest.
func NewPolicy(config Config) *Policy {
	policy := &Policy{
		address:  addressOf(config.Address),
		network:  rangeOf(config.Network),
		forwards: map[uint16]bool{},
		deny:     append([]Range(nil), deniedAnyway...),
		flows:    newFlowTable(),
	}
	copy(policy.mac[:], config.MAC)
	if config.DNS != nil {
		policy.dns = addressOf(config.DNS)
	}
	for _, port := range config.Forwards {
		policy.forwards[port] = true
	}
	for _, network := range config.Allow {
		policy.allow = append(policy.allow, rangeOf(network))
	}
	for _, network := range config.Deny {
		policy.deny = append(policy.deny, rangeOf(network))
	}
	policy.SetHostNetworks(nil)
	return policy
}

// SetHostNetworks replaces the addresses and ranges that lead to the host itself and therefore are never reached.
func (p *Policy) SetHostNetworks(networks []*net.IPNet) {
	own := hostNetworks{addresses: map[uint32]bool{}}
	for _, network := range networks {
		if network.IP.To4() == nil || len(network.Mask) != net.IPv4len {
			continue
		}
		if r := rangeOf(network); r.mask == ^uint32(0) {
			own.addresses[r.base] = true
		} else {
			own.ranges = append(own.ranges, r)
		}
	}
	p.host.Store(own)
}

// Outbound judges a frame from the guest.
func (p *Policy) Outbound(frame []byte) Verdict {
	if len(frame) < ethernetSize || string(frame[6:12]) != string(p.mac[:]) {
		return Drop
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherTypeARP:
		return p.outboundARP(frame[ethernetSize:])
	case etherTypeIPv4:
		return p.outboundIPv4(frame[ethernetSize:])
	}
	return Drop // IPv6 is off: passt runs with -4, and this holds even if it did not.
}

func (p *Policy) outboundARP(body []byte) Verdict {
	if len(body) < arpSize || binary.BigEndian.Uint64(body)>>16 != 0x000108000604 {
		return Drop
	}
	sender := binary.BigEndian.Uint32(body[14:])
	if string(body[8:14]) != string(p.mac[:]) || (sender != p.address && sender != 0) {
		return Drop
	}
	return Pass
}

func (p *Policy) outboundIPv4(packet []byte) Verdict {
	// Options are refused (source routes), fragments too: passt of 2023 reads ports out of any fragment.
	if len(packet) < ipv4Size || packet[0] != 0x45 || binary.BigEndian.Uint16(packet[6:])&0x3fff != 0 {
		return Drop
	}
	total := int(binary.BigEndian.Uint16(packet[2:]))
	if total < ipv4Size || total > len(packet) || binary.BigEndian.Uint32(packet[12:]) != p.address {
		return Drop
	}
	destination := binary.BigEndian.Uint32(packet[16:])
	if within(neverReached, destination) {
		return Drop
	}
	segment := packet[ipv4Size:total]
	switch packet[9] {
	case protocolTCP:
		return p.outboundTCP(segment, destination)
	case protocolUDP:
		return p.outboundUDP(segment, destination)
	case protocolICMP:
		if len(segment) >= 8 && segment[0] == icmpEchoRequest && p.reaches(destination) {
			return Pass
		}
	}
	return Drop
}

func (p *Policy) outboundTCP(segment []byte, destination uint32) Verdict {
	if len(segment) < tcpSize || int(segment[12]>>4)*4 < tcpSize || int(segment[12]>>4)*4 > len(segment) {
		return Drop
	}
	// passt opens a connection for SYN without ACK, whatever the other flags, and for nothing else. So all the rest
	// of a forwarded port's connections may go back to where they came from, be it the host or a private network.
	opens := segment[13]&(tcpSyn|tcpAck) == tcpSyn
	if !opens && p.forwards[binary.BigEndian.Uint16(segment)] {
		return Pass
	}
	if p.reaches(destination) {
		return Pass
	}
	return Drop
}

func (p *Policy) outboundUDP(segment []byte, destination uint32) Verdict {
	if len(segment) < udpSize || int(binary.BigEndian.Uint16(segment[4:])) != len(segment) {
		return Drop
	}
	source, port := binary.BigEndian.Uint16(segment), binary.BigEndian.Uint16(segment[2:])
	if p.dns != 0 && destination == p.dns {
		if port == dnsPort {
			return Resolve
		}
		return Drop
	}
	if source < lowestUDPSource || !p.reaches(destination) {
		return Drop
	}
	if !p.flows.note(flow{guestPort: source, remote: destination, remotePort: port}) {
		return Drop
	}
	return Pass
}

// reaches tells whether the guest may begin a conversation with an address.
func (p *Policy) reaches(destination uint32) bool {
	if p.host.Load().(hostNetworks).hold(destination) || p.network.holds(destination) {
		return false
	}
	return within(p.allow, destination) || !within(p.deny, destination)
}

// Inbound tells whether a frame from passt goes on to the guest. UDP does only as an answer: passt's sockets take
// datagrams from anybody, which would make the guest a UDP server on the host's addresses.
func (p *Policy) Inbound(frame []byte) bool {
	if len(frame) < ethernetSize {
		return false
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherTypeARP:
		return true
	case etherTypeIPv4:
	default:
		return false
	}
	packet := frame[ethernetSize:]
	if len(packet) < ipv4Size || packet[0]>>4 != 4 {
		return false
	}
	if packet[9] != protocolUDP {
		return true
	}
	header := int(packet[0]&15) * 4
	if header < ipv4Size || len(packet) < header+udpSize {
		return false
	}
	return p.flows.has(flow{
		guestPort:  binary.BigEndian.Uint16(packet[header+2:]),
		remote:     binary.BigEndian.Uint32(packet[12:]),
		remotePort: binary.BigEndian.Uint16(packet[header:]),
	})
}

func (r Range) holds(address uint32) bool { return address&r.mask == r.base }

func within(list []Range, address uint32) bool {
	for _, r := range list {
		if r.holds(address) {
			return true
		}
	}
	return false
}

func addressOf(ip net.IP) uint32 { return binary.BigEndian.Uint32(ip.To4()) }

func rangeOf(network *net.IPNet) Range {
	mask := binary.BigEndian.Uint32(network.Mask)
	return Range{base: addressOf(network.IP) & mask, mask: mask}
}

func ranges(texts ...string) []Range {
	list := make([]Range, len(texts))
	for i, text := range texts {
		_, network, err := net.ParseCIDR(text)
		if err != nil {
			panic(err)
		}
		list[i] = rangeOf(network)
	}
	return list
}
