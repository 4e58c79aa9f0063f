package netguard

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"reflect"
	"strings"
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

func TestDestinations(t *testing.T) {
	for destination, passes := range map[string]bool{
		"203.0.113.7": true, "1.1.1.1": true, "198.51.100.1": true, "168.63.129.17": true,
		"127.0.0.1": false, "127.255.255.255": false, "0.0.0.0": false, "0.1.2.3": false, "169.254.169.254": false,
		"224.0.0.1": false, "240.0.0.1": false, "255.255.255.255": false, // no single machine
		"198.51.100.2": false, "10.9.0.2": false, "198.19.4.0": false, "198.19.7.255": false, // the host
		"168.63.129.16": false, "10.77.0.1": false, "192.168.1.1": false, "172.16.0.1": false, "100.64.0.1": false, // private
		gateway: false, "10.0.2.15": false, "10.0.2.16": false, "10.0.2.255": false, // the guests' network
	} {
		it := newTested(t, openPolicy)
		want := map[bool][3]string{true: {"host", "host", "host"}, false: {"rst", "icmp", "icmp"}}[passes]
		if net.ParseIP(destination).To4()[0] >= 224 {
			want[1], want[2] = "drop", "drop"
		}
		got := [3]string{it.sends(syn(destination, 80)),
			it.sends(frame(protocolUDP, guest, destination, udp(40000, 80, "x"))),
			it.sends(frame(protocolICMP, guest, destination, echo(icmpEchoRequest, 7)))}
		if got != want || len(it.noted) != map[bool]int{true: 0, false: 3}[passes] {
			t.Errorf("%s: got %v, want %v; %d noted", destination, got, want, len(it.noted))
		}
	}
}

func TestAPolicyOfEntries(t *testing.T) {
	it := newTested(t, allowPolicy)
	for _, c := range []struct {
		frame []byte
		want  string
		rule  egress.Rule
	}{
		{syn("203.0.113.7", 8080), "host", ""},
		{syn("203.0.113.7", 443), "host", ""}, // a network goes before a name
		{syn("1.1.1.1", 443), "names", ""},
		{syn("1.1.1.1", 80), "names", ""},
		{syn("1.1.1.1", 22), "rst", egress.RuleNotAllowed},
		{syn("198.51.7.7", 25), "host", ""},
		{syn("198.51.7.7", 26), "rst", egress.RuleNotAllowed},
		{syn("10.9.0.1", 443), "host", ""},
		{syn("10.9.0.2", 443), "rst", egress.RuleHost},
		{syn("10.8.0.1", 443), "rst", egress.RulePrivate},
		{syn("127.0.0.1", 443), "rst", egress.RuleNever},
		{frame(protocolUDP, guest, "1.1.1.1", udp(40000, 443, "quic")), "icmp", egress.RuleNotAllowed},
		{frame(protocolUDP, guest, "203.0.113.7", udp(40000, 443, "quic")), "host", ""},
		{frame(protocolICMP, guest, "1.1.1.1", echo(icmpEchoRequest, 1)), "icmp", egress.RuleNotAllowed},
		{frame(protocolICMP, guest, "203.0.113.7", echo(icmpEchoRequest, 1)), "host", ""},
		{frame(47, guest, "203.0.113.7", []byte("gre")), "drop", egress.RuleNotAllowed},
	} {
		it.noted = nil
		if got := it.sends(c.frame); got != c.want || len(it.noted) != map[bool]int{true: 0, false: 1}[c.rule == ""] {
			t.Errorf("% x: got %s, want %s; noted %v", c.frame[30:38], got, c.want, it.noted)
		} else if c.rule != "" && it.noted[0].Rule != c.rule {
			t.Errorf("% x: rule %q, want %q", c.frame[30:38], it.noted[0].Rule, c.rule)
		}
	}
	it.noted = nil
	it.sends(syn("1.1.1.1", 22))
	want := egress.Denial{Protocol: egress.ProtocolTCP, Address: netip.MustParseAddr("1.1.1.1"), Port: 22,
		Rule: egress.RuleNotAllowed, Allow: "1.1.1.1:22"}
	if !reflect.DeepEqual(it.noted, []egress.Denial{want}) {
		t.Errorf("noted %+v", it.noted)
	}
}

func TestNothingLeavesWhenOff(t *testing.T) {
	it := newTested(t, offPolicy)
	for name, f := range map[string][]byte{
		"tcp": syn("1.1.1.1", 443), "udp": frame(protocolUDP, guest, "1.1.1.1", udp(40000, 53, "x")),
		"ping": frame(protocolICMP, guest, "1.1.1.1", echo(icmpEchoRequest, 1)), "esp": frame(50, guest, "1.1.1.1", nil),
	} {
		if v := it.Outbound(f); v.Forward {
			t.Errorf("%s passed", name)
		}
	}
}

// Only what opens a connection is judged by the rules; the rest must belong to one.
func TestSegmentsBelongToAConnection(t *testing.T) {
	it := newTested(t, openPolicy)
	to := func(flags byte) []byte { return frame(protocolTCP, guest, "203.0.113.7", tcp(40000, 80, flags)) }
	for _, flags := range []byte{tcpAck, tcpSyn | tcpAck, tcpFin | tcpAck, 0, 0x20, tcpAck | 0x08} {
		if got := it.sends(to(flags)); got != "rst" {
			t.Errorf("flags %#x of no connection: %s", flags, got)
		}
	}
	if got := it.sends(to(tcpRst)); got != "drop" {
		t.Errorf("RST of no connection: %s", got)
	}
	// passt opens a connection for SYN without ACK, whatever the other flags.
	for _, flags := range []byte{tcpSyn, tcpSyn | tcpFin, tcpSyn | tcpRst, tcpSyn | 0xc8} {
		if got := it.sends(frame(protocolTCP, guest, "198.51.100.2", tcp(40000, 80, flags))); got == "host" {
			t.Errorf("flags %#x to the host passed", flags)
		}
	}
	if it.sends(to(tcpSyn)) != "host" || it.sends(to(tcpAck)) != "host" || it.sends(to(tcpRst)) != "host" {
		t.Error("a connection does not pass")
	}
	if got := it.sends(to(tcpAck)); got != "rst" {
		t.Errorf("a connection that was reset goes on: %s", got)
	}
	if len(it.noted) != 4 {
		t.Errorf("%d noted, want one for each SYN that was refused", len(it.noted))
	}
}

func TestMalformedFrames(t *testing.T) {
	good := func() []byte { return syn("203.0.113.7", 80) }
	change := func(at int, value byte) []byte { f := good(); f[at] = value; return f }
	for name, f := range map[string][]byte{
		"empty": {}, "short": good()[:13], "header only": good()[:ethernetSize], "cut": good()[:40],
		"other MAC": change(11, 6), "vlan": change(12, 0x81), "ipv6 type": append(change(12, 0x86)[:13], append([]byte{0xdd}, good()[14:]...)...),
		"version 6": change(14, 0x65), "options": change(14, 0x46), "ihl 4": change(14, 0x44),
		"more fragments": change(20, 0x20), "offset": change(21, 1), "long total": change(16, 0xff), "small total": change(17, 19),
		"other source": change(29, 16), "protocol 41": change(23, 41), "protocol 4": change(23, 4), "tcp offset 4": change(46, 0x40),
		"tcp offset 15": change(46, 0xf0), "source 127.0.0.1": frame(protocolTCP, "127.0.0.1", "203.0.113.7", tcp(40000, 80, tcpSyn)),
		"udp length":    frame(protocolUDP, guest, "203.0.113.7", append(udp(40000, 80, "x"), 'y')),
		"icmp redirect": frame(protocolICMP, guest, "203.0.113.7", []byte{5, 0, 0, 0, 0, 0, 0, 0}),
		"icmp short":    frame(protocolICMP, guest, "203.0.113.7", []byte{8, 0, 0, 0}),
		"unreachable":   frame(protocolICMP, guest, "203.0.113.7", []byte{3, 3, 0, 0, 0, 0, 0, 0}),
	} {
		if got := newTested(t, openPolicy).sends(f); got != "drop" {
			t.Errorf("%s: got %v", name, got)
		}
	}
	low := frame(protocolUDP, guest, "203.0.113.7", udp(5353, 80, "x"))
	if got := newTested(t, openPolicy).sends(low); got != "icmp" {
		t.Errorf("low source port of UDP: got %v", got)
	}
	if newTested(t, openPolicy).sends(good()) != "host" {
		t.Error("the frame they are made of must pass")
	}
}

func TestWhatIsNotedOfOddFrames(t *testing.T) {
	ipv6 := func(destination string) []byte {
		f := append([]byte{0x33, 0x33, 0, 0, 0, 2, 2, 0, 0, 0, 0, 5, 0x86, 0xdd}, make([]byte, 40)...)
		copy(f[ethernetSize+24:], net.ParseIP(destination))
		return f
	}
	it := newTested(t, openPolicy)
	for _, f := range [][]byte{ipv6("ff02::2"), ipv6("2001:db8::1")[:40], ipv6("2001:db8::1"),
		frame(protocolUDP, "10.0.2.14", "203.0.113.7", udp(40000, 80, "x"))} {
		if it.sends(f) != "drop" {
			t.Errorf("% x passed", f)
		}
	}
	want := []egress.Denial{
		{Protocol: egress.ProtocolIPv6, Address: netip.MustParseAddr("2001:db8::1"), Rule: egress.RuleIPv6},
		{Protocol: egress.ProtocolOther, Rule: egress.RuleMalformed},
	}
	if !reflect.DeepEqual(it.noted, want) {
		t.Errorf("noted %+v", it.noted)
	}
}

// A clone speaks with its template's addresses until the agent has given it its own.
func TestFramesOfTheTemplate(t *testing.T) {
	const template = "10.0.2.14"
	it := newTested(t, openPolicy)
	foreign := func(f []byte) []byte { copy(f[6:], []byte{2, 0, 0, 0, 0, 9}); return f }
	question := udp(40001, 53, "\x07\x08\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01")
	arp := it.arpRequest()[lengthSize:]
	binary.BigEndian.PutUint32(arp[ethernetSize+14:], addressOf(net.ParseIP(template)))
	foreignARP := foreign(append([]byte(nil), arp...))
	copy(foreignARP[ethernetSize+8:], foreignARP[6:12])
	frames := [][]byte{
		foreign(frame(protocolUDP, template, "203.0.113.7", udp(40000, 80, "x"))),
		foreign(frame(protocolTCP, template, "203.0.113.7", tcp(40000, 80, tcpSyn))),
		foreign(frame(protocolUDP, template, dns, question)),
		foreign(frame(protocolUDP, guest, "203.0.113.7", udp(40000, 80, "x"))),
		frame(protocolUDP, template, "203.0.113.7", udp(40000, 80, "x")), // Already its own MAC address.
		frame(protocolUDP, template, dns, question),
		arp, foreignARP,
	}
	for _, f := range frames {
		if got := it.sends(f); got != "drop" {
			t.Errorf("% x: %s", f, got)
		}
	}
	if len(it.flows.last) != 0 || len(it.flows.sources) != 0 || len(it.connections) != 0 {
		t.Error("a frame that was dropped is remembered")
	}
}

func TestARP(t *testing.T) {
	it := newTested(t, openPolicy)
	request := it.arpRequest()[lengthSize:]
	if it.sends(request) != "host" {
		t.Error("own request must pass")
	}
	if !it.Inbound(request, ToHost) || it.Inbound(request, ToNames) {
		t.Error("ARP is the host's passt's alone")
	}
	request[ethernetSize+14] = 127
	if it.sends(request) != "drop" {
		t.Error("foreign sender must be dropped")
	}
}

func TestInboundNeedsAQuestion(t *testing.T) {
	it := newTested(t, allowPolicy)
	const server = "203.0.113.7"
	unreachable := func(protocol byte, quoted []byte) []byte {
		return append([]byte{icmpUnreachable, 3, 0, 0, 0, 0, 0, 0}, frame(protocol, guest, server, quoted)[ethernetSize:]...)
	}
	answers := map[string][]byte{
		"tcp":              frame(protocolTCP, server, guest, tcp(80, 40000, tcpSyn|tcpAck)),
		"udp":              frame(protocolUDP, server, guest, udp(80, 40000, "answer")),
		"ping":             frame(protocolICMP, server, guest, echo(icmpEchoReply, 9)),
		"udp unreachable":  frame(protocolICMP, gateway, guest, unreachable(protocolUDP, udp(40000, 80, ""))),
		"ping unreachable": frame(protocolICMP, gateway, guest, unreachable(protocolICMP, echo(icmpEchoRequest, 9))),
	}
	judge := func(lane Lane, want bool) {
		t.Helper()
		for name, answer := range answers {
			if it.Inbound(answer, lane) != want {
				t.Errorf("%s: passed is not %v", name, want)
			}
		}
	}
	judge(ToHost, false)
	it.sends(frame(protocolTCP, guest, server, tcp(40000, 80, tcpSyn)))
	it.sends(frame(protocolUDP, guest, server, udp(40000, 80, "question")))
	it.sends(frame(protocolICMP, guest, server, echo(icmpEchoRequest, 9)))
	judge(ToNames, false)
	judge(ToHost, true)
	for name, other := range map[string][]byte{
		"other port":      frame(protocolUDP, server, guest, udp(81, 40000, "x")),
		"other guest":     frame(protocolUDP, server, "10.0.2.16", udp(80, 40000, "x")),
		"other TCP":       frame(protocolTCP, server, guest, tcp(80, 40001, tcpAck)),
		"opens":           frame(protocolTCP, "203.0.113.8", guest, tcp(40000, 80, tcpSyn)),
		"other ping":      frame(protocolICMP, server, guest, echo(icmpEchoReply, 10)),
		"ping request":    frame(protocolICMP, server, guest, echo(icmpEchoRequest, 9)),
		"redirect":        frame(protocolICMP, server, guest, echo(5, 9)),
		"tcp unreachable": frame(protocolICMP, gateway, guest, unreachable(protocolTCP, tcp(40000, 80, tcpSyn))),
		"gre":             frame(47, server, guest, []byte("12345678")),
	} {
		if it.Inbound(other, ToHost) {
			t.Errorf("%s passed", name)
		}
	}
	it.at = it.at.Add(flowIdle + time.Second)
	if it.Inbound(answers["udp"], ToHost) || it.Inbound(answers["ping"], ToHost) || !it.Inbound(answers["tcp"], ToHost) {
		t.Error("a late datagram passed, or a late segment did not")
	}
}

func TestSourcePortsOfUDPAreFew(t *testing.T) {
	it := newTested(t, openPolicy)
	send := func(source uint16) string {
		return outcome(it.Outbound(frame(protocolUDP, guest, "203.0.113.7", udp(source, 80, "x"))))
	}
	walk := func() (passed int) {
		for port := lowestUDPSource; port <= 65535; port++ {
			if send(uint16(port)) == "host" {
				passed++
			}
		}
		return passed
	}
	if passed := walk(); passed != sourcePortLimit || len(it.flows.sources) > sourcePortLimit {
		t.Errorf("%d of all ports passed, %d are remembered", passed, len(it.flows.sources))
	}
	// The ports of the first walk stay usable, and keep their places as long as one of them is used.
	it.at = it.at.Add(sourcePortIdle - time.Second)
	if send(lowestUDPSource) != "host" || send(65535) == "host" {
		t.Error("a port that passt holds is dropped, or one more passes")
	}
	if it.sends(frame(protocolUDP, guest, dns, udp(65535, 53, "q"))) != "resolve" {
		t.Error("DNS needs no port of passt's")
	}
	it.at = it.at.Add(2 * time.Second)
	if send(65535) != "host" || len(it.flows.sources) != 2 {
		t.Errorf("idle ports are not given back: %d left", len(it.flows.sources))
	}
	if passed := walk(); passed != sourcePortLimit {
		t.Errorf("%d ports passed in the second window", passed)
	}
}

func TestFlowTableIsBounded(t *testing.T) {
	table, now := newFlowTable(), time.Now()
	nth := func(i int) conversation { return conversation{remote: uint32(i), protocol: protocolUDP} }
	for i := 0; i < 3*flowLimit; i++ {
		table.note(nth(i), now)
	}
	if len(table.last) > flowLimit || !table.has(nth(3*flowLimit-1), now) {
		t.Errorf("%d flows, newest known: %v", len(table.last), table.has(nth(3*flowLimit-1), now))
	}
}

func TestOneConnectionTooManyEndsAnother(t *testing.T) {
	it := newTested(t, openPolicy)
	open := func(i int) Verdict {
		it.at = it.at.Add(time.Second)
		return it.Outbound(frame(protocolTCP, guest, "203.0.113.7", tcp(uint16(i), uint16(1+i>>16), tcpSyn)))
	}
	for i := 0; i < connectionLimit; i++ {
		if v := open(i); !v.Forward || v.Ended != nil {
			t.Fatalf("connection %d: %+v", i, v)
		}
	}
	v := open(connectionLimit)
	if !v.Forward || v.Ended == nil || len(it.connections) != connectionLimit {
		t.Fatalf("%+v, %d connections", v, len(it.connections))
	}
	if port := binary.BigEndian.Uint16(v.Ended.ToGuest[lengthSize+ethernetSize+ipv4Size+2:]); int(port) == connectionLimit {
		t.Error("the new one was ended")
	}
}

func TestDNSGoesToTheResolverOnly(t *testing.T) {
	it := newTested(t, allowPolicy)
	v := it.Outbound(frame(protocolUDP, guest, dns, udp(1234, 53, "q")))
	if string(v.Question) != "q" || v.From.guestPort != 1234 || v.Forward {
		t.Errorf("question not resolved: %+v", v)
	}
	if it.sends(frame(protocolUDP, guest, dns, udp(40000, 54, "q"))) != "icmp" || it.sends(syn(dns, 53)) != "rst" {
		t.Error("something else reached the DNS address")
	}
	it.SetNames(true)
	if it.sends(syn(dns, 53)) != "names" || it.sends(syn(dns, 54)) != "rst" {
		t.Error("DNS by TCP is not answered in the names' namespace")
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	it := newTested(t, openPolicy)
	count := func() (replies int) {
		for i := 0; i < 5*refusalLimit; i++ {
			if it.Outbound(syn("127.0.0.1", uint16(1+i))).Reply != nil {
				replies++
			}
		}
		return replies
	}
	if got := count(); got != refusalLimit || len(it.noted) != 5*refusalLimit {
		t.Errorf("%d replies, %d noted", got, len(it.noted))
	}
	it.at = it.at.Add(refusalWindow)
	if got := count(); got != refusalLimit {
		t.Errorf("%d replies in the next window", got)
	}
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

func TestRefusalOfASegment(t *testing.T) {
	it := newTested(t, openPolicy)
	from, to, fromPort, toPort, flags, sequence, acknowledged := segmentOf(t, it.Outbound(syn("127.0.0.1", 80)).Reply)
	if from != "127.0.0.1" || to != guest || fromPort != 80 || toPort != 40000 || flags != tcpRst|tcpAck ||
		sequence != 0 || acknowledged != 1001 {
		t.Error("the answer to SYN is ", from, to, fromPort, toPort, flags, sequence, acknowledged)
	}
	data := frame(protocolTCP, guest, "1.1.1.1", append(tcp(40000, 80, tcpAck), "data"...))
	_, _, _, _, flags, sequence, _ = segmentOf(t, it.Outbound(data).Reply)
	if flags != tcpRst || sequence != 2000 {
		t.Error("the answer to ACK is ", flags, sequence)
	}
}

func TestRefusalOfADatagram(t *testing.T) {
	it := newTested(t, openPolicy)
	sent := frame(protocolUDP, guest, "127.0.0.1", udp(40000, 80, "0123456789"))
	packet := it.Outbound(sent).Reply[lengthSize+ethernetSize:]
	error := packet[ipv4Size:]
	if sum(0, packet[:ipv4Size]) != 0xffff || sum(0, error) != 0xffff || packet[9] != protocolICMP ||
		error[0] != icmpUnreachable || error[1] != icmpProhibited || net.IP(packet[12:16]).String() != gateway {
		t.Errorf("% x", packet)
	}
	if !bytes.Equal(error[icmpSize:], sent[ethernetSize:ethernetSize+quotedSize]) {
		t.Errorf("quotes % x", error[icmpSize:])
	}
}

func TestAnswerToADatagram(t *testing.T) {
	it := newTested(t, openPolicy)
	v := it.Outbound(frame(protocolUDP, guest, dns, udp(1234, 53, "question")))
	packet := it.answer(v.From, []byte("answer"))[lengthSize+ethernetSize:]
	length := uint32(len(packet) - ipv4Size)
	if sum(0, packet[:ipv4Size]) != 0xffff || sum(uint32(sum(protocolUDP+length, packet[12:20])), packet[ipv4Size:]) != 0xffff {
		t.Errorf("checksums of % x", packet)
	}
	if net.IP(packet[12:16]).String() != dns || binary.BigEndian.Uint16(packet[20:]) != 53 ||
		binary.BigEndian.Uint16(packet[22:]) != 1234 || string(packet[28:]) != "answer" {
		t.Errorf("answer is % x", packet)
	}
}

func TestAnotherPolicyEndsWhatItRefuses(t *testing.T) {
	it := newTested(t, allowPolicy)
	it.SetNames(true)
	host, named := syn("203.0.113.7", 8080), syn("1.1.1.1", 443)
	question := frame(protocolUDP, guest, "203.0.113.7", udp(40000, 80, "x"))
	answer := frame(protocolUDP, "203.0.113.7", guest, udp(80, 40000, "x"))
	segment := frame(protocolTCP, guest, "203.0.113.7", append(tcp(40000, 8080, tcpAck), "data"...))
	for _, f := range [][]byte{host, named, question, segment, syn(dns, 53)} {
		it.sends(f)
	}
	epoch := it.Epoch()
	it.rules.Update(it.parsed(`{"mode":"allow","names":[{"name":"x.example","port":443}]}`))
	endings := it.EndRefused()
	if len(endings) != 1 || endings[0].Lane != ToHost || it.Epoch() == epoch {
		t.Fatalf("%d endings", len(endings))
	}
	from, _, _, _, flags, sequence, _ := segmentOf(t, endings[0].ToGuest)
	if from != "203.0.113.7" || flags != tcpRst || sequence != 2000 {
		t.Error("the guest is told ", from, flags, sequence)
	}
	from, to, _, toPort, flags, sequence, _ := segmentOf(t, endings[0].ToPasst)
	if from != guest || to != "203.0.113.7" || toPort != 8080 || flags&tcpRst == 0 || sequence != 1004 {
		t.Error("passt is told ", from, to, toPort, flags, sequence)
	}
	if it.Inbound(answer, ToHost) || it.sends(segment) != "rst" {
		t.Error("what was refused goes on")
	}
	if it.sends(frame(protocolTCP, guest, "1.1.1.1", tcp(40000, 443, tcpAck))) != "names" {
		t.Error("what is still allowed was ended")
	}
	it.rules.Update(it.parsed(offPolicy))
	if endings := it.EndRefused(); len(endings) != 1 || endings[0].Lane != ToNames {
		t.Errorf("%d endings when off", len(endings))
	}
	it.SetNames(false)
	if endings := it.EndRefused(); len(endings) != 1 || len(it.connections) != 0 {
		t.Errorf("%d endings without names", len(endings))
	}
}

// A connection that went directly must not go on so when only names count.
func TestFromOpenToNames(t *testing.T) {
	it := newTested(t, openPolicy)
	it.sends(syn("1.1.1.1", 443))
	it.rules.Update(it.parsed(allowPolicy))
	if len(it.EndRefused()) != 1 {
		t.Error("it goes on")
	}
	it.sends(syn("1.1.1.1", 443))
	it.rules.Update(it.parsed(openPolicy))
	if len(it.EndRefused()) != 0 {
		t.Error("one by name was ended although everything is open")
	}
}

func TestAPasstThatEndsEndsItsConnections(t *testing.T) {
	it := newTested(t, allowPolicy)
	it.sends(syn("203.0.113.7", 8080))
	it.sends(syn("1.1.1.1", 443))
	it.sends(frame(protocolUDP, guest, "203.0.113.7", udp(40000, 80, "x")))
	endings := it.EndLane(ToNames)
	if len(endings) != 1 || endings[0].Lane != ToNames || len(it.connections) != 1 || len(it.flows.last) != 1 {
		t.Errorf("%d endings, %d connections", len(endings), len(it.connections))
	}
	_, _, _, _, flags, sequence, acknowledged := segmentOf(t, endings[0].ToGuest)
	if flags != tcpRst|tcpAck || sequence != 0 || acknowledged != 1001 {
		t.Error("a SYN without answer is answered ", flags, sequence, acknowledged)
	}
	if len(it.EndLane(ToHost)) != 1 || len(it.flows.last) != 0 || len(it.flows.sources) != 0 {
		t.Error("something of the host's passt is left")
	}
}

func message(frame []byte) []byte {
	out := make([]byte, lengthSize, lengthSize+len(frame))
	binary.BigEndian.PutUint32(out, uint32(len(frame)))
	return append(out, frame...)
}

// oneByte hands out its data in pieces of one byte.
type oneByte struct{ data []byte }

func (r *oneByte) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	p[0] = r.data[0]
	r.data = r.data[1:]
	return 1, nil
}

// sift relays the frames that keep says yes to.
func sift(from io.Reader, keep func([]byte) bool, wait func(int)) (string, error) {
	var to strings.Builder
	way := batch{write: func(messages []byte) { to.Write(messages) }, wait: wait}
	err := relay(from, func(buffer []byte, start, end int) {
		if keep(buffer[start+lengthSize : end]) {
			way.add(buffer, start, end)
		}
	}, way.flush)
	return to.String(), err
}

func TestRelayKeepsWholeFrames(t *testing.T) {
	a, b, c := bytes.Repeat([]byte{'a'}, 60), bytes.Repeat([]byte{'b'}, frameLimit), bytes.Repeat([]byte{'c'}, ethernetSize)
	stream := bytes.Join([][]byte{message(a), message(b), message(c), message(a), message(b), message(b), message(a)}, nil)
	want := string(bytes.Join([][]byte{message(a), message(c), message(a), message(a)}, nil))
	keep := func(f []byte) bool { return f[0] != 'b' }
	for name, from := range map[string]func() io.Reader{
		"whole": func() io.Reader { return bytes.NewReader(stream) }, "pieces": func() io.Reader { return &oneByte{data: stream} },
	} {
		if got, err := sift(from(), keep, nil); err != io.EOF || got != want {
			t.Errorf("%s: %v, %d bytes, want %d", name, err, len(got), len(want))
		}
		waited := 0
		if got, _ := sift(from(), keep, func(n int) { waited += n }); got != want || waited != len(want) {
			t.Errorf("%s: %d bytes after waiting for %d, want %d", name, len(got), waited, len(want))
		}
	}
	for _, size := range []uint32{0, 13, frameLimit + 1, 0xffffffff} {
		bad := make([]byte, 100)
		binary.BigEndian.PutUint32(bad, size)
		if _, err := sift(bytes.NewReader(bad), keep, nil); err != ErrBadFrame {
			t.Errorf("length %d: %v", size, err)
		}
	}
}

func TestMessagesAreBounded(t *testing.T) {
	var to bytes.Buffer
	line := "Failed to send 7 bytes to syslog\n\n" + string(bytes.Repeat([]byte{'m'}, 999)) + "\n"
	log := NewMessages(&to)
	log.Copy(bytes.NewReader(bytes.Repeat([]byte(line), 60)))
	log.Copy(bytes.NewReader(bytes.Repeat([]byte(line), 60)))
	log.Printf("one more")
	if to.Len() != logLimit || bytes.Contains(to.Bytes(), []byte("syslog")) {
		t.Errorf("%d bytes kept", to.Len())
	}
}

func FuzzOutbound(f *testing.F) {
	f.Add(syn("203.0.113.7", 80), uint8(0))
	f.Add(syn("1.1.1.1", 443), uint8(1))
	f.Add(frame(protocolUDP, guest, dns, udp(40000, 53, "q")), uint8(0))
	f.Add(frame(protocolUDP, guest, "127.0.0.1", udp(40000, 53, "q")), uint8(1))
	f.Add(frame(protocolICMP, guest, "203.0.113.7", echo(icmpEchoRequest, 1)), uint8(2))
	policies := []string{openPolicy, allowPolicy, offPolicy}
	f.Fuzz(func(t *testing.T, data []byte, which uint8) {
		it := newTested(t, policies[int(which)%len(policies)])
		it.SetNames(which&4 != 0)
		// A segment alone belongs to no connection: so a SYN of the same conversation goes before.
		verdict := it.Outbound(data)
		it.Inbound(data, ToHost)
		it.Inbound(data, ToNames)
		if r := verdict.Reply; r != nil {
			packet := r[lengthSize+ethernetSize:]
			if int(binary.BigEndian.Uint32(r)) != len(r)-lengthSize || sum(0, packet[:ipv4Size]) != 0xffff ||
				!net.IP(packet[16:20]).Equal(net.ParseIP(guest)) || len(r) > lengthSize+ethernetSize+ipv4Size+icmpSize+quotedSize {
				t.Errorf("% x is answered % x", data, r)
			}
		}
		if !verdict.Forward || binary.BigEndian.Uint16(data[12:]) == etherTypeARP {
			return
		}
		if data[30] == 127 || data[30] == 0 || data[30] >= 224 || data[14] != 0x45 || string(data[26:30]) != "\x0a\x00\x02\x0f" ||
			policies[int(which)%len(policies)] == offPolicy && !it.hasNames {
			t.Errorf("% x passed", data)
		}
		if len(it.noted) > 0 {
			t.Errorf("% x passed and is noted: %v", data, it.noted)
		}
	})
}

func BenchmarkOutbound(b *testing.B) {
	it := newTested(b, openPolicy)
	it.Outbound(syn("203.0.113.7", 80))
	big := frame(protocolTCP, guest, "203.0.113.7", append(tcp(40000, 80, tcpAck), make([]byte, 1440)...))
	stream := bytes.Repeat(message(big), 1000)
	b.SetBytes(int64(len(stream)))
	for i := 0; i < b.N; i++ {
		way := batch{write: func([]byte) {}}
		_ = relay(bytes.NewReader(stream), func(buffer []byte, start, end int) {
			if it.Outbound(buffer[start+lengthSize : end]).Forward {
				way.add(buffer, start, end)
			}
		}, way.flush)
	}
}
