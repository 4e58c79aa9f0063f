package ports

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/laneclient"
)

const (
	operation = "net.connect"
	tagPort   = 11
	// keepAlivePeriod is how long a client may be silent before it is asked whether it is there.
	keepAlivePeriod = 30 * time.Second
	// lookEvery is how often a client that nobody reads from is looked at: it may be gone.
	lookEvery = time.Second
	// readSize is what is read of a client at once, in bytes.
	readSize = frame.MaxData
	// pollErr is POLLERR, <poll.h>: the socket has an error that was not told yet.
	pollErr = 0x8
	// tcpClosed is TCP_CLOSE, of the kernel's <net/tcp_states.h>.
	tcpClosed = 7
)

// connection is a client and its call to the guest.
type connection struct {
	client *net.TCPConn
	shut   int32 // atomic; 1 from before the end of what is written to the client on

	mu     sync.Mutex
	call   *laneclient.Call // nil before it is made
	killed bool
}

// kill resets the client at once; the guest, which may stand still, is told in time.
func (c *connection) kill() {
	c.mu.Lock()
	call := c.call
	c.killed = true
	c.mu.Unlock()
	reset(c.client)
	if call != nil {
		go func() { _ = call.Kill() }()
	}
}

// connect makes the call. It waits as long as the guest stands still.
func (c *connection) connect(guest caller, port int) error {
	call, err := guest.Call(operation, frame.AppendU32(nil, tagPort, uint32(port)))
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.call = call
	if c.killed {
		go func() { _ = call.Kill() }()
	}
	return nil
}

// carry connects the client to a port of the guest and returns when both have let go. An end of one side is passed on
// to the other; anything else that ends it is a reset for both, so that nobody takes half of something for the whole.
func (c *connection) carry(guest caller, port int) {
	_ = c.client.SetNoDelay(true)
	_ = c.client.SetKeepAlive(true)
	_ = c.client.SetKeepAlivePeriod(keepAlivePeriod)
	if c.connect(guest, port) != nil {
		reset(c.client)
		return
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		c.send()
	}()
	go c.watch()
	if _, err := c.call.WriteTo(c.client); err != nil {
		c.kill()
	} else if c.call.Ended() {
		atomic.StoreInt32(&c.shut, 1)
		_ = c.client.CloseWrite()
	}
	<-c.call.Done()
	if c.call.Err() != nil || !c.call.Ended() {
		reset(c.client)
	} else {
		_ = c.client.Close()
	}
	<-sent
}

// send carries what the client says, until its end.
func (c *connection) send() {
	// Only Read and Write are shown: net would look for more in vain, and then make a buffer of its own.
	_, err := io.CopyBuffer(writerOnly{c.call}, readerOnly{c.client}, make([]byte, readSize))
	if err == nil && c.wasReset() {
		err = syscall.ECONNRESET
	}
	if err == nil {
		err = c.call.CloseWrite()
	}
	if err != nil && err != io.ErrClosedPipe { // which is the end of the call
		c.kill()
	}
}

// wasReset tells what reading took for the client's end from a reset that writing was told of: an error is told once. A
// connection that only the client has ended is not closed.
func (c *connection) wasReset() bool {
	raw, err := c.client.SyscallConn()
	if err != nil {
		return true
	}
	state := 0
	err = raw.Control(func(fd uintptr) {
		// The first byte of struct tcp_info is the state.
		state, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
	})
	// In this order: who ends writing has had no error.
	return err != nil || state&0xff == tcpClosed && atomic.LoadInt32(&c.shut) == 0
}

type readerOnly struct{ io.Reader }
type writerOnly struct{ io.Writer }

// watch notices a client that is gone while nobody reads from it: it has said all, or the guest takes no more.
func (c *connection) watch() {
	raw, err := c.client.SyscallConn()
	if err != nil {
		return
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-c.call.Done():
			return
		case <-ticker.C:
		}
		broken := false
		err := raw.Control(func(fd uintptr) { broken = hasError(int32(fd)) })
		if broken {
			c.kill()
		}
		if broken || err != nil {
			return
		}
	}
}

// hasError looks for a socket's error without taking it from whoever reads or writes next.
func hasError(fd int32) bool {
	asked := struct {
		fd              int32
		events, revents int16
	}{fd: fd}
	now := syscall.Timespec{}
	n, _, _ := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&asked)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return n == 1 && asked.revents&pollErr != 0
}

// reset ends a connection so that the other side sees it cut off.
func reset(client *net.TCPConn) {
	_ = client.SetLinger(0)
	_ = client.Close()
}
