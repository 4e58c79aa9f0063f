package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// earlierRules returns the same as a version wrote them that knew no seals, as JSON: only that has a chain of this name.
func (w *world) earlierRules() string {
	w.t.Helper()
	unsealed := strings.ReplaceAll(sealedRules, ", rules: 2", "")
	w.nft("flush ruleset;" + regexp.MustCompile(` comment "rules: \d+"`).ReplaceAllString(unsealed, ""))
	listed := strings.ReplaceAll(w.in(w.host, "nft", "-j", "list", "ruleset"), `"source_nat"`, `"masquerade"`)
	listed = regexp.MustCompile(`, "handle": \d+`).ReplaceAllString(listed, "")
	var ruleset struct {
		Nftables []map[string]json.RawMessage `json:"nftables"`
	}
	if err := json.Unmarshal([]byte(listed), &ruleset); err != nil {
		w.t.Fatal(err)
	}
	var commands []interface{}
	for _, table := range []string{`"inet", "name": "smolvm"`, `"arp", "name": "smolvm"`, `"ip", "name": "theirs"`} {
		for _, verb := range []string{"add", "delete"} {
			commands = append(commands, json.RawMessage(fmt.Sprintf(`{"%s": {"table": {"family": %s}}}`, verb, table)))
		}
	}
	// Maps are listed before the chains that they lead to, but cannot be made before them.
	for _, kind := range []string{"table", "chain", "set", "map", "rule"} {
		for _, item := range ruleset.Nftables {
			if item[kind] != nil {
				commands = append(commands, item)
			}
		}
	}
	w.nft("flush ruleset;" + sealedRules)
	text, _ := json.Marshal(map[string]interface{}{"nftables": commands})
	return string(text)
}

func TestSentinelLeavesAloneWhatAnEarlierVersionHasWritten(t *testing.T) {
	w := newSentinelWorld(t)
	earlier := w.earlierRules()
	w.watched()
	const note = "an earlier version has written the rules"
	for i := 0; i < 3; i++ {
		w.nft(earlier, "-j")
	}
	w.await("it notes that", func() bool { return strings.Contains(w.log(), note) })
	w.settled()
	for _, chain := range []string{"forward", "forward1", "masquerade"} {
		w.nft(`{"nftables": [{"flush": {"chain": {"family": "inet", "table": "smolvm", "name": "`+chain+`"}}}]}`, "-j")
		w.await("down with nothing in "+chain, func() bool { return !w.isUp() })
		w.nft(earlier, "-j")
		w.await("up again", w.isUp)
	}
	w.nft(removal + sealedRules)
	w.settled()
	// A first rule that was removed is none of an earlier version, though its seal has gone with it.
	for _, chain := range []string{"to_host", "forward"} {
		listed := w.in(w.host, "nft", "-a", "list", "chain", "inet", "smolvm", chain)
		handle := strings.Fields(listed[strings.Index(listed, "2\" # handle ")+len("2\" # handle "):])[0]
		w.nft("delete rule inet smolvm " + chain + " handle " + handle)
		w.await("down without the first rule of "+chain, func() bool { return !w.isUp() })
		w.nft(removal + sealedRules)
		w.await("up again", w.isUp)
	}
	// Each time for a cause of this test: "settled" twice, three chains, two rules.
	if log := w.log(); strings.Count(log, ": down") != 7 {
		t.Errorf("log: %s", log)
	}
}
