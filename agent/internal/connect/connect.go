// Package connect lets the host reach the guest's own servers, also those that listen on its loopback alone: it connects
// to them and carries bytes between them and an exchange of the channel. Package net would double the agent.
package connect

import (
	"os"
	"strconv"
	"sync/atomic"
	"syscall"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/session"
)

const (
	// MaxConnections is how many connections there are at a time, for all clients together.
	MaxConnections = 256

	tagPort = 11
	maxPort = 1<<16 - 1
)

// Connector is all connections of this machine. The zero value is ready.
type Connector struct {
	open int32 // atomic
}

// Operation is the exchange `net.connect` of docs/guest-protocol.md.
func (c *Connector) Operation(payload []byte) (func(*session.Exchange) session.Result, error) {
	port := uint32(0)
	err := frame.Each(payload, func(f frame.Field) (err error) {
		if f.Tag == tagPort {
			port, err = f.U32()
		}
		return err
	})
	if err == nil && (port == 0 || port > maxPort) {
		err = frame.ErrField
	}
	if err != nil {
		return nil, err
	}
	return func(x *session.Exchange) session.Result {
		defer atomic.AddInt32(&c.open, -1)
		if atomic.AddInt32(&c.open, 1) > MaxConnections {
			return failed(int(port), syscall.EAGAIN)
		}
		s, err := dial(int(port), x.Cancelled())
		if err != nil {
			return failed(int(port), err)
		}
		if _, err = x.WriteChannel(frame.Stderr, []byte{1}); err == nil {
			err = s.carry(x)
		}
		s.close(err != nil)
		if err != nil {
			return failed(int(port), err)
		}
		return session.Result{}
	}, nil
}

func failed(port int, err error) session.Result {
	errno := errnoOf(err)
	return session.Result{Failed: &command.Failure{Code: command.ErrnoName(errno),
		Message: "Cannot carry a connection to port " + strconv.Itoa(port) + " of the guest: " + errno.Error()}}
}

func errnoOf(err error) error {
	switch e := err.(type) {
	case *os.PathError:
		err = e.Err
	case *os.SyscallError:
		err = e.Err
	}
	switch err {
	case session.ErrCancelled:
		return syscall.ECANCELED
	case os.ErrDeadlineExceeded: // of a dial; all others mean that it was cancelled
		return syscall.ETIMEDOUT
	case syscall.EPIPE, syscall.ENOTCONN:
		return syscall.ECONNRESET // what came before it
	}
	return err
}

// carry copies both ways until both sides have ended, or one of them is broken.
func (s *socket) carry(x *session.Exchange) error {
	written := make(chan error, 1)
	go func() {
		_, err := x.WriteTo(s.file)
		if err == nil {
			err = s.closeWrite()
		}
		// After a reset, the other direction still gives what the server has said before it, and ends by itself.
		written <- err
	}()
	err := x.Carry(s.raw)
	if err == nil && s.wasReset() {
		err = syscall.ECONNRESET
	}
	if err == nil {
		if err = x.CloseWrite(); err == nil {
			err = <-written
		}
	}
	select {
	case <-x.Cancelled():
		return session.ErrCancelled
	default:
		return err // what still waits for the client is let go when the operation has returned
	}
}
