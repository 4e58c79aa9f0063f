package tapguard

import (
	"net/netip"
	"syscall"
	"testing"

	"smolvm.dev/agent/internal/egress"
)

func TestDenialOf(t *testing.T) {
	policy, err := egress.ParsePolicy([]byte(`{"mode":"allow","networks":[{"cidr":"203.0.113.0/24"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	rules := egress.NewRules(policy, egress.FixedHost(), guestNetworks)
	outside := netip.MustParseAddr("93.184.216.34")
	to := func(address string) []byte {
		data := append([]byte(nil), tcpPacket...)
		copy(data[16:], netip.MustParseAddr(address).AsSlice())
		return data
	}
	six := make([]byte, ipv6Header)
	copy(six[ipv6Destination:], netip.MustParseAddr("2001:db8::1").AsSlice())
	tests := []struct {
		name string
		Logged
		want egress.Denial
	}{
		{"not allowed", Logged{"not-allowed", syscall.AF_INET, tcpPacket},
			egress.Denial{Protocol: "tcp", Address: outside, Port: 25, Rule: "not-allowed", Allow: "93.184.216.34:25"}},
		{"space in the prefix", Logged{"off ", syscall.AF_INET, tcpPacket},
			egress.Denial{Protocol: "tcp", Address: outside, Port: 25, Rule: "off", Allow: "93.184.216.34:25"}},
		{"allowed meanwhile", Logged{"not-allowed", syscall.AF_INET, to("203.0.113.1")},
			egress.Denial{Protocol: "tcp", Address: netip.MustParseAddr("203.0.113.1"), Port: 25, Rule: "not-allowed"}},
		{"private", Logged{"private", syscall.AF_INET, to("10.0.0.1")},
			egress.Denial{Protocol: "tcp", Address: netip.MustParseAddr("10.0.0.1"), Port: 25, Rule: "private",
				Allow: "10.0.0.1:25"}},
		{"another guest", Logged{"never", syscall.AF_INET, to("172.16.9.2")},
			egress.Denial{Protocol: "tcp", Address: netip.MustParseAddr("172.16.9.2"), Port: 25, Rule: "never"}},
		{"spoofed", Logged{"spoofed", syscall.AF_INET, tcpPacket},
			egress.Denial{Protocol: "tcp", Address: outside, Port: 25, Rule: "malformed"}},
		{"cut off", Logged{"not-allowed", syscall.AF_INET, tcpPacket[:8]},
			egress.Denial{Protocol: "other", Rule: "not-allowed"}},
		{"ARP", Logged{"spoofed", 3, []byte{0, 1, 8, 0}}, egress.Denial{Protocol: "other", Rule: "malformed"}},
		{"IPv6", Logged{"ip6", syscall.AF_INET6, six},
			egress.Denial{Protocol: "ip6", Address: netip.MustParseAddr("2001:db8::1"), Rule: "ip6"}},
	}
	for _, test := range tests {
		if got := denialOf(test.Logged, rules); got != test.want {
			t.Errorf("%s:\n got %+v\nwant %+v", test.name, got, test.want)
		}
	}
}
