package netguard

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

var guestMAC = net.HardwareAddr{2, 0, 0, 0, 0, 5}

func network(text string) *net.IPNet {
	_, parsed, err := net.ParseCIDR(text)
	if err != nil {
		panic(err)
	}
	return parsed
}

func testPolicy() *Policy {
	policy := NewPolicy(Config{
		MAC: guestMAC, Address: net.IPv4(10, 0, 2, 15), Network: network("10.0.2.0/24"), DNS: net.IPv4(10, 0, 2, 3),
		Forwards: []uint16{80}, Deny: []*net.IPNet{network("10.0.0.0/8"), network("192.168.0.0/16")},
		Allow: []*net.IPNet{network("10.9.0.0/16"), network("127.0.0.0/8")},
	})
	policy.SetHostNetworks([]*net.IPNet{network("198.51.100.2/32"), network("10.9.0.2/32"), network("::1/128"),
		network("198.18.4.0/22")})
	return policy
}

// frame builds an IPv4 frame; addresses are in host order of bytes.
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

const guest = "10.0.2.15"

func TestDestinations(t *testing.T) {
	for destination, want := range map[string]Verdict{
		"203.0.113.7": Pass, "1.1.1.1": Pass, "10.9.3.4": Pass,
		"127.0.0.1": Drop, "127.255.255.255": Drop, "0.0.0.0": Drop, "0.1.2.3": Drop, "169.254.169.254": Drop,
		"224.0.0.1": Drop, "240.0.0.1": Drop, "255.255.255.255": Drop, "198.51.100.2": Drop, "10.9.0.2": Drop,
		"198.18.3.255": Pass, "198.18.4.0": Drop, "198.18.7.255": Drop, "198.18.8.0": Pass, // a range that is the host's
		"168.63.129.16": Drop, "168.63.129.17": Pass,
		"10.0.2.2": Drop, "10.0.2.3": Drop, "10.0.2.15": Drop, "10.77.0.1": Drop, "192.168.1.1": Drop,
	} {
		policy := testPolicy()
		for name, body := range map[string][]byte{"tcp": tcp(40000, 80, tcpSyn), "udp": udp(40000, 80, "x")} {
			protocol := byte(protocolTCP)
			if name == "udp" {
				protocol = protocolUDP
			}
			if got := policy.Outbound(frame(protocol, guest, destination, body)); got != want {
				t.Errorf("%s to %s: got %v, want %v", name, destination, got, want)
			}
		}
		ping := frame(protocolICMP, guest, destination, []byte{icmpEchoRequest, 0, 0, 0, 0, 1, 0, 1})
		if got := policy.Outbound(ping); got != want {
			t.Errorf("ping to %s: got %v, want %v", destination, got, want)
		}
	}
}

func TestForwardedPortAnswersAnywhereButLoopback(t *testing.T) {
	policy := testPolicy()
	for _, c := range []struct {
		destination string
		source      uint16
		flags       byte
		want        Verdict
	}{
		{"10.0.2.2", 80, tcpSyn | tcpAck, Pass},
		{"192.168.1.50", 80, tcpAck, Pass},
		{"198.51.100.2", 80, tcpAck, Pass},
		{"10.0.2.2", 81, tcpSyn | tcpAck, Drop},
		{"10.0.2.2", 80, tcpSyn, Drop},
		{"10.0.2.2", 80, tcpSyn | 0x01, Drop}, // passt opens a connection for these too.
		{"198.51.100.2", 80, tcpSyn | 0x04, Drop},
		{"198.51.100.2", 80, tcpSyn | 0xc8, Drop},
		{"127.0.0.1", 80, tcpAck, Drop},
		{"0.0.0.0", 80, tcpSyn | tcpAck, Drop},
	} {
		if got := policy.Outbound(frame(protocolTCP, guest, c.destination, tcp(c.source, 4000, c.flags))); got != c.want {
			t.Errorf("%s from %d flags %#x: got %v, want %v", c.destination, c.source, c.flags, got, c.want)
		}
	}
}

func TestMalformedFrames(t *testing.T) {
	good := func() []byte { return frame(protocolTCP, guest, "203.0.113.7", tcp(40000, 80, tcpSyn)) }
	change := func(at int, value byte) []byte { f := good(); f[at] = value; return f }
	for name, f := range map[string][]byte{
		"empty": {}, "short": good()[:13], "header only": good()[:ethernetSize], "cut": good()[:40],
		"other MAC": change(11, 6), "vlan": change(12, 0x81), "ipv6 type": append(change(12, 0x86)[:13], append([]byte{0xdd}, good()[14:]...)...),
		"version 6": change(14, 0x65), "options": change(14, 0x46), "ihl 4": change(14, 0x44),
		"more fragments": change(20, 0x20), "offset": change(21, 1), "long total": change(16, 0xff), "small total": change(17, 19),
		"other source": change(29, 16), "protocol 41": change(23, 41), "protocol 4": change(23, 4), "tcp offset 4": change(46, 0x40),
		"tcp offset 15": change(46, 0xf0), "source 127.0.0.1": frame(protocolTCP, "127.0.0.1", "203.0.113.7", tcp(40000, 80, tcpSyn)),
		"udp length":     frame(protocolUDP, guest, "203.0.113.7", append(udp(40000, 80, "x"), 'y')),
		"udp low source": frame(protocolUDP, guest, "203.0.113.7", udp(5353, 80, "x")),
		"icmp redirect":  frame(protocolICMP, guest, "203.0.113.7", []byte{5, 0, 0, 0, 0, 0, 0, 0}),
	} {
		if got := testPolicy().Outbound(f); got != Drop {
			t.Errorf("%s: got %v", name, got)
		}
	}
	if testPolicy().Outbound(good()) != Pass {
		t.Error("the frame they are made of must pass")
	}
}

// A clone speaks with its template's addresses until the agent has given it its own.
func TestFramesOfTheTemplate(t *testing.T) {
	const template = "10.0.2.14"
	policy := testPolicy()
	foreign := func(f []byte) []byte { copy(f[6:], []byte{2, 0, 0, 0, 0, 9}); return f }
	question := udp(40001, 53, "\x07\x08\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01")
	arp := arpRequest(policy, addressOf(net.IPv4(10, 0, 2, 2)))[lengthSize:]
	binary.BigEndian.PutUint32(arp[ethernetSize+14:], addressOf(net.ParseIP(template)))
	foreignARP := foreign(append([]byte(nil), arp...))
	copy(foreignARP[ethernetSize+8:], foreignARP[6:12])
	ipv6 := append([]byte{0x33, 0x33, 0, 0, 0, 2, 2, 0, 0, 0, 0, 9, 0x86, 0xdd}, make([]byte, 48)...)
	frames := [][]byte{
		foreign(frame(protocolUDP, template, "203.0.113.7", udp(40000, 80, "x"))),
		foreign(frame(protocolTCP, template, "203.0.113.7", tcp(40000, 80, tcpSyn))),
		foreign(frame(protocolUDP, template, "10.0.2.3", question)),
		foreign(frame(protocolUDP, guest, "203.0.113.7", udp(40000, 80, "x"))),
		frame(protocolUDP, template, "203.0.113.7", udp(40000, 80, "x")), // Already its own MAC address.
		frame(protocolUDP, template, "10.0.2.3", question),
		arp, foreignARP, ipv6,
	}
	own := frame(protocolUDP, guest, "203.0.113.7", udp(40002, 80, "x"))
	var stream []byte
	for _, f := range frames {
		if policy.Outbound(f) != Drop {
			t.Errorf("% x is not dropped", f)
		}
		stream = append(stream, message(f)...)
	}
	if len(policy.flows.last) != 0 || len(policy.flows.sources) != 0 {
		t.Error("a frame that was dropped is remembered")
	}
	var to bytes.Buffer
	err := Relay(&to, bytes.NewReader(append(stream, message(own)...)), func(f []byte) bool {
		return policy.Outbound(f) == Pass
	})
	if err != io.EOF || !bytes.Equal(to.Bytes(), message(own)) {
		t.Errorf("the relay ended with %v after % x, not after the clone's own frame", err, to.Bytes())
	}
}

func TestARP(t *testing.T) {
	policy := testPolicy()
	request := arpRequest(policy, addressOf(net.IPv4(10, 0, 2, 2)))[lengthSize:]
	if policy.Outbound(request) != Pass {
		t.Error("own request must pass")
	}
	request[ethernetSize+14] = 127
	if policy.Outbound(request) != Drop {
		t.Error("foreign sender must be dropped")
	}
}

func TestInboundUDPNeedsAQuestion(t *testing.T) {
	policy := testPolicy()
	now := time.Unix(1000, 0)
	policy.flows.now = func() time.Time { return now }
	answer := frame(protocolUDP, "203.0.113.7", guest, udp(80, 40000, "answer"))
	if policy.Inbound(answer) {
		t.Error("unasked datagram passed")
	}
	policy.Outbound(frame(protocolUDP, guest, "203.0.113.7", udp(40000, 80, "question")))
	if !policy.Inbound(answer) {
		t.Error("answer dropped")
	}
	if policy.Inbound(frame(protocolUDP, "203.0.113.7", guest, udp(81, 40000, "x"))) {
		t.Error("datagram of another port passed")
	}
	now = now.Add(flowIdle + time.Second)
	if policy.Inbound(answer) {
		t.Error("late datagram passed")
	}
	if !policy.Inbound(frame(protocolTCP, "203.0.113.7", guest, tcp(80, 40000, tcpAck))) {
		t.Error("TCP dropped")
	}
}

func TestSourcePortsOfUDPAreFew(t *testing.T) {
	policy := testPolicy()
	now := time.Unix(1000, 0)
	policy.flows.now = func() time.Time { return now }
	send := func(source uint16) Verdict {
		return policy.Outbound(frame(protocolUDP, guest, "203.0.113.7", udp(source, 80, "x")))
	}
	walk := func() (passed int) {
		for port := lowestUDPSource; port <= 65535; port++ {
			if send(uint16(port)) == Pass {
				passed++
			}
		}
		return passed
	}
	if passed := walk(); passed != sourcePortLimit || len(policy.flows.sources) > sourcePortLimit {
		t.Errorf("%d of all ports passed, %d are remembered", passed, len(policy.flows.sources))
	}
	// The ports of the first walk stay usable, and keep their places as long as one of them is used.
	now = now.Add(sourcePortIdle - time.Second)
	if send(lowestUDPSource) != Pass || send(65535) != Drop {
		t.Error("a port that passt holds is dropped, or one more passes")
	}
	if policy.Outbound(frame(protocolUDP, guest, "10.0.2.3", udp(65535, 53, "q"))) != Resolve {
		t.Error("DNS needs no port of passt's")
	}
	now = now.Add(2 * time.Second)
	if send(65535) != Pass || len(policy.flows.sources) != 2 {
		t.Errorf("idle ports are not given back: %d left", len(policy.flows.sources))
	}
	if passed := walk(); passed != sourcePortLimit {
		t.Errorf("%d ports passed in the second window", passed)
	}
}

func TestAllowOpensWhatOnlyTheHostShouldReach(t *testing.T) {
	policy := NewPolicy(Config{MAC: guestMAC, Address: net.IPv4(10, 0, 2, 15), Network: network("10.0.2.0/24"),
		Allow: []*net.IPNet{network("168.63.129.16/32")}})
	if policy.Outbound(frame(protocolTCP, guest, "168.63.129.16", tcp(40000, 80, tcpSyn))) != Pass {
		t.Error("an exception does not count")
	}
}

func TestFlowTableIsBounded(t *testing.T) {
	table := newFlowTable()
	for i := 0; i < 3*flowLimit; i++ {
		table.note(flow{remote: uint32(i)})
	}
	if len(table.last) > flowLimit || !table.has(flow{remote: 3*flowLimit - 1}) {
		t.Errorf("%d flows, newest known: %v", len(table.last), table.has(flow{remote: 3*flowLimit - 1}))
	}
}

func TestDNSGoesToTheResolverOnly(t *testing.T) {
	policy := testPolicy()
	if policy.Outbound(frame(protocolUDP, guest, "10.0.2.3", udp(1234, 53, "q"))) != Resolve {
		t.Error("question not resolved")
	}
	if policy.Outbound(frame(protocolUDP, guest, "10.0.2.3", udp(40000, 54, "q"))) != Drop ||
		policy.Outbound(frame(protocolTCP, guest, "10.0.2.3", tcp(40000, 53, tcpSyn))) != Drop {
		t.Error("something else reached the DNS address")
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

func TestRelayKeepsWholeFrames(t *testing.T) {
	a, b, c := bytes.Repeat([]byte{'a'}, 60), bytes.Repeat([]byte{'b'}, frameLimit), bytes.Repeat([]byte{'c'}, ethernetSize)
	stream := bytes.Join([][]byte{message(a), message(b), message(c), message(a)}, nil)
	want := bytes.Join([][]byte{message(a), message(c), message(a)}, nil)
	keep := func(f []byte) bool { return f[0] != 'b' }
	for name, from := range map[string]io.Reader{"whole": bytes.NewReader(stream), "pieces": &oneByte{data: stream}} {
		var to bytes.Buffer
		if err := Relay(&to, from, keep); err != io.EOF || !bytes.Equal(to.Bytes(), want) {
			t.Errorf("%s: %v, %d bytes, want %d", name, err, to.Len(), len(want))
		}
	}
	for _, size := range []uint32{0, 13, frameLimit + 1, 0xffffffff} {
		bad := make([]byte, 100)
		binary.BigEndian.PutUint32(bad, size)
		if err := Relay(io.Discard, bytes.NewReader(bad), keep); err != ErrBadFrame {
			t.Errorf("length %d: %v", size, err)
		}
	}
}

func TestResolver(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	question := append([]byte{7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 1, 0, 1}, "opt"...)
	go func() {
		buffer := make([]byte, 512)
		n, from, _ := server.ReadFrom(buffer)
		_, _ = server.WriteTo([]byte("wrong id, not this one"), from)
		buffer[2] |= 0x80
		_, _ = server.WriteTo(buffer[:n], from)
	}()
	frames := make(chan []byte, 1)
	resolver := NewResolver([]string{server.LocalAddr().String()}, writerFunc(func(p []byte) { frames <- append([]byte(nil), p...) }))
	resolver.Handle(frame(protocolUDP, guest, "10.0.2.3", udp(1234, 53, string(question))))
	select {
	case got := <-frames:
		packet := got[lengthSize+ethernetSize:]
		if sum(0, packet[:ipv4Size]) != 0xffff || !net.IP(packet[12:16]).Equal(net.IPv4(10, 0, 2, 3)) ||
			binary.BigEndian.Uint16(packet[22:]) != 1234 || packet[ipv4Size+udpSize] != 7 {
			t.Errorf("answer is % x", got)
		}
		length := uint32(len(packet) - ipv4Size)
		if sum(uint32(sum(protocolUDP+length, packet[12:20])), packet[ipv4Size:]) != 0xffff {
			t.Error("UDP checksum is wrong")
		}
	case <-time.After(2 * time.Second):
		t.Fatal("no answer")
	}
	for _, junk := range []string{"", "short", string(bytes.Repeat([]byte{0xff}, 40)), string(make([]byte, queryLimit+1))} {
		if isQuestion([]byte(junk)) {
			t.Errorf("%q taken for a question", junk)
		}
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

func TestMessagesAreBounded(t *testing.T) {
	var to bytes.Buffer
	line := "Failed to send 7 bytes to syslog\n\n" + string(bytes.Repeat([]byte{'m'}, 999)) + "\n"
	copyMessages(&to, bytes.NewReader(bytes.Repeat([]byte(line), 200)))
	if to.Len() != logLimit || bytes.Contains(to.Bytes(), []byte("syslog")) {
		t.Errorf("%d bytes kept", to.Len())
	}
}

func FuzzOutbound(f *testing.F) {
	f.Add(frame(protocolTCP, guest, "203.0.113.7", tcp(40000, 80, tcpSyn)))
	f.Add(frame(protocolUDP, guest, "10.0.2.3", udp(40000, 53, "q")))
	policy := testPolicy()
	f.Fuzz(func(t *testing.T, data []byte) {
		verdict := policy.Outbound(data)
		policy.Inbound(data)
		if verdict == Drop || binary.BigEndian.Uint16(data[12:]) == etherTypeARP {
			return
		}
		if data[30] == 127 || data[30] == 0 || data[14] != 0x45 || string(data[26:30]) != "\x0a\x00\x02\x0f" {
			t.Errorf("% x passed", data)
		}
	})
}

func BenchmarkRelay(b *testing.B) {
	policy := testPolicy()
	big := frame(protocolTCP, guest, "203.0.113.7", append(tcp(40000, 80, tcpAck), make([]byte, 1440)...))
	stream := bytes.Repeat(message(big), 1000)
	b.SetBytes(int64(len(stream)))
	for i := 0; i < b.N; i++ {
		_ = Relay(io.Discard, bytes.NewReader(stream), func(f []byte) bool { return policy.Outbound(f) == Pass })
	}
}
