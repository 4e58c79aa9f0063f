package lane

import (
	"errors"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// VsockPort is the port of the guest protocol. Of those that only root in the guest may bind it is the last one
// (LAST_RESERVED_PORT, net/vmw_vsock/af_vsock.c), so no other user can sit on it before the agent does.
const VsockPort = 1023

// Addresses of AF_VSOCK, vsock(7). A context id (CID) stands for a machine.
const (
	vsockAnyCID  = 0xffffffff // VMADDR_CID_ANY
	vsockHostCID = 2          // VMADDR_CID_HOST
	// vsockFirstGuestCID is the least that a guest has; a kernel with nothing but loopback says 1.
	vsockFirstGuestCID = 3
)

const (
	afVsock          = 40 // AF_VSOCK, which package syscall lacks
	vsockAddressSize = 16 // sizeof(struct sockaddr_vm)
	vsockDevice      = "/dev/vsock"
	vsockLocalCID    = 0x7b9 // IOCTL_VM_SOCKETS_GET_LOCAL_CID, linux/vm_sockets.h

	// siocOutQ asks for the bytes that the device has not taken yet; for AF_VSOCK the kernel knows since 6.11.
	siocOutQ = 0x5411 // SIOCOUTQ, linux/sockios.h

	pollRDHUP = 0x2000                        // POLLRDHUP, asm-generic/poll.h
	pollGone  = pollRDHUP | 0x8 | 0x10 | 0x20 // and POLLERR, POLLHUP, POLLNVAL
)

var (
	errNoTransport = errors.New("no transport to a host")
	errNotVsock    = errors.New("not an address of AF_VSOCK")
)

// vsockAddress is struct sockaddr_vm.
type vsockAddress struct {
	family uint16
	_      uint16
	port   uint32
	cid    uint32
	_      [4]byte
}

// awaitVsock waits until the kernel has a way to a host, whose driver may still be at work.
func awaitVsock(limit, poll time.Duration) error {
	for end := time.Now().Add(limit); ; time.Sleep(poll) {
		cid, err := localCID()
		if err == nil && (cid < vsockFirstGuestCID || cid == vsockAnyCID) {
			err = errNoTransport
		}
		if err == nil || !time.Now().Before(end) {
			return err
		}
	}
}

func localCID() (uint32, error) {
	fd, err := syscall.Open(vsockDevice, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(fd)
	cid := uint32(vsockAnyCID)
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), vsockLocalCID, uintptr(unsafe.Pointer(&cid)))
	if errno != 0 {
		return 0, errno
	}
	return cid, nil
}

func listenOnVsock(cid, port uint32, backlog int) (*os.File, error) {
	fd, err := syscall.Socket(afVsock, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	address := vsockAddress{family: afVsock, port: port, cid: cid}
	_, _, errno := syscall.Syscall(syscall.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&address)), vsockAddressSize)
	if errno != 0 {
		err = errno
	} else {
		err = syscall.Listen(fd, backlog)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "vsock"), nil
}

// acceptVsock returns a connection that waits, and the CID of who made it. Package syscall's own closes what has an
// address that it does not know.
func acceptVsock(listener int) (fd int, peer uint32, err error) {
	var address vsockAddress
	size := uint32(vsockAddressSize)
	r, _, errno := syscall.Syscall6(syscall.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&address)),
		uintptr(unsafe.Pointer(&size)), syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0, 0)
	if errno != 0 {
		return -1, 0, errno
	}
	if address.family != afVsock || size < vsockAddressSize {
		_ = syscall.Close(int(r))
		return -1, 0, errNotVsock
	}
	return int(r), address.cid, nil
}

const (
	// flushLimit bounds the wait for the host to take what was written.
	flushLimit = 500 * time.Millisecond
	flushPoll  = time.Millisecond
	// flushBlind is the wait where the kernel cannot say what was taken.
	flushBlind = 20 * time.Millisecond
)

// Connection is one connection over vsock: a lane that ends with its client.
type Connection struct {
	file  *os.File
	raw   syscall.RawConn
	flush bool          // what is written is waited for; only for the one who writes
	done  chan struct{} // closed when its session is over
}

func newConnection(fd int) (*Connection, error) {
	file := os.NewFile(uintptr(fd), "vsock")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &Connection{file: file, raw: raw, done: make(chan struct{})}, nil
}

// Read implements session.Duplex. It fails when the client has left, and also when the machine was copied: that
// resets all connections (VIRTIO_VSOCK_EVENT_TRANSPORT_RESET).
func (c *Connection) Read(buffer []byte) (int, error) { return c.file.Read(buffer) }

// Write implements session.Duplex.
func (c *Connection) Write(data []byte) (int, error) {
	n, err := c.file.Write(data)
	if err == nil && c.flush {
		c.drain(flushLimit)
	}
	return n, err
}

// SetWriteDeadline implements session.Duplex.
func (c *Connection) SetWriteDeadline(t time.Time) error { return c.file.SetWriteDeadline(t) }

// FlushWrites implements session.Flusher.
func (c *Connection) FlushWrites(on bool) error {
	c.flush = on
	return nil
}

// drain waits until the device has taken what was written, and with it the VMM.
func (c *Connection) drain(limit time.Duration) {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(flushPoll) {
		left := int32(0)
		errno := syscall.EBADF
		_ = c.raw.Control(func(fd uintptr) {
			_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, siocOutQ, uintptr(unsafe.Pointer(&left)))
		})
		if errno != 0 {
			time.Sleep(flushBlind)
			return
		}
		if left == 0 {
			return
		}
	}
}

// gone says that the client has left or that the connection was reset, whether or not a Read has said so.
func (c *Connection) gone() bool {
	request := struct { // struct pollfd
		fd      int32
		events  int16
		revents int16
	}{events: pollRDHUP}
	at := syscall.Timespec{} // does not wait
	n := uintptr(1)
	errno := syscall.Errno(0)
	err := c.raw.Control(func(fd uintptr) {
		request.fd = int32(fd)
		n, _, errno = syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&request)), 1,
			uintptr(unsafe.Pointer(&at)), 0, 0, 0)
	})
	if err != nil {
		return true // it is closed
	}
	return errno == 0 && n == 1 && request.revents&pollGone != 0
}
