package netguard

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"time"
)

const (
	// queriesAtOnce bounds the host sockets a guest can hold by asking.
	queriesAtOnce = 64
	// queryLimit is the longest question taken, in bytes.
	queryLimit = 1232
	// answerLimit is the longest answer given, in bytes: the guest's MTU allows a long datagram.
	answerLimit = 16 * 1024
	// perResolver bounds the wait for one resolver; the next one is asked after it.
	perResolver = 3 * time.Second
)

// Resolver answers the guest's UDP DNS questions by asking the host's resolvers, which may well be on the host's
// loopback: only well-formed questions go out, only to them, and no other port is ever touched.
type Resolver struct {
	servers []string // host:port
	out     io.Writer
	slots   chan struct{}
}

// NewResolver sends its answers, as frames, to out.
func NewResolver(servers []string, out io.Writer) *Resolver {
	return &Resolver{servers: servers, out: out, slots: make(chan struct{}, queriesAtOnce)}
}

// Handle takes a frame that the policy judged Resolve. It copies what it needs, never blocks, and drops the question
// when too many are under way.
func (r *Resolver) Handle(frame []byte) {
	packet := frame[ethernetSize:]
	total := int(binary.BigEndian.Uint16(packet[2:]))
	question := packet[ipv4Size+udpSize : total]
	if !isQuestion(question) {
		return
	}
	select {
	case r.slots <- struct{}{}:
	default:
		return
	}
	copied := append([]byte(nil), frame[:ethernetSize+total]...)
	go func() {
		defer func() { <-r.slots }()
		question := copied[ethernetSize+ipv4Size+udpSize:]
		if answer := r.ask(question); answer != nil {
			_, _ = r.out.Write(replyFrame(copied, answer))
		}
	}()
}

// isQuestion accepts a standard query with one question and nothing pretending to be an answer (RFC 1035, 4.1.1).
func isQuestion(message []byte) bool {
	return len(message) >= 17 && len(message) <= queryLimit &&
		message[2]&0xf8 == 0 && binary.BigEndian.Uint16(message[4:]) == 1 && binary.BigEndian.Uint32(message[6:]) == 0
}

func (r *Resolver) ask(question []byte) []byte {
	for _, server := range r.servers {
		answer := exchange("udp", server, question)
		if answer != nil && answer[2]&0x02 != 0 {
			// Truncated. The guest cannot ask again by TCP, so it is done here, and the long answer goes by UDP.
			if whole := exchange("tcp", server, question); whole != nil {
				answer = whole
			}
		}
		if answer != nil {
			return answer
		}
	}
	return nil
}

// exchange asks one server; nil when no matching answer came.
func exchange(network, server string, question []byte) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), perResolver)
	defer cancel()
	connection, err := (&net.Dialer{}).DialContext(ctx, network, server)
	if err != nil {
		return nil
	}
	defer connection.Close()
	deadline, _ := ctx.Deadline()
	_ = connection.SetDeadline(deadline)
	if network == "tcp" {
		return exchangeTCP(connection, question)
	}
	if _, err := connection.Write(question); err != nil {
		return nil
	}
	buffer := make([]byte, answerLimit)
	for {
		n, err := connection.Read(buffer)
		if err != nil {
			return nil
		}
		if isAnswer(buffer[:n], question) {
			return buffer[:n]
		}
	}
}

func exchangeTCP(connection net.Conn, question []byte) []byte {
	message := make([]byte, 2, 2+len(question))
	binary.BigEndian.PutUint16(message, uint16(len(question)))
	if _, err := connection.Write(append(message, question...)); err != nil {
		return nil
	}
	if _, err := io.ReadFull(connection, message[:2]); err != nil {
		return nil
	}
	answer := make([]byte, binary.BigEndian.Uint16(message))
	if _, err := io.ReadFull(connection, answer); err != nil || len(answer) > answerLimit {
		return nil
	}
	if !isAnswer(answer, question) {
		return nil
	}
	return answer
}

func isAnswer(message, question []byte) bool {
	return len(message) >= 12 && message[0] == question[0] && message[1] == question[1] && message[2]&0x80 != 0
}

// replyFrame turns the guest's own frame round: addresses and ports swapped, the payload replaced.
func replyFrame(request, payload []byte) []byte {
	size := ethernetSize + ipv4Size + udpSize + len(payload)
	message := make([]byte, lengthSize+size)
	binary.BigEndian.PutUint32(message, uint32(size))
	frame := message[lengthSize:]
	copy(frame, request[6:12])
	copy(frame[6:], request[:6])
	binary.BigEndian.PutUint16(frame[12:], etherTypeIPv4)
	if frame[6]&1 != 0 { // The question went to a broadcast address: no frame comes from one.
		copy(frame[6:12], []byte{0x02, 0, 0, 0, 0, 0x53})
	}

	asked, packet := request[ethernetSize:], frame[ethernetSize:]
	packet[0] = 0x45
	binary.BigEndian.PutUint16(packet[2:], uint16(size-ethernetSize))
	packet[8], packet[9] = 64, protocolUDP
	copy(packet[12:16], asked[16:20])
	copy(packet[16:20], asked[12:16])
	binary.BigEndian.PutUint16(packet[10:], ^sum(0, packet[:ipv4Size]))

	datagram := packet[ipv4Size:]
	copy(datagram[0:2], asked[ipv4Size+2:ipv4Size+4])
	copy(datagram[2:4], asked[ipv4Size:ipv4Size+2])
	binary.BigEndian.PutUint16(datagram[4:], uint16(udpSize+len(payload)))
	copy(datagram[udpSize:], payload)
	pseudo := uint32(sum(protocolUDP+uint32(len(datagram)), packet[12:20]))
	check := ^sum(pseudo, datagram)
	if check == 0 {
		check = 0xffff // Zero means "no checksum" (RFC 768).
	}
	binary.BigEndian.PutUint16(datagram[6:], check)
	return message
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
