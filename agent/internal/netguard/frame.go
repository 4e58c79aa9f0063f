package netguard

import (
	"encoding/binary"
	"net"
)

const (
	ethernetSize = 14
	ipv4Size     = 20
	udpSize      = 8
	tcpSize      = 20
	icmpSize     = 8
	arpSize      = 28

	etherTypeIPv4 = 0x0800
	etherTypeARP  = 0x0806
	etherTypeIPv6 = 0x86dd

	protocolICMP = 1
	protocolTCP  = 6
	protocolUDP  = 17

	tcpFin = 0x01
	tcpSyn = 0x02
	tcpRst = 0x04
	tcpAck = 0x10

	icmpEchoReply   = 0
	icmpUnreachable = 3
	icmpEchoRequest = 8
	icmpExceeded    = 11

	dnsPort = 53
)

// conversation names one exchange of the guest with somebody. A ping has its identifier as port of the guest.
type conversation struct {
	remote     uint32
	guestPort  uint16
	remotePort uint16
	protocol   byte
}

// packet is an IPv4 packet that was understood whole.
type packet struct {
	conversation
	bytes []byte // From the IPv4 header to the end of the packet, without the frame's padding.
	// TCP alone.
	flags        byte
	sequence     uint32
	acknowledged uint32
	dataSize     int
	icmpType     byte // ICMP alone.
}

// opens tells of a segment with which passt opens a connection: SYN without ACK, whatever the other flags. It does
// for nothing else.
func (p *packet) opens() bool { return p.flags&(tcpSyn|tcpAck) == tcpSyn }

// next is the sequence number after the segment.
func (p *packet) next() uint32 {
	next := p.sequence + uint32(p.dataSize)
	if p.flags&tcpSyn != 0 {
		next++
	}
	if p.flags&tcpFin != 0 {
		next++
	}
	return next
}

// payload is what a UDP datagram carries.
func (p *packet) payload() []byte { return p.bytes[ipv4Size+udpSize:] }

// parseOutbound reads what the guest sent after its Ethernet header; false for what is not understood whole. Options
// are refused (source routes), fragments too: passt of 2023 reads ports out of any fragment.
func parseOutbound(bytes []byte) (packet, bool) {
	if len(bytes) < ipv4Size || bytes[0] != 0x45 || binary.BigEndian.Uint16(bytes[6:])&0x3fff != 0 {
		return packet{}, false
	}
	total := int(binary.BigEndian.Uint16(bytes[2:]))
	if total < ipv4Size || total > len(bytes) {
		return packet{}, false
	}
	p := packet{bytes: bytes[:total]}
	p.protocol, p.remote = bytes[9], binary.BigEndian.Uint32(bytes[16:])
	segment := bytes[ipv4Size:total]
	switch p.protocol {
	case protocolTCP:
		return p, p.readTCP(segment, false)
	case protocolUDP:
		if len(segment) < udpSize || int(binary.BigEndian.Uint16(segment[4:])) != len(segment) {
			return p, false
		}
		p.guestPort, p.remotePort = binary.BigEndian.Uint16(segment), binary.BigEndian.Uint16(segment[2:])
		return p, true
	case protocolICMP:
		if len(segment) < icmpSize {
			return p, false
		}
		p.icmpType = segment[0]
		if p.icmpType == icmpEchoRequest {
			p.guestPort = binary.BigEndian.Uint16(segment[4:])
		}
		return p, true
	}
	return p, true
}

// readTCP reads a segment of the guest, or one to the guest.
func (p *packet) readTCP(segment []byte, inbound bool) bool {
	if len(segment) < tcpSize {
		return false
	}
	header := int(segment[12]>>4) * 4
	if header < tcpSize || header > len(segment) {
		return false
	}
	p.guestPort, p.remotePort = binary.BigEndian.Uint16(segment), binary.BigEndian.Uint16(segment[2:])
	if inbound {
		p.guestPort, p.remotePort = p.remotePort, p.guestPort
	}
	p.sequence, p.acknowledged = binary.BigEndian.Uint32(segment[4:]), binary.BigEndian.Uint32(segment[8:])
	p.flags, p.dataSize = segment[13], len(segment)-header
	return true
}

// parseInbound reads what passt sent after its Ethernet header. A message about an earlier packet of the guest (an
// ICMP error) has that packet's conversation.
func parseInbound(bytes []byte, guest uint32) (packet, bool) {
	if len(bytes) < ipv4Size || bytes[0] != 0x45 || binary.BigEndian.Uint32(bytes[16:]) != guest {
		return packet{}, false
	}
	total := int(binary.BigEndian.Uint16(bytes[2:]))
	if total < ipv4Size || total > len(bytes) {
		return packet{}, false
	}
	p := packet{bytes: bytes[:total]}
	p.protocol, p.remote = bytes[9], binary.BigEndian.Uint32(bytes[12:])
	segment := bytes[ipv4Size:total]
	switch p.protocol {
	case protocolTCP:
		return p, p.readTCP(segment, true)
	case protocolUDP:
		if len(segment) < udpSize {
			return p, false
		}
		p.guestPort, p.remotePort = binary.BigEndian.Uint16(segment[2:]), binary.BigEndian.Uint16(segment)
		return p, true
	case protocolICMP:
		if len(segment) < icmpSize {
			return p, false
		}
		switch segment[0] {
		case icmpEchoReply:
			p.guestPort = binary.BigEndian.Uint16(segment[4:])
			return p, true
		case icmpUnreachable, icmpExceeded:
			return p, p.readQuoted(segment[icmpSize:], guest)
		}
	}
	return p, false
}

// readQuoted takes the conversation from the beginning of a packet of the guest's that an ICMP error quotes.
func (p *packet) readQuoted(quoted []byte, guest uint32) bool {
	if len(quoted) < ipv4Size+icmpSize || quoted[0] != 0x45 || binary.BigEndian.Uint32(quoted[12:]) != guest {
		return false
	}
	quotedPorts := quoted[ipv4Size:]
	p.conversation = conversation{remote: binary.BigEndian.Uint32(quoted[16:]), protocol: quoted[9]}
	switch p.protocol {
	case protocolUDP:
		p.guestPort, p.remotePort = binary.BigEndian.Uint16(quotedPorts), binary.BigEndian.Uint16(quotedPorts[2:])
		return true
	case protocolICMP:
		p.guestPort = binary.BigEndian.Uint16(quotedPorts[4:])
		return true
	}
	return false // One about TCP would end a connection that passt itself has.
}

func addressOf(ip net.IP) uint32 { return binary.BigEndian.Uint32(ip.To4()) }
