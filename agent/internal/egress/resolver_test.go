package egress

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

func TestAnswersPassThrough(t *testing.T) {
	var seen atomic.Value
	server := dnsServer(t, func(_ string, query []byte) []byte {
		seen.Store(query)
		return answerTo(query, rcodeOK, rr("API.example.com", typeA, 203, 0, 113, 9))
	})
	for _, policy := range []string{`{"mode":"open"}`, allowExample} {
		resolver := NewResolver(rules(t, policy, closedPort(t), server), nil)
		query := ask(0x1234, "API.example.com", typeA, 4096)
		query[3] = 0x7f                                                         // bits that are not a question's
		query = append(query[:len(query)-2], 0, 5, 0, 10, 0, 1, 7)              // an option, which is not passed on
		query = append(query, "what is behind the message is no part of it"...) // likewise
		answer := resolver.Answer(context.Background(), query, TransportUDP)
		if len(answer) == 0 || binary.BigEndian.Uint16(answer) != 0x1234 || !bytes.HasSuffix(answer, []byte{203, 0, 113, 9}) {
			t.Errorf("got %x", answer)
		}
		asked := seen.Load().([]byte)
		if want := ask(binary.BigEndian.Uint16(asked), "API.example.com", typeA, ednsSize); asked[3] != 0x30 ||
			!bytes.Equal(asked[4:], want[4:]) {
			t.Errorf("asked %x", asked)
		}
	}
}

func TestRefusedQuestions(t *testing.T) {
	server := dnsServer(t, func(_ string, query []byte) []byte {
		t.Errorf("%x was asked", query)
		return nil
	})
	b := newDenialBook(t)
	off := NewResolver(rules(t, `{"mode":"off"}`, server), b.Denials)
	allow := NewResolver(rules(t, allowExample, server), b.Denials)
	strange := append(append([]byte{}, 6), "x.evil\x07example\x03org\x00"...)
	for _, c := range []struct {
		resolver *Resolver
		query    []byte
		denial   string
	}{
		{off, ask(1, "api.example.com", typeA, 1232), "api.example.com off api.example.com"},
		{off, ask(1, "api.example.com", typeAAAA, 1232), "api.example.com off api.example.com"},
		{allow, ask(1, "evil.com", typeA, 1232), "evil.com name-not-allowed evil.com"},
		{allow, ask(1, "evil.com", typeHTTPS, 1232), "evil.com name-not-allowed evil.com"},
		{allow, ask(1, "example.org", typeA, 1232), "example.org name-not-allowed example.org"},
		{allow, ask(1, "1.0.0.127.in-addr.arpa", 12, 1232), "1.0.0.127.in-addr.arpa name-not-allowed 1.0.0.127.in-addr.arpa"},
		{allow, (&question{wire: append(strange, 0, 1, 0, 1), edns: true}).query(1, 1232),
			`x\046evil.example.org name-not-allowed `},
	} {
		before := len(b.lines())
		answer := c.resolver.Answer(context.Background(), c.query, TransportUDP)
		code, text := extendedError(t, answer)
		if answer[3]&maskRcode != rcodeRefuse || code != errorProhibited || !strings.Contains(text, "rule") || len(answer) > plainSize {
			t.Errorf("%s: %d %q", c.denial, code, text)
		}
		b.clock = b.clock.Add(denialWindow)
		lines := b.lines()
		if len(lines) == before {
			t.Errorf("%s: no record", c.denial)
			continue
		}
		line := lines[len(lines)-1]
		allow := ""
		if line.Allow != nil {
			allow = *line.Allow
		}
		if got := fmt.Sprintf("%s %s %s", *line.Name, line.Rule, allow); got != c.denial || line.Protocol != ProtocolDNS {
			t.Errorf("got %s, want %s", got, c.denial)
		}
	}
	plain := off.Answer(context.Background(), ask(7, "a.example", typeA, 0), TransportUDP)
	if plain[3]&maskRcode != rcodeRefuse || plain[11] != 0 || plain[1] != 7 {
		t.Errorf("without EDNS: %x", plain)
	}
	long := strings.Repeat("abcdefg.", 31) + "org"
	answer := off.Answer(context.Background(), ask(7, long, typeA, 512), TransportUDP)
	if _, text := extendedError(t, answer); len(answer) > plainSize || len(text) != errorTextLimit {
		t.Errorf("a long name: %d bytes, %q", len(answer), text)
	}
}

func TestEmptyAnswers(t *testing.T) {
	server := dnsServer(t, func(_ string, query []byte) []byte {
		return answerTo(query, rcodeOK, rr("x.example.org", typeA, 1, 2, 3, 4))
	})
	open, allow := NewResolver(rules(t, `{"mode":"open"}`, server), nil), NewResolver(rules(t, allowExample, server), nil)
	for _, c := range []struct {
		resolver *Resolver
		kind     uint16
		records  byte
	}{
		{open, typeA, 1}, {open, typeAAAA, 0}, {open, typeHTTPS, 1}, {open, typeANY, 1},
		{allow, typeA, 1}, {allow, typeAAAA, 0}, {allow, typeHTTPS, 0}, {allow, typeSVCB, 0}, {allow, typeANY, 0}, {allow, 16, 1},
	} {
		answer := c.resolver.Answer(context.Background(), ask(9, "x.example.org", c.kind, 1232), TransportUDP)
		if answer[3]&maskRcode != rcodeOK || answer[7] != c.records {
			t.Errorf("type %d: %x", c.kind, answer)
		}
	}
}

func TestMalformedQuestions(t *testing.T) {
	resolver := NewResolver(rules(t, `{"mode":"open"}`), nil)
	good := ask(5, "a.example", typeA, 1232)
	change := func(at int, value byte) []byte {
		out := append([]byte(nil), good...)
		out[at] = value
		return out
	}
	for name, c := range map[string]struct {
		query []byte
		rcode byte
	}{
		"opcode":         {change(2, 0x10), rcodeNotImp},
		"two questions":  {change(5, 2), rcodeFormat},
		"an answer":      {change(7, 1), rcodeFormat},
		"an authority":   {change(9, 1), rcodeFormat},
		"many":           {change(11, additionalLimit+1), rcodeFormat},
		"missing record": {change(11, 2), rcodeFormat},
		"compression":    {change(headerSize, 0xc0), rcodeFormat},
		"cut":            {good[:headerSize+5], rcodeFormat},
		"class":          {change(headerSize+len(wire("a.example"))+3, 3), rcodeRefuse},
		"transfer":       {ask(5, "a.example", typeAXFR, 0), rcodeNotImp},
		"long":           {append(good, make([]byte, queryLimit)...), rcodeFormat},
		"long name":      {ask(5, strings.Repeat("aaaaaaa.", 32)+"b", typeA, 0), rcodeFormat},
		"two EDNS":       {append(change(11, 2), good[len(good)-11:]...), rcodeFormat},
		"no resolver":    {good, rcodeServer},
	} {
		answer := resolver.Answer(context.Background(), c.query, TransportUDP)
		if answer == nil || answer[1] != 5 || answer[2]&flagResponse == 0 || answer[3]&maskRcode != c.rcode {
			t.Errorf("%s: %x", name, answer)
		}
	}
	for name, query := range map[string][]byte{"empty": nil, "short": good[:11], "an answer": change(2, 0x81)} {
		if answer := resolver.Answer(context.Background(), query, TransportUDP); answer != nil {
			t.Errorf("%s: %x", name, answer)
		}
	}
}

func TestServersAreTriedInOrder(t *testing.T) {
	t.Parallel()
	refuses := dnsServer(t, func(_ string, query []byte) []byte { return answerTo(query, rcodeRefuse) })
	fails := dnsServer(t, func(_ string, query []byte) []byte { return answerTo(query, rcodeServer) })
	lies := dnsServer(t, func(_ string, query []byte) []byte {
		if query[13] == 'a' { // an answer to another question is no answer
			return answerTo(ask(binary.BigEndian.Uint16(query), "b.example", typeA, 0), rcodeOK)
		}
		return answerTo(query, rcodeNoName)
	})
	knows := dnsServer(t, func(_ string, query []byte) []byte {
		return answerTo(query, rcodeOK, rr("a.example", typeA, 1, 2, 3, 4))
	})
	for _, c := range []struct {
		name    string
		servers []netip.AddrPort
		rcode   byte
	}{
		{"c.example", []netip.AddrPort{closedPort(t), refuses, fails}, rcodeRefuse},
		{"c.example", []netip.AddrPort{fails, refuses, knows}, rcodeOK},
		{"c.example", []netip.AddrPort{lies, knows}, rcodeNoName},
		{"a.example", []netip.AddrPort{lies, knows}, rcodeOK},
		{"a.example", []netip.AddrPort{closedPort(t)}, rcodeServer},
	} {
		resolver := NewResolver(rules(t, `{"mode":"open"}`, c.servers...), nil)
		answer := resolver.Answer(context.Background(), ask(5, c.name, typeA, 1232), TransportUDP)
		if answer == nil || answer[3]&maskRcode != c.rcode {
			t.Errorf("%s: %x, want rcode %d", c.name, answer, c.rcode)
		}
	}
}

func TestLostQuestionsAreRepeated(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := dnsServer(t, func(_ string, query []byte) []byte {
		if asked.Add(1) == 1 {
			return nil
		}
		return answerTo(query, rcodeOK)
	})
	resolver := NewResolver(rules(t, `{"mode":"open"}`, server), nil)
	if answer := resolver.Answer(context.Background(), ask(5, "a.example", typeA, 0), TransportUDP); answer[3]&maskRcode != rcodeOK {
		t.Errorf("%x", answer)
	}
}

func TestLongAnswers(t *testing.T) {
	var records int32 = 1
	server := dnsServer(t, func(network string, query []byte) []byte {
		var all [][]byte
		for i := int32(0); i < atomic.LoadInt32(&records); i++ {
			all = append(all, rr("a.example", 16, bytes.Repeat([]byte{'x'}, 100)...))
		}
		message := answerTo(query, rcodeOK, all...)
		if network == "udp" && (len(message) > ednsSize || query[11] == 0 && len(message) > plainSize) {
			message = answerTo(query, rcodeOK)
			message[2] |= flagTruncated
		}
		return message
	})
	resolver := NewResolver(rules(t, `{"mode":"open"}`, server), nil)
	for _, c := range []struct {
		name      string
		records   int32
		size      uint16
		transport Transport
		truncated bool
		bytes     int // at least
	}{
		{"short", 1, 0, TransportUDP, false, 100},
		{"plain UDP", 8, 0, TransportUDP, true, 0},
		{"fits EDNS", 8, 4096, TransportUDP, false, 800},
		{"small EDNS", 8, 600, TransportUDP, true, 0},
		{"tiny EDNS", 4, 1, TransportUDP, false, 400},
		{"long by UDP", 100, 4096, TransportUDP, true, 0},
		{"long by TCP", 100, 0, TransportTCP, false, 10000},
		{"long by long UDP", 100, 0, TransportLongUDP, false, 10000},
		{"too long for that", 200, 0, TransportLongUDP, true, 0},
	} {
		atomic.StoreInt32(&records, c.records)
		answer := resolver.Answer(context.Background(), ask(5, "a.example", 16, c.size), c.transport)
		if got := answer[2]&flagTruncated != 0; got != c.truncated || len(answer) < c.bytes || !c.truncated && answer[7] == 0 {
			t.Errorf("%s: truncated %v, %d bytes", c.name, got, len(answer))
		}
		if c.transport == TransportUDP && len(answer) > plainSize && len(answer) > int(c.size) {
			t.Errorf("%s: %d bytes", c.name, len(answer))
		}
	}
}

func TestLookup(t *testing.T) {
	answers := map[string][][]byte{
		"plain.example": {rr("plain.example", typeA, 203, 0, 113, 1), rr("plain.example", typeA, 203, 0, 113, 2),
			rr("other.example", typeA, 203, 0, 113, 3)},
		"alias.example": {rr("b.example", typeA, 203, 0, 113, 4), rr("ALIAS.example", typeCNAME, wire("B.example")...)},
		"loop.example":  {rr("loop.example", typeCNAME, wire("loop.example")...)},
		"other.example": {rr("evil.example", typeA, 203, 0, 113, 5)},
		"short.example": {rr("short.example", typeA, 203, 0, 113)},
		"none.example":  nil,
	}
	server := dnsServer(t, func(_ string, query []byte) []byte {
		q, _, _ := parseQuestion(query)
		return answerTo(query, rcodeOK, answers[q.name]...)
	})
	resolver := NewResolver(rules(t, allowExample, server), nil)
	for name, want := range map[string]string{"plain.example": "[203.0.113.1 203.0.113.2]", "alias.example": "[203.0.113.4]",
		"loop.example": "", "other.example": "", "short.example": "", "none.example": "", "a..b": "", "10.0.0.1": "", "a.b.": ""} {
		addresses, err := resolver.Lookup(context.Background(), name)
		if want == "" {
			if err == nil {
				t.Errorf("%s: %v", name, addresses)
			}
			continue
		}
		if got := fmt.Sprint(addresses); got != want || err != nil {
			t.Errorf("%s: %s %v", name, got, err)
		}
	}
}

func TestQuestionsAreBounded(t *testing.T) {
	wait := make(chan struct{})
	resolver := NewResolver(rules(t, `{"mode":"open"}`, closedPort(t)), nil)
	resolver.Dial = func(context.Context, string, string) (net.Conn, error) { <-wait; return nil, net.ErrClosed }
	answers := make(chan []byte, questionsAtOnce)
	query := ask(5, "a.example", typeA, 0)
	for i := 0; i < questionsAtOnce; i++ {
		if !resolver.TryAnswer(query, TransportUDP, func(answer []byte) { answers <- answer }) {
			t.Fatalf("question %d was not taken", i)
		}
	}
	if resolver.TryAnswer(query, TransportUDP, func([]byte) { t.Error("answered") }) {
		t.Error("one too many was taken")
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if resolver.Answer(ended, query, TransportUDP) != nil {
		t.Error("answered without a place")
	}
	own := make(chan []byte, 1)
	if !resolver.TryAnswer(ask(5, "a.example", typeAAAA, 0), TransportUDP, func(answer []byte) { own <- answer }) || len(own) != 1 {
		t.Error("what needs nobody's help was not answered at once")
	}
	close(wait)
	for i := 0; i < questionsAtOnce; i++ {
		if answer := <-answers; answer[3]&maskRcode != rcodeServer {
			t.Errorf("%x", answer)
		}
	}
}
