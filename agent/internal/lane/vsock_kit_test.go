package lane

import (
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

const (
	loopbackCID  = 1     // VMADDR_CID_LOCAL
	loopbackPort = 51023 // free in a test
	// patience is for what must come; only a failure ever takes so long.
	patience = 20 * time.Second
)

// transport is what connections are made over.
type transport struct {
	listener *os.File
	accept   func(listener int) (fd int, peer uint32, err error)
	peer     uint32
	dial     func() (int, error)
}

// eachTransport runs a test over sockets that stand for vsock, and over vsock itself where the kernel has its loopback,
// as the image's has with the module vsock_loopback.
func eachTransport(t *testing.T, test func(t *testing.T, over *transport)) {
	t.Run("unix", func(t *testing.T) { test(t, unixTransport(t)) })
	over, err := loopback()
	if err != nil {
		t.Log("gate: vsock-loopback: the kernel has no loopback for AF_VSOCK: " + err.Error())
		return
	}
	t.Run("vsock", func(t *testing.T) { test(t, over) })
}

func unixTransport(t *testing.T) *transport {
	t.Helper()
	address := &syscall.SockaddrUnix{Name: filepath.Join(t.TempDir(), "s")}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err == nil {
		err = syscall.Bind(fd, address)
	}
	if err == nil {
		err = syscall.Listen(fd, MaxVsockConnections)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &transport{
		listener: os.NewFile(uintptr(fd), "listener"),
		accept: func(listener int) (int, uint32, error) {
			fd, _, err := syscall.Accept4(listener, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
			return fd, vsockHostCID, err
		},
		peer: vsockHostCID,
		dial: func() (int, error) {
			fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
			if err != nil {
				return -1, err
			}
			return fd, syscall.Connect(fd, address)
		},
	}
}

func loopback() (*transport, error) {
	listener, err := listenOnVsock(loopbackCID, loopbackPort, MaxVsockConnections)
	if err != nil {
		return nil, err
	}
	return &transport{
		listener: listener,
		accept:   acceptVsock,
		peer:     loopbackCID,
		dial: func() (int, error) {
			fd, err := syscall.Socket(afVsock, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
			if err != nil {
				return -1, err
			}
			to := vsockAddress{family: afVsock, port: loopbackPort, cid: loopbackCID}
			_, _, errno := syscall.Syscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&to)), vsockAddressSize)
			if errno != 0 {
				return -1, errno
			}
			return fd, nil
		},
	}, nil
}

// client is the host's end of a connection.
type client struct {
	*os.File
	t *testing.T
}

func (over *transport) connect(t *testing.T) client {
	t.Helper()
	fd, err := over.dial()
	if err == nil {
		err = syscall.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := client{os.NewFile(uintptr(fd), "client"), t}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

// answered says a word and reports whether it came back.
func (c client) answered() bool {
	word := []byte("word")
	if _, err := c.Write(word); err != nil {
		return false
	}
	_, err := io.ReadFull(c, word)
	return err == nil
}

// server is a vsockServer with what a test sees of it.
type server struct {
	*vsockServer
	served int32 // atomic: connections that the serve function was called for
	logged chan string
}

// start serves over the transport until the test ends; change, if any, changes the server before.
func (over *transport) start(t *testing.T, serve func(*Connection) error, change func(*server)) *server {
	t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	s := &server{logged: make(chan string, 64)}
	s.vsockServer = &vsockServer{listener: over.listener, accept: over.accept, allowed: over.peer, limit: 4, stop: stop,
		log: func(text string) { s.logged <- text },
		serve: func(c *Connection) error {
			atomic.AddInt32(&s.served, 1)
			return serve(c)
		}}
	if change != nil {
		change(s)
	}
	go func() {
		defer close(stopped)
		_ = s.run()
	}()
	t.Cleanup(func() {
		close(stop)
		over.listener.Close()
		<-stopped
	})
	return s
}

// echo gives everything back until the client leaves.
func echo(c *Connection) error {
	_, err := io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	return err
}
