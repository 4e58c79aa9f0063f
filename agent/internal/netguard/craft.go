package netguard

import "encoding/binary"

const (
	// ttl is what a frame of ours begins with; the guest is one hop away.
	ttl = 64
	// icmpProhibited is the code "communication administratively prohibited" (RFC 1812, 5.2.7.1).
	icmpProhibited = 13
	// quotedSize is what an ICMP error quotes: the IPv4 header and 8 bytes (RFC 792).
	quotedSize = ipv4Size + 8
)

// crafter makes the frames that netguard itself sends. Each comes as a message: 4 bytes of length, then the frame.
type crafter struct {
	guestMAC   [6]byte
	gatewayMAC [6]byte // What frames to the guest come from.
	guest      uint32
	gateway    uint32
}

// message begins a frame; `body` is room for what follows the IPv4 header.
func (c *crafter) message(from, to uint32, protocol byte, bodySize int) (message, packet, body []byte) {
	size := ethernetSize + ipv4Size + bodySize
	message = make([]byte, lengthSize+size)
	binary.BigEndian.PutUint32(message, uint32(size))
	frame := message[lengthSize:]
	target, source := &c.guestMAC, &c.gatewayMAC
	if from == c.guest {
		target, source = source, target
	}
	copy(frame, target[:])
	copy(frame[6:], source[:])
	binary.BigEndian.PutUint16(frame[12:], etherTypeIPv4)
	packet = frame[ethernetSize:]
	packet[0] = 0x45
	binary.BigEndian.PutUint16(packet[2:], uint16(ipv4Size+bodySize))
	packet[8], packet[9] = ttl, protocol
	binary.BigEndian.PutUint32(packet[12:], from)
	binary.BigEndian.PutUint32(packet[16:], to)
	binary.BigEndian.PutUint16(packet[10:], ^sum(0, packet[:ipv4Size]))
	return message, packet, packet[ipv4Size:]
}

// segment makes a TCP segment without data, from the remote side to the guest or the other way round.
func (c *crafter) segment(of conversation, toGuest bool, flags byte, sequence, acknowledged uint32) []byte {
	from, to, fromPort, toPort := c.guest, of.remote, of.guestPort, of.remotePort
	if toGuest {
		from, to, fromPort, toPort = to, from, toPort, fromPort
	}
	message, packet, segment := c.message(from, to, protocolTCP, tcpSize)
	binary.BigEndian.PutUint16(segment, fromPort)
	binary.BigEndian.PutUint16(segment[2:], toPort)
	binary.BigEndian.PutUint32(segment[4:], sequence)
	binary.BigEndian.PutUint32(segment[8:], acknowledged)
	segment[12], segment[13] = tcpSize/4<<4, flags
	binary.BigEndian.PutUint16(segment[16:], transportSum(packet, segment))
	return message
}

// reset answers a segment of the guest as a host does that knows no such connection (RFC 9293, 3.10.7.1); nil where
// nothing is to be answered.
func (c *crafter) reset(p *packet) []byte {
	switch {
	case p.flags&tcpRst != 0:
		return nil
	case p.flags&tcpAck != 0:
		return c.segment(p.conversation, true, tcpRst, p.acknowledged, 0)
	}
	return c.segment(p.conversation, true, tcpRst|tcpAck, 0, p.next())
}

// prohibited answers a packet of the guest with the ICMP error that says so.
func (c *crafter) prohibited(p *packet) []byte {
	quoted := p.bytes
	if len(quoted) > quotedSize {
		quoted = quoted[:quotedSize]
	}
	message, _, body := c.message(c.gateway, c.guest, protocolICMP, icmpSize+len(quoted))
	body[0], body[1] = icmpUnreachable, icmpProhibited
	copy(body[icmpSize:], quoted)
	binary.BigEndian.PutUint16(body[2:], ^sum(0, body))
	return message
}

// datagram makes a UDP datagram to the guest, in answer to one of its own.
func (c *crafter) datagram(of conversation, payload []byte) []byte {
	message, packet, body := c.message(of.remote, c.guest, protocolUDP, udpSize+len(payload))
	binary.BigEndian.PutUint16(body, of.remotePort)
	binary.BigEndian.PutUint16(body[2:], of.guestPort)
	binary.BigEndian.PutUint16(body[4:], uint16(len(body)))
	copy(body[udpSize:], payload)
	check := transportSum(packet, body)
	if check == 0 {
		check = 0xffff // Zero means "no checksum" (RFC 768).
	}
	binary.BigEndian.PutUint16(body[6:], check)
	return message
}

// arpRequest asks who has the gateway's address.
func (c *crafter) arpRequest() []byte {
	message := make([]byte, lengthSize+ethernetSize+arpSize)
	binary.BigEndian.PutUint32(message, ethernetSize+arpSize)
	frame := message[lengthSize:]
	copy(frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	copy(frame[6:], c.guestMAC[:])
	binary.BigEndian.PutUint16(frame[12:], etherTypeARP)
	body := frame[ethernetSize:]
	copy(body, []byte{0, 1, 8, 0, 6, 4, 0, 1})
	copy(body[8:], c.guestMAC[:])
	binary.BigEndian.PutUint32(body[14:], c.guest)
	binary.BigEndian.PutUint32(body[24:], c.gateway)
	return message
}

// transportSum is the checksum of a TCP segment or UDP datagram whose own checksum is zero yet.
func transportSum(packet, body []byte) uint16 {
	pseudo := uint32(sum(uint32(packet[9])+uint32(len(body)), packet[12:20]))
	return ^sum(pseudo, body)
}

// sum is the Internet checksum's sum, not yet inverted (RFC 1071).
func sum(start uint32, data []byte) uint16 {
	total := start
	for ; len(data) >= 2; data = data[2:] {
		total += uint32(data[0])<<8 | uint32(data[1])
	}
	if len(data) == 1 {
		total += uint32(data[0]) << 8
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}
