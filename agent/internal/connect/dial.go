package connect

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"smolvm.dev/agent/internal/session"
)

const (
	// dialLimit is for all addresses together. A server that is frozen does not need it: the kernel answers for it.
	dialLimit = 5 * time.Second
	// maxAddresses is how many addresses of interfaces are tried.
	maxAddresses = 16
)

var past = time.Unix(1, 0)

// dial connects to a server of this machine: where most listen first, last where some listen alone.
func dial(port int, cancelled <-chan struct{}) (*socket, error) {
	limit := time.Now().Add(dialLimit)
	loopback4, loopback6 := [4]byte{127, 0, 0, 1}, [16]byte{15: 1}
	s, first := dialOne(syscall.AF_INET, &syscall.SockaddrInet4{Port: port, Addr: loopback4}, limit, cancelled)
	if isFinal(first) {
		return s, first
	}
	s, err := dialOne(syscall.AF_INET6, &syscall.SockaddrInet6{Port: port, Addr: loopback6}, limit, cancelled)
	if isFinal(err) {
		return s, err
	}
	for _, address := range ownAddresses() {
		s, err = dialOne(syscall.AF_INET, &syscall.SockaddrInet4{Port: port, Addr: address}, limit, cancelled)
		if isFinal(err) {
			return s, err
		}
	}
	return nil, first
}

// isFinal says that there is no use in another address.
func isFinal(err error) bool {
	return err == nil || err == session.ErrCancelled || err == os.ErrDeadlineExceeded
}

func dialOne(family int, to syscall.Sockaddr, limit time.Time, cancelled <-chan struct{}) (*socket, error) {
	s, err := newSocket(family, to)
	if err != nil {
		return nil, err
	}
	_ = s.file.SetWriteDeadline(limit)
	go s.watch(cancelled)
	var failure error
	err = s.raw.Write(func(fd uintptr) bool {
		var pending bool
		pending, failure = connected(int(fd), to)
		return !pending
	})
	if err == nil {
		err = failure
	}
	_ = s.file.SetWriteDeadline(time.Time{})
	select {
	case <-cancelled: // perhaps before the deadline was lifted
		err = session.ErrCancelled
	default:
	}
	if err != nil {
		s.close(true)
		return nil, err
	}
	return s, nil
}

// connected reports what became of a connect that did not block.
func connected(fd int, to syscall.Sockaddr) (pending bool, err error) {
	code, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
	if err != nil {
		return false, err
	}
	if code != 0 {
		return false, syscall.Errno(code)
	}
	if _, err := syscall.Getpeername(fd); err != nil {
		return err == syscall.ENOTCONN, err
	}
	// A socket that got the very port it asks for, which nobody listens on, has reached itself.
	own, err := syscall.Getsockname(fd)
	if err == nil && samePlace(own, to) {
		err = syscall.ECONNREFUSED
	}
	return false, err
}

func samePlace(a, b syscall.Sockaddr) bool {
	switch a := a.(type) {
	case *syscall.SockaddrInet4:
		b, ok := b.(*syscall.SockaddrInet4)
		return ok && a.Port == b.Port && a.Addr == b.Addr
	case *syscall.SockaddrInet6:
		b, ok := b.(*syscall.SockaddrInet6)
		return ok && a.Port == b.Port && a.Addr == b.Addr
	}
	return false
}

// interfaceEntry is struct ifreq, interfaceList is struct ifconf; netdevice(7).
type interfaceEntry struct {
	name    [syscall.IFNAMSIZ]byte
	family  uint16
	port    uint16
	address [4]byte
	rest    [16]byte
}

type interfaceList struct {
	size    int32
	entries unsafe.Pointer
}

// ownAddresses returns the IPv4 addresses of this machine's interfaces, in the kernel's order.
func ownAddresses() (found [][4]byte) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	entries := new([maxAddresses + 1]interfaceEntry) // the loopback is one of them
	list := interfaceList{size: int32(unsafe.Sizeof(*entries)), entries: unsafe.Pointer(entries)}
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCGIFCONF, uintptr(unsafe.Pointer(&list)))
	if errno != 0 {
		return nil
	}
	for _, entry := range entries[:int(list.size)/int(unsafe.Sizeof(entries[0]))] {
		if entry.family == syscall.AF_INET && entry.address[0] != 127 {
			found = append(found, entry.address)
		}
	}
	return found
}
