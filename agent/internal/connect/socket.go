package connect

import (
	"os"
	"sync/atomic"
	"syscall"
)

// socket is a TCP connection to a server of the guest.
type socket struct {
	file   *os.File
	raw    syscall.RawConn
	closed chan struct{}
	shut   int32 // atomic; 1 from before the end of writing on
}

// tcpClosed is TCP_CLOSE, of the kernel's <net/tcp_states.h>.
const tcpClosed = 7

// newSocket begins to connect.
func newSocket(family int, to syscall.Sockaddr) (*socket, error) {
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1)
	switch err := syscall.Connect(fd, to); err {
	case nil, syscall.EINPROGRESS, syscall.EINTR:
	default:
		_ = syscall.Close(fd)
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "socket")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &socket{file: file, raw: raw, closed: make(chan struct{})}, nil
}

// watch interrupts everything once nobody waits for the connection any more.
func (s *socket) watch(cancelled <-chan struct{}) {
	select {
	case <-cancelled:
		_ = s.file.SetDeadline(past)
	case <-s.closed:
	}
}

func (s *socket) closeWrite() (result error) {
	atomic.StoreInt32(&s.shut, 1)
	if err := s.raw.Control(func(fd uintptr) { result = syscall.Shutdown(int(fd), syscall.SHUT_WR) }); err != nil {
		return err
	}
	return result
}

// wasReset tells what reading took for the server's end from a reset that writing was told of: an error is told once. A
// connection that only the server has ended is not closed.
func (s *socket) wasReset() bool {
	state := 0
	_ = s.raw.Control(func(fd uintptr) {
		// The first byte of struct tcp_info is the state.
		state, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
	})
	// In this order: who ends writing has had no error.
	return state&0xff == tcpClosed && atomic.LoadInt32(&s.shut) == 0
}

// close ends the connection; a broken one is reset, so that the server does not take what it got for all there is.
func (s *socket) close(broken bool) {
	close(s.closed)
	if broken {
		_ = s.raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
		})
	}
	_ = s.file.Close()
}
