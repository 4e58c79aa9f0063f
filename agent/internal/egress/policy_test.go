package egress

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func mustPolicy(t testing.TB, text string) *Policy {
	t.Helper()
	policy, err := ParsePolicy([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return policy
}

func TestParsePolicy(t *testing.T) {
	p := mustPolicy(t, `{"mode":"allow",
		"names":[{"name":"api.example.com","port":443},{"name":"*.example.org","port":80},{"name":"x.example","port":443}],
		"networks":[{"cidr":"203.0.113.0/24"},{"cidr":"198.51.100.7/32","port":25}],
		"resolvers":["10.0.0.1:53","[2001:db8::1]:53","127.0.0.53:53"]}`)
	if p.Mode() != ModeAllow || !reflect.DeepEqual(p.NamePorts(), []uint16{80, 443}) {
		t.Errorf("%v %v", p.Mode(), p.NamePorts())
	}
	want := "api.example.com:443 *.example.org:80 x.example:443 203.0.113.0/24 198.51.100.7:25"
	if got := strings.Join(p.Entries(), " "); got != want {
		t.Errorf("got %s", got)
	}
	if got := fmt.Sprint(p.Resolvers()); got != "[10.0.0.1:53 [2001:db8::1]:53 127.0.0.53:53]" {
		t.Errorf("got %s", got)
	}
	for _, text := range []string{`{"mode":"open"}`, `{"mode":"off","names":[],"networks":[],"resolvers":[]}`,
		` {"mode":"allow","networks":[{"cidr":"0.0.0.0/0","port":null}]} `} {
		mustPolicy(t, text)
	}
}

func TestPolicyIsStrict(t *testing.T) {
	entries := func(n int) string {
		return `{"mode":"allow","networks":[` + strings.Repeat(`{"cidr":"203.0.113.0/24"},`, n-1) +
			`{"cidr":"203.0.113.0/24"}],"names":[{"name":"a.b","port":1}]}`
	}
	mustPolicy(t, entries(entryLimit-1))
	for name, text := range map[string]string{
		"empty":           ``,
		"null":            `null`,
		"no mode":         `{}`,
		"unknown mode":    `{"mode":"warn"}`,
		"unknown field":   `{"mode":"open","deadlines":1}`,
		"unknown in name": `{"mode":"allow","names":[{"name":"a.b","port":1,"path":"/"}]}`,
		"trailing":        `{"mode":"open"}{}`,
		"names in open":   `{"mode":"open","names":[{"name":"a.b","port":443}]}`,
		"networks in off": `{"mode":"off","networks":[{"cidr":"203.0.113.0/24"}]}`,
		"no port":         `{"mode":"allow","names":[{"name":"a.b"}]}`,
		"port 0":          `{"mode":"allow","networks":[{"cidr":"203.0.113.0/24","port":0}]}`,
		"port 65536":      `{"mode":"allow","names":[{"name":"a.b","port":65536}]}`,
		"star":            `{"mode":"allow","names":[{"name":"*","port":443}]}`,
		"star dot":        `{"mode":"allow","names":[{"name":"*.","port":443}]}`,
		"two stars":       `{"mode":"allow","names":[{"name":"*.*.org","port":443}]}`,
		"inner star":      `{"mode":"allow","names":[{"name":"a.*.org","port":443}]}`,
		"upper case":      `{"mode":"allow","names":[{"name":"A.b","port":443}]}`,
		"final dot":       `{"mode":"allow","names":[{"name":"a.b.","port":443}]}`,
		"empty label":     `{"mode":"allow","names":[{"name":"a..b","port":443}]}`,
		"long label":      `{"mode":"allow","names":[{"name":"` + strings.Repeat("a", 64) + `.b","port":443}]}`,
		"long name":       `{"mode":"allow","names":[{"name":"` + strings.Repeat("a.", 126) + `bc","port":443}]}`,
		"an address":      `{"mode":"allow","names":[{"name":"10.0.0.1","port":443}]}`,
		"umlaut":          `{"mode":"allow","names":[{"name":"ä.b","port":443}]}`,
		"host bits":       `{"mode":"allow","networks":[{"cidr":"203.0.113.1/24"}]}`,
		"no mask":         `{"mode":"allow","networks":[{"cidr":"203.0.113.1"}]}`,
		"long mask":       `{"mode":"allow","networks":[{"cidr":"203.0.113.1/33"}]}`,
		"IPv6":            `{"mode":"allow","networks":[{"cidr":"2001:db8::/32"}]}`,
		"mapped":          `{"mode":"allow","networks":[{"cidr":"::ffff:1.2.3.4/128"}]}`,
		"resolver":        `{"mode":"open","resolvers":["dns.example:53"]}`,
		"resolver's port": `{"mode":"open","resolvers":["10.0.0.1:0"]}`,
		"resolvers":       `{"mode":"open","resolvers":["10.0.0.1:53"` + strings.Repeat(`,"10.0.0.1:53"`, resolverLimit) + `]}`,
		"entries":         entries(entryLimit),
		"size":            `{"mode":"open"}` + strings.Repeat(" ", policyLimit),
	} {
		if p, err := ParsePolicy([]byte(text)); err == nil {
			t.Errorf("%s: %v", name, p.Entries())
		}
	}
}

func TestAllowsName(t *testing.T) {
	p := mustPolicy(t, `{"mode":"allow","names":[{"name":"api.example.com","port":443},
		{"name":"*.example.org","port":80},{"name":"*.com","port":8080},{"name":"localhost","port":443}]}`)
	long := strings.Repeat("a.", 121) + "example.org" // 253 bytes
	for _, c := range []struct {
		name string
		port uint16
		want bool
	}{
		{"api.example.com", 443, true},
		{"API.Example.COM", 443, true},
		{"api.example.com", 80, false},
		{"api.example.com", 0, true}, // any
		{"x.api.example.com", 443, false},
		{"example.com", 443, false},
		{"api.example.com.", 443, false},
		{"api.example.com\x00", 443, false},
		{"api.example.comx", 443, false},
		{"xapi.example.com", 443, false},
		{"a.example.org", 80, true},
		{"a.b.c.example.org", 80, true},
		{"example.org", 80, false},
		{".example.org", 80, false},
		{"a..example.org", 80, false},
		{"*.example.org", 80, false},
		{"xexample.org", 80, false},
		{"a.example.org", 443, false},
		{"a.example.org.evil.net", 80, false},
		{"a/b.example.org", 80, false},
		{"evil.net/.example.org", 80, false},
		{"evil.net\x00.example.org", 80, false},
		{"evil.net@a.example.org", 80, false},
		{long, 80, true},
		{"a." + long, 80, false},
		{"anything.com", 8080, true},
		{"com", 8080, false},
		{"localhost", 443, true},
		{"", 443, false},
		{"10.0.0.1", 443, false},
	} {
		if got := p.AllowsName(c.name, c.port); got != c.want {
			t.Errorf("%q %d: got %v", c.name, c.port, got)
		}
	}
	if !p.AllowsSomePortOf("x.example.org") || p.AllowsSomePortOf("example.org") {
		t.Error("AllowsSomePortOf")
	}
}

func TestNamesThatLookLikeAddresses(t *testing.T) {
	for _, name := range []string{"127.1", "1", "0x7f000001", "a.0X7f", "a.0x", "10.0.0.1", "1.2.3"} {
		if isName(name) {
			t.Errorf("%q is a name", name)
		}
	}
	for _, name := range []string{"a", "1a", "1.a", "xn--bcher-kva.example", "_dmarc.a-b.c", "0x7g", "0y"} {
		if !isName(name) {
			t.Errorf("%q is no name", name)
		}
	}
}

const (
	pool    = "172.16.0.0/16"
	hostsIP = "198.51.100.2/32"
)

func testRules(t testing.TB, text string) *Rules {
	t.Helper()
	return NewRules(mustPolicy(t, text), FixedHost(netip.MustParsePrefix(hostsIP)), netip.MustParsePrefix(pool))
}

// TestDecide has one column for each policy.
func TestDecide(t *testing.T) {
	policies := []*Rules{
		testRules(t, `{"mode":"open"}`),
		testRules(t, `{"mode":"off"}`),
		testRules(t, `{"mode":"allow","names":[{"name":"a.example","port":443}],
			"networks":[{"cidr":"203.0.113.0/24"},{"cidr":"198.51.100.7/32","port":25},{"cidr":"10.1.0.0/16","port":443},
				{"cidr":"192.168.1.0/24"},{"cidr":"8.0.0.0/5","port":99}]}`),
		testRules(t, `{"mode":"allow","names":[{"name":"a.example","port":443}],"networks":[{"cidr":"0.0.0.0/0"}]}`),
	}
	for _, c := range []struct {
		protocol Protocol
		address  string
		port     uint16
		want     [4]string // "direct", "name" or the rule; then what would allow it
	}{
		{ProtocolTCP, "93.184.216.34", 25, [4]string{"direct", "off 93.184.216.34:25", "not-allowed 93.184.216.34:25", "direct"}},
		{ProtocolUDP, "93.184.216.34", 443, [4]string{"direct", "off 93.184.216.34:443", "not-allowed 93.184.216.34:443", "direct"}},
		{ProtocolTCP, "93.184.216.34", 443, [4]string{"direct", "off 93.184.216.34:443", "name", "direct"}},
		{ProtocolICMP, "93.184.216.34", 7, [4]string{"direct", "off 93.184.216.34", "not-allowed 93.184.216.34", "direct"}},
		{ProtocolOther, "93.184.216.34", 0, [4]string{"not-allowed", "off", "not-allowed", "not-allowed"}},
		{"sctp", "203.0.113.1", 0, [4]string{"not-allowed", "off", "not-allowed", "not-allowed"}},
		{ProtocolTCP, "93.184.216.34", 0, [4]string{"malformed", "malformed", "malformed", "malformed"}},
		{ProtocolTCP, "203.0.113.255", 443, [4]string{"direct", "off 203.0.113.255:443", "direct", "direct"}},
		{ProtocolUDP, "203.0.113.0", 53, [4]string{"direct", "off 203.0.113.0:53", "direct", "direct"}},
		{ProtocolICMP, "203.0.113.1", 0, [4]string{"direct", "off 203.0.113.1", "direct", "direct"}},
		{ProtocolTCP, "203.0.114.0", 80, [4]string{"direct", "off 203.0.114.0:80", "not-allowed 203.0.114.0:80", "direct"}},
		{ProtocolTCP, "198.51.100.7", 25, [4]string{"direct", "off 198.51.100.7:25", "direct", "direct"}},
		{ProtocolTCP, "198.51.100.7", 26, [4]string{"direct", "off 198.51.100.7:26", "not-allowed 198.51.100.7:26", "direct"}},
		{ProtocolICMP, "198.51.100.7", 0, [4]string{"direct", "off 198.51.100.7", "not-allowed 198.51.100.7", "direct"}},
		{ProtocolTCP, "10.1.2.3", 443, [4]string{"private 10.1.2.3:443", "off 10.1.2.3:443", "direct", "private 10.1.2.3:443"}},
		{ProtocolTCP, "10.1.2.3", 80, [4]string{"private 10.1.2.3:80", "off 10.1.2.3:80", "private 10.1.2.3:80", "private 10.1.2.3:80"}},
		{ProtocolTCP, "10.2.0.0", 443, [4]string{"private 10.2.0.0:443", "off 10.2.0.0:443", "private 10.2.0.0:443", "private 10.2.0.0:443"}},
		{ProtocolTCP, "10.2.0.0", 99, [4]string{"private 10.2.0.0:99", "off 10.2.0.0:99", "private 10.2.0.0:99", "private 10.2.0.0:99"}},
		{ProtocolTCP, "11.2.0.0", 99, [4]string{"direct", "off 11.2.0.0:99", "direct", "direct"}},
		{ProtocolICMP, "192.168.1.5", 0, [4]string{"private 192.168.1.5", "off 192.168.1.5", "direct", "private 192.168.1.5"}},
		{ProtocolUDP, "172.31.255.255", 1, [4]string{"private 172.31.255.255:1", "off 172.31.255.255:1", "private 172.31.255.255:1", "private 172.31.255.255:1"}},
		{ProtocolUDP, "172.32.0.0", 1, [4]string{"direct", "off 172.32.0.0:1", "not-allowed 172.32.0.0:1", "direct"}},
		{ProtocolTCP, "100.64.0.1", 1, [4]string{"private 100.64.0.1:1", "off 100.64.0.1:1", "private 100.64.0.1:1", "private 100.64.0.1:1"}},
		{ProtocolTCP, "192.0.0.8", 1, [4]string{"private 192.0.0.8:1", "off 192.0.0.8:1", "private 192.0.0.8:1", "private 192.0.0.8:1"}},
		{ProtocolTCP, "198.19.9.9", 1, [4]string{"private 198.19.9.9:1", "off 198.19.9.9:1", "private 198.19.9.9:1", "private 198.19.9.9:1"}},
		{ProtocolTCP, "168.63.129.16", 80, [4]string{"private 168.63.129.16:80", "off 168.63.129.16:80", "private 168.63.129.16:80", "private 168.63.129.16:80"}},
		{ProtocolTCP, "168.63.129.17", 80, [4]string{"direct", "off 168.63.129.17:80", "not-allowed 168.63.129.17:80", "direct"}},
		{ProtocolTCP, "0.0.0.0", 443, [4]string{"never", "never", "never", "never"}},
		{ProtocolTCP, "127.0.0.1", 443, [4]string{"never", "never", "never", "never"}},
		{ProtocolTCP, "169.254.169.254", 80, [4]string{"never", "never", "never", "never"}},
		{ProtocolUDP, "224.0.0.251", 5353, [4]string{"never", "never", "never", "never"}},
		{ProtocolUDP, "255.255.255.255", 67, [4]string{"never", "never", "never", "never"}},
		{ProtocolTCP, "172.16.255.255", 443, [4]string{"never", "never", "never", "never"}},
		{ProtocolTCP, "198.51.100.2", 443, [4]string{"host", "host", "host", "host"}},
		{ProtocolTCP, "::ffff:198.51.100.2", 443, [4]string{"host", "host", "host", "host"}},
		{ProtocolTCP, "2001:db8::1", 443, [4]string{"ip6", "ip6", "ip6", "ip6"}},
		{ProtocolTCP, "::1", 443, [4]string{"ip6", "ip6", "ip6", "ip6"}},
	} {
		for i, rules := range policies {
			d := rules.Decide(c.protocol, netip.MustParseAddr(c.address), c.port)
			got := strings.TrimSpace(string(d.Rule) + " " + d.Allow)
			switch d.Action {
			case Direct:
				got += "direct"
			case ByName:
				got += "name"
			}
			if got != c.want[i] {
				t.Errorf("policy %d: %s %s %d: got %s", i, c.protocol, c.address, c.port, got)
			}
		}
	}
	if d := policies[0].Decide(ProtocolTCP, netip.Addr{}, 1); d.Action != Refuse {
		t.Errorf("no address: %v", d)
	}
}

func TestDecideNames(t *testing.T) {
	open, off := testRules(t, `{"mode":"open"}`), testRules(t, `{"mode":"off"}`)
	allow := testRules(t, `{"mode":"allow","names":[{"name":"a.example","port":443}],
		"networks":[{"cidr":"10.0.0.5/32","port":443},{"cidr":"0.0.0.0/0"}]}`)
	for _, c := range []struct {
		got  Decision
		want Decision
	}{
		{open.DecideName("x.example", 443), Decision{Action: Direct}},
		{off.DecideName("x.example", 443), Decision{Rule: RuleOff, Allow: "x.example:443"}},
		{allow.DecideName("a.example", 443), Decision{Action: Direct}},
		{allow.DecideName("a.example", 80), Decision{Rule: RuleNameNotAllowed, Allow: "a.example:80"}},
		{open.DecideQuestion("x.example"), Decision{Action: Direct}},
		{off.DecideQuestion("x.example"), Decision{Rule: RuleOff, Allow: "x.example"}},
		{allow.DecideQuestion("A.example"), Decision{Action: Direct}},
		{allow.DecideQuestion("x.example"), Decision{Rule: RuleNameNotAllowed, Allow: "x.example"}},
		{allow.DecideAnswer(netip.MustParseAddr("93.184.216.34"), 443), Decision{Action: Direct}},
		{allow.DecideAnswer(netip.MustParseAddr("10.0.0.5"), 443), Decision{Action: Direct}},
		{allow.DecideAnswer(netip.MustParseAddr("10.0.0.5"), 80), Decision{Rule: RulePrivateAnswer, Allow: "10.0.0.5:80"}},
		{allow.DecideAnswer(netip.MustParseAddr("10.0.0.6"), 443), Decision{Rule: RulePrivateAnswer, Allow: "10.0.0.6:443"}},
		{allow.DecideAnswer(netip.MustParseAddr("127.0.0.1"), 443), Decision{Rule: RulePrivateAnswer}},
		{allow.DecideAnswer(netip.MustParseAddr("172.16.3.2"), 443), Decision{Rule: RulePrivateAnswer}},
		{allow.DecideAnswer(netip.MustParseAddr("198.51.100.2"), 443), Decision{Rule: RulePrivateAnswer}},
		{allow.DecideAnswer(netip.MustParseAddr("2001:db8::1"), 443), Decision{Rule: RulePrivateAnswer}},
	} {
		if c.got != c.want {
			t.Errorf("got %+v, want %+v", c.got, c.want)
		}
	}
}

func TestChangesAreTold(t *testing.T) {
	networks := []netip.Prefix{netip.MustParsePrefix(hostsIP)}
	host := FixedHost()
	host.read = func() ([]netip.Prefix, error) { return networks, nil }
	rules := NewRules(mustPolicy(t, `{"mode":"open"}`), host)
	told := 0
	rules.OnChange(func() { told++ })
	address := netip.MustParseAddr("198.51.100.2")
	if rules.Decide(ProtocolTCP, address, 80).Action != Direct {
		t.Error("refused too early")
	}
	for i := 0; i < 2; i++ { // The second time nothing has changed.
		if err := host.Refresh(); err != nil || told != 1 {
			t.Errorf("told %d times, %v", told, err)
		}
	}
	if rules.Decide(ProtocolTCP, address, 80).Rule != RuleHost {
		t.Error("the host's address is reached")
	}
	host.read = func() ([]netip.Prefix, error) { return nil, errShort }
	if host.Refresh() == nil || !host.Contains(address) {
		t.Error("a failure made the host forget its address")
	}
	rules.Update(mustPolicy(t, `{"mode":"off"}`))
	if told != 2 || rules.Decide(ProtocolTCP, netip.MustParseAddr("93.184.216.34"), 80).Rule != RuleOff {
		t.Errorf("told %d times", told)
	}
}

func TestRanges(t *testing.T) {
	r := newRanges("203.0.113.128/25", "203.0.113.0/25", "198.51.100.0/24", "198.51.100.9/32", "2001:db8::/32", "255.0.0.0/8")
	if len(r) != 3 {
		t.Errorf("%v", r)
	}
	for address, want := range map[string]bool{"203.0.113.0": true, "203.0.113.255": true, "203.0.112.255": false,
		"203.0.114.0": false, "198.51.100.10": true, "255.255.255.255": true, "0.0.0.0": false, "254.255.255.255": false} {
		if r.contains(netip.MustParseAddr(address)) != want {
			t.Errorf("%s: not %v", address, want)
		}
	}
	if all := newRanges("0.0.0.0/0", "10.0.0.0/8"); len(all) != 1 || !all.contains(netip.MustParseAddr("255.255.255.255")) {
		t.Errorf("%v", all)
	}
}
