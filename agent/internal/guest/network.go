package guest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

var errNoInterface = errors.New("the guest has no network interface")

const (
	noDuplicateCheck = 0x02 // IFA_F_NODAD: the address is usable at once; the host has made sure it is unique
	onLink           = 0x04 // RTNH_F_ONLINK: the gateway need not lie in the subnet
)

// Network is the guest's one interface. It is looked up once: a copy has the same. What was set is remembered, and is
// true as long as nobody but the agent has run.
type Network struct {
	name  string
	index uint32

	isUp       bool
	mtu        uint32
	hasAddress bool

	netlink *netlink // kept: a copy need not open its own
}

// apply sets up the interface. The addresses given are the whole set: a clone must not keep those of the machine that
// it was copied from.
func (w *Network) apply(s *settings) {
	if w.netlink == nil {
		opened, err := openNetlink()
		if err != nil {
			s.warn("set up the network", err)
			return
		}
		w.netlink = opened
	}
	n := w.netlink
	if w.index == 0 || !s.untouched && n.interfaceName(w.index) != w.name {
		if w.name, w.index = firstInterface(); w.index == 0 {
			s.warn("set up the network", errNoInterface)
			return
		}
	}
	if s.needsIPv6() {
		switchIPv6(w.name, "0")
	}
	if s.untouched && w.isUp && s.mac != nil && (s.mtu == 0 || s.mtu == w.mtu) {
		s.warn("set the address of "+w.name, n.setHardwareAddress(w.name, s.mac))
	} else {
		s.warn("bring up "+w.name, n.linkUp(w.name, w.index, s))
	}
	if len(s.addresses) > 0 && !(s.untouched && !w.hasAddress) {
		s.warn("remove old addresses", n.removeOthers(w.index, s.addresses))
	}
	w.isUp, w.hasAddress = true, w.hasAddress || len(s.addresses) > 0
	if s.mtu != 0 {
		w.mtu = s.mtu
	}
	for _, address := range s.addresses {
		s.warn("add address "+address.String(), n.address(syscall.RTM_NEWADDR,
			syscall.NLM_F_CREATE|syscall.NLM_F_REPLACE, w.index, address))
	}
	for _, gateway := range s.gateways {
		s.warn("add gateway "+gateway.String(), n.defaultRoute(w.index, gateway))
	}
}

// firstInterface prefers interfaces that stand for a device over those that only the kernel made.
func firstInterface() (name string, index uint32) {
	const class = "/sys/class/net/"
	dir, err := os.Open(class)
	if err != nil {
		return "", 0
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	sort.Strings(names)
	for _, candidate := range names {
		if _, err := os.Stat(class + candidate + "/device"); err != nil || candidate == "lo" {
			continue
		}
		text, err := os.ReadFile(class + candidate + "/ifindex")
		if err != nil {
			continue
		}
		number, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
		if err == nil {
			return candidate, uint32(number)
		}
	}
	return "", 0
}

// linkUp gives the interface its MAC address and MTU and brings it up, in one step where the driver can.
func (n *netlink) linkUp(name string, index uint32, s *settings) error {
	mac := s.mac
	if mac != nil && bytes.Equal(n.hardwareAddress(name), mac) {
		mac = nil // setting it again would announce it to everybody
	}
	err := n.link(index, linkChange{flags: syscall.IFF_UP, mask: syscall.IFF_UP, mac: mac, mtu: s.mtu})
	if err != syscall.EBUSY || mac == nil {
		return err
	}
	// A driver that changes its address only while it is down.
	if err := n.link(index, linkChange{mask: syscall.IFF_UP}); err != nil {
		return err
	}
	err = n.link(index, linkChange{mac: mac})
	if upErr := n.link(index, linkChange{flags: syscall.IFF_UP, mask: syscall.IFF_UP, mtu: s.mtu}); err == nil {
		err = upErr
	}
	return err
}

// linkChange is what changes of an interface: the flags in mask, and what is not zero.
type linkChange struct {
	flags, mask uint32
	mac         []byte
	mtu         uint32
}

func (n *netlink) link(index uint32, c linkChange) error {
	r := &request{body: make([]byte, syscall.SizeofIfInfomsg)}
	binary.LittleEndian.PutUint32(r.body[4:], index)
	binary.LittleEndian.PutUint32(r.body[8:], c.flags)
	binary.LittleEndian.PutUint32(r.body[12:], c.mask)
	if c.mac != nil {
		r.attribute(syscall.IFLA_ADDRESS, c.mac)
	}
	if c.mtu != 0 {
		r.attributeU32(syscall.IFLA_MTU, c.mtu)
	}
	return n.do(syscall.RTM_NEWLINK, 0, r)
}

// interfaceRequest is struct ifreq with what comes back from the kernel.
type interfaceRequest struct {
	name  [syscall.IFNAMSIZ]byte
	value [24]byte
}

// interfaceName returns the name of an interface, empty when it is gone.
func (n *netlink) interfaceName(index uint32) string {
	var r interfaceRequest
	binary.LittleEndian.PutUint32(r.value[:], index)
	if ioctl(uintptr(n.fd), syscall.SIOCGIFNAME, unsafe.Pointer(&r)) != nil {
		return ""
	}
	if end := bytes.IndexByte(r.name[:], 0); end >= 0 {
		return string(r.name[:end])
	}
	return ""
}

// hardwareAddress returns the MAC address of an Ethernet interface. Asking so is a fraction of what RTM_GETLINK costs.
func (n *netlink) hardwareAddress(name string) []byte {
	var r interfaceRequest
	copy(r.name[:len(r.name)-1], name)
	if ioctl(uintptr(n.fd), syscall.SIOCGIFHWADDR, unsafe.Pointer(&r)) != nil {
		return nil
	}
	return append([]byte(nil), r.value[2:8]...) // behind the family in struct sockaddr
}

// setHardwareAddress gives a running interface another MAC address, where the driver can. By RTM_NEWLINK the kernel would
// go through much more code, which an emulator has to translate first.
func (n *netlink) setHardwareAddress(name string, mac []byte) error {
	var r interfaceRequest
	copy(r.name[:len(r.name)-1], name)
	binary.LittleEndian.PutUint16(r.value[:], syscall.ARPHRD_ETHER)
	copy(r.value[2:], mac)
	return ioctl(uintptr(n.fd), syscall.SIOCSIFHWADDR, unsafe.Pointer(&r))
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return syscall.AF_INET
	}
	return syscall.AF_INET6
}

func (n *netlink) address(kind, flags uint16, index uint32, prefix netip.Prefix) error {
	address := prefix.Addr().Unmap()
	r := &request{body: make([]byte, syscall.SizeofIfAddrmsg)}
	r.body[0] = family(address)
	r.body[1] = byte(prefix.Bits())
	if address.Is6() {
		r.body[2] = noDuplicateCheck
	}
	binary.LittleEndian.PutUint32(r.body[4:], index)
	raw := address.AsSlice()
	r.attribute(syscall.IFA_LOCAL, raw)
	r.attribute(syscall.IFA_ADDRESS, raw)
	if address.Is4() && prefix.Bits() < 31 {
		r.attribute(syscall.IFA_BROADCAST, broadcast(raw, prefix.Bits()))
	}
	return n.do(kind, flags, r)
}

func broadcast(address []byte, bits int) []byte {
	all := binary.BigEndian.Uint32(address) | ^uint32(0)>>uint(bits)
	result := make([]byte, 4)
	binary.BigEndian.PutUint32(result, all)
	return result
}

// removeOthers takes all global addresses off the interface that are not to be kept.
func (n *netlink) removeOthers(index uint32, keep []netip.Prefix) error {
	wanted := make(map[netip.Prefix]bool)
	for _, prefix := range keep {
		wanted[prefix] = true
	}
	var stale []netip.Prefix
	r := &request{body: make([]byte, syscall.SizeofIfAddrmsg)}
	err := n.dump(syscall.RTM_GETADDR, r, func(body []byte) {
		prefix, ok := parseAddress(body, index)
		if ok && !wanted[prefix] {
			stale = append(stale, prefix)
		}
	})
	for _, prefix := range stale {
		if removeErr := n.address(syscall.RTM_DELADDR, 0, index, prefix); err == nil {
			err = removeErr
		}
	}
	return err
}

// parseAddress reads a global address of the interface from a RTM_NEWADDR message.
func parseAddress(body []byte, index uint32) (prefix netip.Prefix, ok bool) {
	if len(body) < syscall.SizeofIfAddrmsg || binary.LittleEndian.Uint32(body[4:]) != index ||
		body[3] != syscall.RT_SCOPE_UNIVERSE {
		return prefix, false
	}
	bits := int(body[1])
	for p := body[syscall.SizeofIfAddrmsg:]; len(p) >= 4; {
		size := int(binary.LittleEndian.Uint16(p))
		if size < 4 || size > len(p) {
			break
		}
		// IPv4 has its own address in LOCAL, IPv6 only has ADDRESS.
		kind := binary.LittleEndian.Uint16(p[2:])
		if kind == syscall.IFA_LOCAL || kind == syscall.IFA_ADDRESS && !ok {
			if address, valid := netip.AddrFromSlice(p[4:size]); valid {
				prefix, ok = netip.PrefixFrom(address, bits), true
			}
		}
		size = (size + 3) &^ 3
		if size > len(p) {
			break
		}
		p = p[size:]
	}
	return prefix, ok
}

func (n *netlink) defaultRoute(index uint32, gateway netip.Addr) error {
	gateway = gateway.Unmap()
	r := &request{body: make([]byte, syscall.SizeofRtMsg)}
	r.body[0] = family(gateway)
	r.body[4] = syscall.RT_TABLE_MAIN
	r.body[5] = syscall.RTPROT_STATIC
	r.body[6] = syscall.RT_SCOPE_UNIVERSE
	r.body[7] = syscall.RTN_UNICAST
	binary.LittleEndian.PutUint32(r.body[8:], onLink)
	r.attribute(syscall.RTA_GATEWAY, gateway.WithZone("").AsSlice())
	r.attributeU32(syscall.RTA_OIF, index)
	return n.do(syscall.RTM_NEWROUTE, syscall.NLM_F_CREATE|syscall.NLM_F_REPLACE, r)
}
