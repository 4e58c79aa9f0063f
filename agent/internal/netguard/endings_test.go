package netguard

import (
	"testing"
)

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
	epoch := it.Epoch()
	endings := it.EndLane(ToNames)
	if it.Epoch() == epoch {
		t.Error("what waits goes to the next passt")
	}
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

// What waits of a connection that has ended must not reach passt: a SYN among it would open one that nobody knows.
func TestWhatWaitsEndsWithItsConnection(t *testing.T) {
	for name, end := range map[string]func(it *tested, of conversation){
		"made room": func(it *tested, of conversation) { it.end(of) },
		"reset by passt": func(it *tested, of conversation) {
			it.Inbound(frame(protocolTCP, "203.0.113.7", guest, tcp(80, 40000, tcpRst)), ToHost)
		},
	} {
		it := newTested(t, openPolicy)
		wait := func(f []byte) waiting { return waiting{epoch: it.Epoch(), of: it.Outbound(f).of} }
		first, other, datagram := wait(syn("203.0.113.7", 80)), wait(syn("203.0.113.8", 80)), wait(datagram("x"))
		if it.isStale(first) || it.isStale(other) || it.isStale(datagram) {
			t.Errorf("%s: dropped before", name)
		}
		p, _ := parseOutbound(syn("203.0.113.7", 80)[ethernetSize:])
		end(it, p.conversation)
		if !it.isStale(first) || it.isStale(other) || it.isStale(datagram) {
			t.Errorf("%s: stale are %v, %v, %v", name, it.isStale(first), it.isStale(other), it.isStale(datagram))
		}
	}
}
