package netguard

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"smolvm.dev/agent/internal/egress"
)

const (
	guest   = "10.0.2.15"
	gateway = "10.0.2.2"
	dns     = "10.0.2.3"
)

var guestMAC = net.HardwareAddr{2, 0, 0, 0, 0, 5}

// openPolicy and allowPolicy are what the tests judge by.
const (
	openPolicy  = `{"mode":"open"}`
	offPolicy   = `{"mode":"off"}`
	allowPolicy = `{"mode":"allow","names":[{"name":"api.example.com","port":443},{"name":"*.example.org","port":80}],
		"networks":[{"cidr":"203.0.113.0/24"},{"cidr":"10.9.0.0/16"},{"cidr":"198.51.0.0/16","port":25}]}`
)

func policy(t testing.TB, text string) *egress.Policy {
	t.Helper()
	parsed, err := egress.ParsePolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// tested is a guard with a clock and a record of what it noted.
type tested struct {
	*Guard
	rules  *egress.Rules
	noted  []egress.Denial
	at     time.Time
	parsed func(string) *egress.Policy
}

func newTested(t testing.TB, text string) *tested {
	t.Helper()
	host := egress.FixedHost(netip.MustParsePrefix("198.51.100.2/32"), netip.MustParsePrefix("10.9.0.2/32"),
		netip.MustParsePrefix("198.19.4.0/22"))
	it := &tested{at: time.Unix(1000, 0), parsed: func(text string) *egress.Policy { return policy(t, text) }}
	it.rules = egress.NewRules(policy(t, text), host, netip.MustParsePrefix("10.0.2.0/24"))
	id := Identity{MAC: guestMAC, Address: net.ParseIP(guest), Gateway: net.ParseIP(gateway), DNS: net.ParseIP(dns)}
	it.Guard = NewGuard(id, it.rules, func(d egress.Denial) { it.noted = append(it.noted, d) })
	it.now = func() time.Time { return it.at }
	return it
}

// sends judges a frame and says in a word what became of it.
func (it *tested) sends(frame []byte) string {
	it.at = it.at.Add(refusalWindow) // No test but one is about too many refusals.
	return outcome(it.Outbound(frame))
}

func outcome(v Verdict) string {
	switch {
	case v.Forward && v.Lane == ToHost:
		return "host"
	case v.Forward:
		return "names"
	case v.Question != nil:
		return "resolve"
	case v.Reply == nil:
		return "drop"
	case v.Reply[lengthSize+23] == protocolTCP:
		return "rst"
	}
	return "icmp"
}

// frame builds an IPv4 frame from the guest's MAC address.
func frame(protocol byte, source, destination string, body []byte) []byte {
	out := make([]byte, ethernetSize+ipv4Size, ethernetSize+ipv4Size+len(body))
	copy(out[6:], guestMAC)
	binary.BigEndian.PutUint16(out[12:], etherTypeIPv4)
	packet := out[ethernetSize:]
	packet[0], packet[8], packet[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(packet[2:], uint16(ipv4Size+len(body)))
	copy(packet[12:], net.ParseIP(source).To4())
	copy(packet[16:], net.ParseIP(destination).To4())
	return append(out, body...)
}

func tcp(source, port uint16, flags byte) []byte {
	segment := make([]byte, tcpSize)
	binary.BigEndian.PutUint16(segment, source)
	binary.BigEndian.PutUint16(segment[2:], port)
	binary.BigEndian.PutUint32(segment[4:], 1000)
	binary.BigEndian.PutUint32(segment[8:], 2000)
	segment[12], segment[13] = 5<<4, flags
	return segment
}

func udp(source, port uint16, payload string) []byte {
	datagram := make([]byte, udpSize)
	binary.BigEndian.PutUint16(datagram, source)
	binary.BigEndian.PutUint16(datagram[2:], port)
	binary.BigEndian.PutUint16(datagram[4:], uint16(udpSize+len(payload)))
	return append(datagram, payload...)
}

func echo(kind byte, id byte) []byte { return []byte{kind, 0, 0, 0, 0, id, 0, 1} }

func syn(destination string, port uint16) []byte {
	return frame(protocolTCP, guest, destination, tcp(40000, port, tcpSyn))
}

// words are the addresses, ports, flags and numbers of a crafted segment, whose checksums are verified.
func segmentOf(t *testing.T, message []byte) (from, to string, fromPort, toPort uint16, flags byte, sequence, acknowledged uint32) {
	t.Helper()
	if len(message) != lengthSize+ethernetSize+ipv4Size+tcpSize ||
		int(binary.BigEndian.Uint32(message)) != len(message)-lengthSize {
		t.Fatalf("length of % x", message)
	}
	packet := message[lengthSize+ethernetSize:]
	segment := packet[ipv4Size:]
	pseudo := uint32(sum(protocolTCP+tcpSize, packet[12:20]))
	if sum(0, packet[:ipv4Size]) != 0xffff || sum(pseudo, segment) != 0xffff {
		t.Fatalf("checksums of % x", message)
	}
	return net.IP(packet[12:16]).String(), net.IP(packet[16:20]).String(), binary.BigEndian.Uint16(segment),
		binary.BigEndian.Uint16(segment[2:]), segment[13], binary.BigEndian.Uint32(segment[4:]), binary.BigEndian.Uint32(segment[8:])
}

func message(frame []byte) []byte {
	out := make([]byte, lengthSize, lengthSize+len(frame))
	binary.BigEndian.PutUint32(out, uint32(len(frame)))
	return append(out, frame...)
}
