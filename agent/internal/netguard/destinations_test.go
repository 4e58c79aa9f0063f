package netguard

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"reflect"
	"testing"

	"smolvm.dev/agent/internal/egress"
)

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
		_ = relay(bytes.NewReader(stream), &splitter{}, func(buffer []byte, start, end int) {
			if it.Outbound(buffer[start+lengthSize : end]).Forward {
				way.add(buffer, start, end)
			}
		}, way.flush)
	}
}
