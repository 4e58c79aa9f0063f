package tapguard

import (
	"net/netip"
	"testing"

	"smolvm.dev/agent/internal/egress"
)

// tcpPacket goes to 93.184.216.34:25 and has IP options.
var tcpPacket = []byte{
	0x46, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0, 0, 172, 16, 0, 2, 93, 184, 216, 34,
	1, 1, 1, 0,
	0x9c, 0x40, 0, 25,
}

func changed(data []byte, index int, value byte) []byte {
	copied := append([]byte(nil), data...)
	copied[index] = value
	return copied
}

func TestParseIPv4(t *testing.T) {
	ping := changed(changed(tcpPacket, 9, 1), 24, 8)
	tests := []struct {
		name     string
		data     []byte
		ok       bool
		protocol egress.Protocol
		port     uint16
	}{
		{"whole", tcpPacket, true, egress.ProtocolTCP, 25},
		{"cut before the ports", tcpPacket[:27], true, egress.ProtocolTCP, 0},
		{"cut in the options", tcpPacket[:21], true, egress.ProtocolTCP, 0},
		{"header only", tcpPacket[:20], true, egress.ProtocolTCP, 0},
		{"UDP", changed(tcpPacket, 9, 17), true, egress.ProtocolUDP, 25},
		{"ping", ping, true, egress.ProtocolICMP, 0},
		{"other ICMP", changed(ping, 24, 13), true, egress.ProtocolOther, 0},
		{"later fragment of a ping", changed(ping, 7, 1), true, egress.ProtocolOther, 0},
		{"SCTP", changed(tcpPacket, 9, 132), true, egress.ProtocolOther, 0},
		{"later fragment", changed(tcpPacket, 7, 1), true, egress.ProtocolTCP, 0},
		{"short", tcpPacket[:19], false, "", 0},
		{"header length below 20", changed(tcpPacket, 0, 0x44), false, "", 0},
		{"IPv6", changed(tcpPacket, 0, 0x65), false, "", 0},
		{"empty", nil, false, "", 0},
	}
	for _, test := range tests {
		got, ok := parseIPv4(test.data)
		if ok != test.ok || got.port != test.port || got.protocol != test.protocol {
			t.Errorf("%s: %+v %v", test.name, got, ok)
		}
		if ok && got.address != netip.MustParseAddr("93.184.216.34") {
			t.Errorf("%s: %s", test.name, got.address)
		}
	}
}

func TestIPv6Target(t *testing.T) {
	data := make([]byte, ipv6Header)
	for _, text := range []string{"2001:db8::1", "ff02::2"} {
		address := netip.MustParseAddr(text)
		copy(data[ipv6Destination:], address.AsSlice())
		want := address
		if address.IsMulticast() {
			want = netip.Addr{}
		}
		if got := ipv6Target(data); got != want {
			t.Errorf("%s: %s", text, got)
		}
	}
	if got := ipv6Target(data[:ipv6Header-1]); got.IsValid() {
		t.Errorf("cut off: %s", got)
	}
}
