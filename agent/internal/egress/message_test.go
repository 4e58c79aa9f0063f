package egress

import (
	"context"
	"strings"
	"testing"
)

func FuzzQuestion(f *testing.F) {
	f.Add(ask(5, "api.example.com", typeA, 1232))
	f.Add(ask(5, "a.example.org", typeHTTPS, 0))
	resolver := NewResolver(testRules(f, allowExample), nil)
	f.Fuzz(func(t *testing.T, query []byte) {
		for _, transport := range []Transport{TransportUDP, TransportTCP} {
			answer := resolver.Answer(context.Background(), query, transport)
			if answer == nil {
				if len(query) >= headerSize && query[2]&flagResponse == 0 {
					t.Error("no answer")
				}
				continue
			}
			if len(answer) < headerSize || len(answer) > plainSize || answer[0] != query[0] || answer[2]&flagResponse == 0 {
				t.Errorf("%x", answer)
			}
			if answer[3]&maskRcode == rcodeServer || answer[3]&maskRcode == rcodeOK { // It would be asked, or is allowed.
				if q, _, _ := parseQuestion(query); !isAllowedExample(q.name) {
					t.Errorf("%q is allowed", q.name)
				}
			}
		}
	})
}

func isAllowedExample(name string) bool {
	name = strings.ToLower(name)
	return name == "api.example.com" || strings.HasSuffix(name, ".example.org")
}

func FuzzAnswer(f *testing.F) {
	query := ask(5, "a.example", typeA, 1232)
	f.Add(answerTo(query, rcodeOK, rr("a.example", typeCNAME, wire("b.example")...), rr("b.example", typeA, 1, 2, 3, 4)))
	f.Add(answerTo(query, rcodeOK, []byte{0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4}))
	f.Fuzz(func(t *testing.T, message []byte) {
		if isAnswerTo(message, query) && len(answerAddresses(message)) > recordLimit {
			t.Error("too many addresses")
		}
	})
}
