package netguard

import (
	"encoding/binary"
	"net"
	"net/netip"
	"reflect"
	"testing"

	"smolvm.dev/agent/internal/egress"
)

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
