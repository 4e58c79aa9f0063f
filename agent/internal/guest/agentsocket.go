package guest

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/session"
)

const (
	// maxSocketClients bounds the connections served at a time, each with its buffers; who comes later waits.
	maxSocketClients = 16
	socketBacklog    = maxSocketClients
	// acceptPause keeps a socket that cannot accept, such as for want of descriptors, from a busy loop.
	acceptPause = 50 * time.Millisecond
)

// agentSocket serves the guest protocol on a unix socket that only root can connect to.
type agentSocket struct {
	path     string
	listener *os.File
	serve    func(session.Duplex) error
	done     chan struct{}

	mu      sync.Mutex
	closed  bool
	clients map[*os.File]bool
}

// listenOnSocket replaces whatever has the path.
func listenOnSocket(path string, serve func(session.Duplex) error) (*agentSocket, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	_ = syscall.Unlink(path)
	err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
	if err == nil {
		// Nobody can connect before it listens, so nobody gets in before its mode is right.
		err = syscall.Chmod(path, 0o600)
	}
	if err == nil {
		err = syscall.Listen(fd, socketBacklog)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	s := &agentSocket{path: path, listener: os.NewFile(uintptr(fd), path), serve: serve,
		done: make(chan struct{}), clients: make(map[*os.File]bool)}
	go s.run()
	return s, nil
}

func (s *agentSocket) run() {
	slots := make(chan struct{}, maxSocketClients)
	for {
		select {
		case slots <- struct{}{}:
		case <-s.done:
			return
		}
		client, err := s.accept()
		if err != nil {
			<-slots
			select {
			case <-s.done:
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		go func() {
			defer func() { <-slots }()
			defer s.forget(client)
			_ = s.serve(client)
		}()
	}
}

var errSocketClosed = errors.New("socket is closed")

func (s *agentSocket) accept() (*os.File, error) {
	raw, err := s.listener.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var acceptErr error
	err = raw.Read(func(listener uintptr) bool {
		for {
			fd, _, acceptErr = syscall.Accept4(int(listener), syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
			if acceptErr != syscall.EINTR && acceptErr != syscall.ECONNABORTED {
				return acceptErr != syscall.EAGAIN
			}
		}
	})
	if err == nil {
		err = acceptErr
	}
	if err != nil {
		return nil, err
	}
	client := os.NewFile(uintptr(fd), s.path)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		client.Close()
		return nil, errSocketClosed
	}
	s.clients[client] = true
	return client, nil
}

func (s *agentSocket) forget(client *os.File) {
	s.mu.Lock()
	delete(s.clients, client)
	s.mu.Unlock()
	client.Close()
}

// hangUp ends every connection; new ones are served on.
func (s *agentSocket) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for client := range s.clients {
		client.Close()
	}
}

// close ends every connection and takes no more. The name stays: it may be another's by now.
func (s *agentSocket) close() {
	s.mu.Lock()
	wasClosed := s.closed
	s.closed = true
	s.mu.Unlock()
	if wasClosed {
		return
	}
	close(s.done)
	s.listener.Close()
	s.hangUp()
}
