package lane

import (
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// MaxVsockConnections bounds those served at a time, each with its buffers; who comes later waits. QEMU has 9
	// lanes; more than that lets a client come back while its last connection is still ending.
	MaxVsockConnections = 16

	// vsockLimit bounds the wait at boot for the driver of the device.
	vsockLimit = 10 * time.Second
	vsockPoll  = 20 * time.Millisecond

	// acceptPause, which doubles up to acceptPauseMax, keeps a socket that cannot accept, such as for want of
	// descriptors, from a busy loop.
	acceptPause    = 20 * time.Millisecond
	acceptPauseMax = time.Second

	// endingLimit bounds the wait for sessions whose connection has ended. Reading never waits for anybody, so they
	// are over soon.
	endingLimit = time.Second
)

// WatchVsock calls serve in a goroutine of its own for each connection that the host makes over vsock. It is for a
// machine that has the device, and returns only where the kernel cannot use it.
//
// The listening socket outlives the copying of the machine, in the original and in the copy; connections do not.
func WatchVsock(log func(string), serve func(*Connection) error) {
	err := awaitVsock(vsockLimit, vsockPoll)
	if err == nil {
		var listener *os.File
		if listener, err = listenOnVsock(vsockAnyCID, VsockPort, MaxVsockConnections); err == nil {
			s := &vsockServer{listener: listener, accept: acceptVsock, allowed: vsockHostCID,
				limit: MaxVsockConnections, log: log, serve: serve}
			err = s.run()
		}
	}
	log("no vsock: " + err.Error())
}

type vsockServer struct {
	listener *os.File
	accept   func(listener int) (fd int, peer uint32, err error)
	allowed  uint32 // the one CID that is served
	limit    int
	log      func(string)
	serve    func(*Connection) error
	stop     <-chan struct{} // closed before the listener is; nil: never

	mu   sync.Mutex
	live map[*Connection]bool
}

// run serves until it is stopped.
func (s *vsockServer) run() error {
	s.live = make(map[*Connection]bool)
	slots := make(chan struct{}, s.limit)
	pause := acceptPause
	for {
		select {
		case slots <- struct{}{}:
		case <-s.stop:
			return os.ErrClosed
		}
		c, err := s.next()
		if err != nil {
			<-slots
			if pause == acceptPause {
				s.log("cannot accept over vsock: " + err.Error())
			}
			select {
			case <-s.stop:
				return os.ErrClosed
			case <-time.After(pause):
			}
			if pause *= 2; pause > acceptPauseMax {
				pause = acceptPauseMax
			}
			continue
		}
		pause = acceptPause
		s.awaitEnding()
		s.mu.Lock()
		s.live[c] = true
		s.mu.Unlock()
		go func() {
			defer func() { <-slots }()
			defer s.forget(c)
			_ = s.serve(c) // it ends with an error, always: the client has left
		}()
	}
}

// next waits for a connection of the host. Others are closed without a word.
func (s *vsockServer) next() (*Connection, error) {
	raw, err := s.listener.SyscallConn()
	if err != nil {
		return nil, err
	}
	for {
		fd, peer := -1, uint32(0)
		var acceptErr error
		err := raw.Read(func(listener uintptr) bool {
			for {
				fd, peer, acceptErr = s.accept(int(listener))
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
		if peer == s.allowed {
			return newConnection(fd)
		}
		_ = syscall.Close(fd)
	}
}

// awaitEnding waits for the sessions whose connections have ended. A snapshot ends all of them at once, of the original
// as of the copy, and the first client after it may close the window in which that spares their commands.
func (s *vsockServer) awaitEnding() {
	s.mu.Lock()
	var ending []*Connection
	for c := range s.live {
		if c.gone() {
			ending = append(ending, c)
		}
	}
	s.mu.Unlock()
	if len(ending) == 0 {
		return
	}
	limit := time.NewTimer(endingLimit)
	defer limit.Stop()
	for _, c := range ending {
		select {
		case <-c.done:
		case <-limit.C:
			return
		}
	}
}

func (s *vsockServer) forget(c *Connection) {
	s.mu.Lock()
	delete(s.live, c)
	s.mu.Unlock()
	c.file.Close()
	close(c.done)
}
