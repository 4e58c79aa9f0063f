// Package session serves one connection after the other on a byte stream, as docs/guest-protocol.md says.
package session

import (
	"errors"
	"io"
	"time"
)

// ErrClientLeft is returned by a Duplex whose client has gone but which may get another one.
var ErrClientLeft = errors.New("client left")

// Duplex is what a session needs of a lane: a virtio-serial port, a vsock connection, a pipe in a test.
type Duplex interface {
	// Read returns ErrClientLeft once when a client leaves and waits for the next one in the call after that.
	// Any other error ends the lane.
	io.Reader
	// Write writes all of p or returns an error. Only one goroutine at a time calls it.
	io.Writer
	// SetWriteDeadline interrupts a Write that blocks; the zero time lifts the deadline.
	SetWriteDeadline(t time.Time) error
}

// Flusher is a Duplex that can make a Write return only when the bytes have reached the host.
type Flusher interface {
	FlushWrites(on bool) error
}

// past is a deadline that has passed, never one that does not come.
var (
	past  = time.Unix(1, 0)
	never time.Time
)
