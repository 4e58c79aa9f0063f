package egress

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"unsafe"
)

const (
	netlinkReceive  = 64 << 10
	dumpTries       = 4
	tapPrefix       = "svm" // how the names of SmolVM's TAP devices begin
	ipv4Bits        = 32
	solNetlink      = 270  // SOL_NETLINK
	getStrictCheck  = 12   // NETLINK_GET_STRICT_CHK: the kernel, since 4.20, leaves out what is not asked for
	dumpInterrupted = 0x10 // NLM_F_DUMP_INTR: the table changed meanwhile
)

var (
	errInterrupted = errors.New("the routing table changed while it was read")
	errShort       = errors.New("short message from the kernel")
)

// HostNetworks reads what leads to the host itself: the addresses of its interfaces, and the local routes, which may
// be whole ranges that no interface has (ip route add local, IPVS, a cloud's load balancer). The networks of our TAP
// devices count whole: a guest lives in each. IPv4 only.
func HostNetworks() ([]netip.Prefix, error) {
	addresses, err := syscall.NetlinkRIB(syscall.RTM_GETADDR, syscall.AF_INET)
	if err != nil {
		return nil, err
	}
	own, err := ownNetworks(addresses)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		routes, err := readLocalRoutes()
		if err == nil || try == dumpTries {
			return append(own, routes...), err
		}
	}
}

// ownNetworks reads a dump of addresses. Each comes with its interface's name as its label.
func ownNetworks(dump []byte) ([]netip.Prefix, error) {
	messages, err := syscall.ParseNetlinkMessage(dump)
	if err != nil {
		return nil, err
	}
	var own []netip.Prefix
	for i := range messages {
		if messages[i].Header.Type != syscall.RTM_NEWADDR {
			continue
		}
		if len(messages[i].Data) < syscall.SizeofIfAddrmsg {
			return nil, errShort
		}
		bits := int(messages[i].Data[1]) // Prefixlen of IfAddrmsg
		attributes, err := syscall.ParseNetlinkRouteAttr(&messages[i])
		if err != nil {
			return nil, err
		}
		if network, ok := ownNetwork(attributes, bits); ok {
			own = append(own, network)
		}
	}
	return own, nil
}

func ownNetwork(attributes []syscall.NetlinkRouteAttr, bits int) (network netip.Prefix, ok bool) {
	var local, other netip.Addr // Where there is no peer both are the same, or the first is missing.
	isTap := false
	for _, attribute := range attributes {
		switch attribute.Attr.Type {
		case syscall.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(attribute.Value)
		case syscall.IFA_ADDRESS:
			other, _ = netip.AddrFromSlice(attribute.Value)
		case syscall.IFA_LABEL:
			isTap = strings.HasPrefix(string(attribute.Value), tapPrefix)
		}
	}
	if !local.Is4() {
		local = other
	}
	if !local.Is4() || bits > ipv4Bits {
		return network, false
	}
	if !isTap {
		bits = ipv4Bits
	}
	return netip.PrefixFrom(local, bits).Masked(), true
}

func readLocalRoutes() ([]netip.Prefix, error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	_ = syscall.SetsockoptInt(fd, solNetlink, getStrictCheck, 1)
	const size = syscall.SizeofNlMsghdr + syscall.SizeofRtMsg
	var request struct {
		header syscall.NlMsghdr
		route  syscall.RtMsg
	}
	request.header = syscall.NlMsghdr{Len: size, Type: syscall.RTM_GETROUTE, Seq: 1,
		Flags: syscall.NLM_F_REQUEST | syscall.NLM_F_DUMP}
	request.route = syscall.RtMsg{Family: syscall.AF_INET, Table: syscall.RT_TABLE_LOCAL, Type: syscall.RTN_LOCAL}
	message := (*[size]byte)(unsafe.Pointer(&request))[:]
	if err := syscall.Sendto(fd, message, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return nil, err
	}
	var routes []netip.Prefix
	buffer := make([]byte, netlinkReceive)
	for {
		n, _, err := syscall.Recvfrom(fd, buffer, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		more, done, err := localRoutes(buffer[:n])
		if errors.Is(err, syscall.ENOENT) {
			return nil, nil // No such table yet: this network namespace has no address at all.
		}
		if err != nil {
			return nil, err
		}
		routes = append(routes, more...)
		if done {
			return routes, nil
		}
	}
}

// localRoutes reads one datagram of a route dump.
func localRoutes(data []byte) (routes []netip.Prefix, done bool, err error) {
	messages, err := syscall.ParseNetlinkMessage(data)
	if err != nil {
		return nil, false, err
	}
	for _, message := range messages {
		if message.Header.Flags&dumpInterrupted != 0 {
			return nil, false, errInterrupted
		}
		switch message.Header.Type {
		case syscall.NLMSG_DONE, syscall.NLMSG_ERROR:
			// Both begin with an error number, negated; a dump that the kernel gave up ends with one too.
			if len(message.Data) < int(unsafe.Sizeof(int32(0))) {
				return nil, false, errShort
			}
			if number := *(*int32)(unsafe.Pointer(&message.Data[0])); number != 0 {
				return nil, false, syscall.Errno(-number)
			}
			return routes, true, nil
		case syscall.RTM_NEWROUTE:
			network, ok, err := localRoute(&message)
			if err != nil {
				return nil, false, err
			}
			if ok {
				routes = append(routes, network)
			}
		}
	}
	return routes, false, nil
}

// localRoute returns the destination of a route of the table "local" that leads to the host; false for others. Other
// tables are left out: who marks packets for a transparent proxy has "local 0.0.0.0/0" there.
func localRoute(message *syscall.NetlinkMessage) (network netip.Prefix, ok bool, err error) {
	if len(message.Data) < syscall.SizeofRtMsg {
		return network, false, errShort
	}
	route := (*syscall.RtMsg)(unsafe.Pointer(&message.Data[0]))
	if route.Family != syscall.AF_INET || route.Type != syscall.RTN_LOCAL || route.Table != syscall.RT_TABLE_LOCAL ||
		route.Dst_len > ipv4Bits {
		return network, false, nil
	}
	attributes, err := syscall.ParseNetlinkRouteAttr(message)
	if err != nil {
		return network, false, err
	}
	destination := netip.IPv4Unspecified()
	for _, attribute := range attributes {
		if attribute.Attr.Type == syscall.RTA_DST {
			if len(attribute.Value) != net.IPv4len {
				return network, false, errShort
			}
			destination, _ = netip.AddrFromSlice(attribute.Value)
		}
	}
	return netip.PrefixFrom(destination, int(route.Dst_len)), true, nil
}
