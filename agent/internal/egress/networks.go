package egress

import (
	"encoding/binary"
	"net/netip"
	"sort"
)

var (
	// never is what no guest reaches, whatever its policy says (RFC 6890, and the class D and E of RFC 1112).
	never = newRanges("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")
	// privateNetworks are somebody's own: RFC 1918, RFC 6598, RFC 6890, RFC 2544, and the address at which a host in
	// Azure answers its guests.
	privateNetworks = []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("100.64.0.0/10"),
		netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
		netip.MustParsePrefix("168.63.129.16/32"),
	}
	private = rangesOf(privateNetworks)
)

// ranges is a set of IPv4 addresses: in order, none touching the next.
type ranges []addressRange

type addressRange struct{ first, last uint32 }

func newRanges(cidrs ...string) ranges {
	var prefixes []netip.Prefix
	for _, cidr := range cidrs {
		prefixes = append(prefixes, netip.MustParsePrefix(cidr))
	}
	return rangesOf(prefixes)
}

// rangesOf leaves out what is not IPv4.
func rangesOf(prefixes []netip.Prefix) ranges {
	var all ranges
	for _, prefix := range prefixes {
		if prefix.Addr().Is4() {
			all = append(all, rangeOf(prefix))
		}
	}
	return all.merged()
}

// AddressRange is from its first to its last address.
type AddressRange struct{ First, Last uint32 }

// Closed lists the addresses that no guest reaches, and the private ones, as the packet filter must know them.
func Closed() (unreached, privates []AddressRange) {
	list := func(all ranges) (out []AddressRange) {
		for _, r := range all {
			out = append(out, AddressRange{r.first, r.last})
		}
		return out
	}
	return list(never), list(private)
}

func rangeOf(prefix netip.Prefix) addressRange {
	first := number(prefix.Masked().Addr())
	return addressRange{first, first | uint32(uint64(1)<<(32-prefix.Bits())-1)}
}

func number(address netip.Addr) uint32 {
	bytes := address.As4()
	return binary.BigEndian.Uint32(bytes[:])
}

// merged sorts the ranges and joins those that meet.
func (r ranges) merged() ranges {
	sort.Slice(r, func(i, j int) bool { return r[i].first < r[j].first })
	var out ranges
	for _, next := range r {
		if n := len(out); n > 0 && uint64(next.first) <= uint64(out[n-1].last)+1 {
			if next.last > out[n-1].last {
				out[n-1].last = next.last
			}
			continue
		}
		out = append(out, next)
	}
	return out
}

// contains takes an IPv4 address.
func (r ranges) contains(address netip.Addr) bool {
	n := number(address)
	at := sort.Search(len(r), func(i int) bool { return r[i].last >= n })
	return at < len(r) && r[at].first <= n
}

func (r ranges) equal(other ranges) bool {
	if len(r) != len(other) {
		return false
	}
	for i := range r {
		if r[i] != other[i] {
			return false
		}
	}
	return true
}

// networks are the entries of a policy that have an address. Those that lie wholly in a private network are kept a
// second time: only they open private addresses, so that 0.0.0.0/0 opens none.
type networks struct{ all, private portRanges }

// portRanges has the ranges of every port under anyPort.
type portRanges map[uint16]ranges

func (n *networks) add(prefix netip.Prefix, port uint16) {
	if n.all == nil {
		n.all, n.private = portRanges{}, portRanges{}
	}
	n.all[port] = append(n.all[port], rangeOf(prefix))
	for _, network := range privateNetworks {
		if network.Contains(prefix.Addr()) && prefix.Bits() >= network.Bits() {
			n.private[port] = append(n.private[port], rangeOf(prefix))
		}
	}
}

func (n *networks) finish() {
	for _, set := range []portRanges{n.all, n.private} {
		for port, unsorted := range set {
			set[port] = unsorted.merged()
		}
	}
}

// allow tells whether an entry covers the address on that port; anyPort: on every port.
func (n *networks) allow(address netip.Addr, port uint16) bool {
	set := n.all
	if private.contains(address) {
		set = n.private
	}
	return set[anyPort].contains(address) || port != anyPort && set[port].contains(address)
}
