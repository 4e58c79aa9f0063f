// Package lane makes what the host offers a session.Duplex: virtio-serial ports on QEMU, connections over vsock on
// Firecracker.
package lane

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/session"
)

// leaveGrace is how long a port must be without a client before that counts.
//
// The news that a client has left or come travels in another queue than the data. After a quick reconnect the new
// client's first bytes can be here before the old one's departure: taken at its word, that would end the new
// connection. The news of the new client follows at once, so a short wait tells the two cases apart.
const leaveGrace = 100 * time.Millisecond

type presence uint8

const (
	present presence = iota
	doubtful
	absent
)

// Port is one virtio-serial port.
//
// Reading a port without a host client returns 0 at once, for as long as there is none. So after the first 0 the
// next ones are taken as "nothing yet": the driver wakes its waiters when the host opens or closes the port, and
// the runtime's edge-triggered poller keeps a wake-up that comes between the read and the wait.
type Port struct {
	file   *os.File
	raw    syscall.RawConn
	client presence
}

// OpenPort opens a device such as /dev/vport0p1.
func OpenPort(path string) (*Port, error) {
	file, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &Port{file: file, raw: raw, client: absent}, nil
}

// Close closes the device.
func (p *Port) Close() error { return p.file.Close() }

// Read implements session.Duplex.
func (p *Port) Read(buffer []byte) (int, error) {
	for {
		var n int
		var readErr error
		err := p.raw.Read(func(fd uintptr) bool {
			n, readErr = retry(syscall.Read, int(fd), buffer)
			if readErr == syscall.EAGAIN {
				// There is a client, it is only silent. Out of doubt, a deadline has to be lifted first.
				settled := p.client == doubtful
				p.client = present
				return settled
			}
			return n > 0 || readErr != nil || p.client == present
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			_ = p.file.SetReadDeadline(time.Time{})
			// A client that came and is silent wakes only those who wait to write (virtio_console's poll): look again.
			if err := p.raw.Control(func(fd uintptr) { n, readErr = retry(syscall.Read, int(fd), buffer) }); err != nil {
				return 0, err
			}
			switch {
			case readErr == syscall.EAGAIN:
				p.client = present
			case readErr != nil:
				return 0, readErr
			case n == 0:
				p.client = absent
				return 0, session.ErrClientLeft
			default:
				p.client = present
				return n, nil
			}
		case err != nil:
			return 0, err
		case readErr == syscall.EAGAIN:
			_ = p.file.SetReadDeadline(time.Time{})
		case readErr != nil:
			return 0, readErr
		case n == 0:
			p.client = doubtful
			_ = p.file.SetReadDeadline(time.Now().Add(leaveGrace))
		default:
			if p.client == doubtful {
				_ = p.file.SetReadDeadline(time.Time{})
			}
			p.client = present
			return n, nil
		}
	}
}

// Write implements session.Duplex. Without a client it waits for one, or for the deadline.
func (p *Port) Write(data []byte) (int, error) {
	written := 0
	for written < len(data) {
		var n int
		var writeErr error
		err := p.raw.Write(func(fd uintptr) bool {
			n, writeErr = retry(syscall.Write, int(fd), data[written:])
			return writeErr != syscall.EAGAIN
		})
		switch {
		case err != nil:
			return written, err
		case writeErr != nil:
			return written, writeErr
		case n == 0:
			return written, io.ErrShortWrite
		}
		written += n
	}
	return written, nil
}

// SetWriteDeadline implements session.Duplex.
func (p *Port) SetWriteDeadline(t time.Time) error { return p.file.SetWriteDeadline(t) }

// FlushWrites implements session.Flusher: a blocking write to a port returns when the host has taken the buffer.
func (p *Port) FlushWrites(on bool) error {
	var result error
	err := p.raw.Control(func(fd uintptr) { result = syscall.SetNonblock(int(fd), !on) })
	if err != nil {
		return err
	}
	return result
}

func retry(call func(int, []byte) (int, error), fd int, p []byte) (int, error) {
	for {
		n, err := call(fd, p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}
