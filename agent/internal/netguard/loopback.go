package netguard

import (
	"errors"
	"syscall"
	"unsafe"
)

const (
	// loopbackIndex is the number of `lo` in every network namespace.
	loopbackIndex = 1
	// netlinkReceive is room for the kernel's answer, which quotes our request.
	netlinkReceive = 4096
)

// claimEveryAddress makes every IPv4 address one of this network namespace's own: `ip link set lo up`, and
// `ip route add local 0.0.0.0/0 dev lo`.
func claimEveryAddress() error {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var up struct {
		header syscall.NlMsghdr
		link   syscall.IfInfomsg
	}
	up.header = syscall.NlMsghdr{Len: uint32(unsafe.Sizeof(up)), Type: syscall.RTM_NEWLINK,
		Flags: syscall.NLM_F_REQUEST | syscall.NLM_F_ACK}
	up.link = syscall.IfInfomsg{Index: loopbackIndex, Flags: syscall.IFF_UP, Change: syscall.IFF_UP}
	if err := askKernel(fd, (*[unsafe.Sizeof(up)]byte)(unsafe.Pointer(&up))[:]); err != nil {
		return err
	}
	var add struct {
		header    syscall.NlMsghdr
		route     syscall.RtMsg
		attribute syscall.RtAttr
		device    uint32
	}
	add.header = syscall.NlMsghdr{Len: uint32(unsafe.Sizeof(add)), Type: syscall.RTM_NEWROUTE,
		Flags: syscall.NLM_F_REQUEST | syscall.NLM_F_ACK | syscall.NLM_F_CREATE | syscall.NLM_F_EXCL}
	add.route = syscall.RtMsg{Family: syscall.AF_INET, Table: syscall.RT_TABLE_LOCAL,
		Protocol: syscall.RTPROT_STATIC, Scope: syscall.RT_SCOPE_HOST, Type: syscall.RTN_LOCAL}
	add.attribute = syscall.RtAttr{Len: syscall.SizeofRtAttr + 4, Type: syscall.RTA_OIF}
	add.device = loopbackIndex
	return askKernel(fd, (*[unsafe.Sizeof(add)]byte)(unsafe.Pointer(&add))[:])
}

// askKernel sends one request and reads what became of it.
func askKernel(fd int, message []byte) error {
	if err := syscall.Sendto(fd, message, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return err
	}
	buffer := make([]byte, netlinkReceive)
	n, _, err := syscall.Recvfrom(fd, buffer, 0)
	for err == syscall.EINTR {
		n, _, err = syscall.Recvfrom(fd, buffer, 0)
	}
	if err != nil {
		return err
	}
	answers, err := syscall.ParseNetlinkMessage(buffer[:n])
	if err != nil {
		return err
	}
	for _, answer := range answers {
		if answer.Header.Type == syscall.NLMSG_ERROR && len(answer.Data) >= 4 {
			if number := *(*int32)(unsafe.Pointer(&answer.Data[0])); number != 0 {
				return syscall.Errno(-number)
			}
			return nil
		}
	}
	return errors.New("the kernel did not answer a netlink request")
}
