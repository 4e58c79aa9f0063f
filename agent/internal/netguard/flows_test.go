package netguard

import (
	"encoding/binary"
	"testing"
	"time"
)

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

func TestAFullFlowTableRefuses(t *testing.T) {
	table, now := newFlowTable(), time.Now()
	nth := func(i int) conversation { return conversation{remote: uint32(i), protocol: protocolUDP} }
	for i := 0; i < 2*flowLimit; i++ {
		if passed := table.note(nth(i), now); passed != (i < flowLimit) {
			t.Fatalf("flow %d: %v", i, passed)
		}
	}
	if !table.has(nth(0), now) || !table.note(nth(1), now) || len(table.last) != flowLimit {
		t.Error("a live flow was forgotten")
	}
	now = now.Add(flowIdle)
	table.note(nth(1), now)
	now = now.Add(sweepPause)
	if !table.note(nth(flowLimit), now) || len(table.last) != 2 {
		t.Errorf("%d flows are left of which one is not idle", len(table.last))
	}
}

func TestConnectionsAreOpenedSlowly(t *testing.T) {
	it := newTested(t, openPolicy)
	passed := func() (count int) {
		for i := 0; i < opensBurst+1000; i++ {
			v := it.Outbound(frame(protocolTCP, guest, "203.0.113.7", tcp(uint16(i), 80, tcpSyn)))
			if v.Forward {
				count++
			} else if v.Reply != nil {
				t.Fatal("it is refused, not dropped")
			}
		}
		return count
	}
	if first := passed(); first != opensBurst || len(it.connections) != opensBurst {
		t.Errorf("%d passed, %d are remembered", first, len(it.connections))
	}
	it.at = it.at.Add(time.Second)
	if next := passed(); next != opensPerSecond {
		t.Errorf("%d passed a second later", next)
	}
	it.at = it.at.Add(time.Hour)
	if next := passed(); next != opensBurst {
		t.Errorf("%d passed after a rest", next)
	}
}

// passt resets a connection that it gets a second SYN of.
func TestARepeatedSynGoesToPasstOnce(t *testing.T) {
	it := newTested(t, openPolicy)
	for i, c := range []struct {
		after time.Duration
		first byte // of the sequence number
		want  string
	}{
		{0, 0, "host"}, {time.Second, 0, "drop"}, {2 * time.Second, 0, "drop"}, {4 * time.Second, 0, "host"},
		{time.Second, 0, "drop"}, {0, 1, "host"}, // Another connection of the same ports.
	} {
		it.at = it.at.Add(c.after)
		f := syn("203.0.113.7", 80)
		f[ethernetSize+ipv4Size+4] = c.first
		if got := it.sends(f); got != c.want {
			t.Errorf("%d: %s, want %s", i, got, c.want)
		}
	}
	it.sends(frame(protocolTCP, guest, "203.0.113.7", tcp(40000, 80, tcpAck)))
	f := syn("203.0.113.7", 80)
	f[ethernetSize+ipv4Size+4] = 1
	if got := it.sends(f); got != "host" {
		t.Errorf("%s after an answer", got)
	}
}

// Where passt has not got it, the guest's next one is the first.
func TestALostSynMayComeAgain(t *testing.T) {
	it := newTested(t, openPolicy)
	first := syn("203.0.113.7", 80)
	judge := func(want string) {
		t.Helper()
		if got := it.sends(first); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	judge("host")
	other := syn("203.0.113.7", 80)
	other[ethernetSize+ipv4Size+4] = 1 // The sequence number of another connection.
	it.lost(message(other))
	judge("drop")
	it.lost(append(message(frame(protocolTCP, guest, "203.0.113.7", tcp(40000, 80, tcpAck))), message(datagram("x"))...))
	judge("drop")
	it.lost(append(message(datagram("x")), message(first)...))
	judge("host")
	judge("drop")
	it.Inbound(frame(protocolTCP, "203.0.113.7", guest, tcp(80, 40000, tcpSyn|tcpAck)), ToHost)
	it.lost(message(first))
	judge("drop") // passt has got it.
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
