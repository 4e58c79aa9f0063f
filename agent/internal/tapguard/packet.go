package tapguard

import (
	"encoding/binary"
	"net/netip"

	"smolvm.dev/agent/internal/egress"
)

// From RFC 791 and the registry of protocol numbers.
const (
	ipv4Header     = 20
	fragmentMask   = 0x1fff
	portsSize      = 4
	protocolOffset = 9
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	echoRequest    = 8
	// ipv6Header and ipv6Destination are of RFC 8200.
	ipv6Header      = 40
	ipv6Destination = 24
)

// target is what the beginning of an IPv4 packet says about where it goes.
type target struct {
	protocol egress.Protocol
	address  netip.Addr
	// port is 0 where the protocol has none, and in a fragment that is not the first.
	port uint16
}

// parseIPv4 reads a packet that may be cut off after its header.
func parseIPv4(data []byte) (target, bool) {
	if len(data) < ipv4Header || data[0]>>4 != 4 {
		return target{}, false
	}
	header := int(data[0]&0x0f) * 4
	if header < ipv4Header {
		return target{}, false
	}
	t := target{protocol: egress.ProtocolOther}
	t.address, _ = netip.AddrFromSlice(data[16:20])
	payload := []byte(nil)
	if first := binary.BigEndian.Uint16(data[6:])&fragmentMask == 0; first && len(data) > header {
		payload = data[header:]
	}
	switch data[protocolOffset] {
	case protocolTCP:
		t.protocol = egress.ProtocolTCP
	case protocolUDP:
		t.protocol = egress.ProtocolUDP
	case protocolICMP:
		if len(payload) > 0 && payload[0] == echoRequest {
			t.protocol = egress.ProtocolICMP
		}
		return t, true
	default:
		return t, true
	}
	if len(payload) >= portsSize {
		t.port = binary.BigEndian.Uint16(payload[2:])
	}
	return t, true
}

// ipv6Target is where an IPv6 packet goes; the zero address for groups, which every IPv6 stack talks to unasked.
func ipv6Target(data []byte) netip.Addr {
	if len(data) < ipv6Header {
		return netip.Addr{}
	}
	address, _ := netip.AddrFromSlice(data[ipv6Destination:ipv6Header])
	if address.IsMulticast() {
		return netip.Addr{}
	}
	return address
}
