package session

import (
	"io"
	"syscall"

	"smolvm.dev/agent/internal/frame"
)

// Exchanges that carry a connection. There may be hundreds, most of them quiet, so nothing here holds a buffer while it
// waits for data or credit.

// WriteTo gives all that the client sends until its END to a writer, without copying it once more.
func (x *Exchange) WriteTo(to io.Writer) (int64, error) {
	total := int64(0)
	for {
		x.mu.Lock()
		if err := x.awaitData(); err != nil {
			x.mu.Unlock()
			if err == io.EOF {
				err = nil
			}
			return total, err
		}
		piece := x.queued.Take()
		x.mu.Unlock()
		n, err := to.Write(piece.Bytes())
		piece.Release()
		total += int64(n)
		if err != nil {
			return total, err
		}
		x.mu.Lock()
		grant := x.consumed(n)
		x.mu.Unlock()
		if err := x.grant(grant); err != nil {
			return total, err
		}
	}
}

// Carry sends on channel 1 what a descriptor that does not block gives, until its end. Nobody else may write there.
func (x *Exchange) Carry(from syscall.RawConn) error {
	var room, n int
	var readErr error
	var buffer *[frame.HeaderSize + maxChunk]byte
	attempt := func(fd uintptr) bool {
		buffer = chunks.Get().(*[frame.HeaderSize + maxChunk]byte)
		for {
			n, readErr = syscall.Read(int(fd), buffer[frame.HeaderSize:frame.HeaderSize+room])
			if readErr != syscall.EINTR {
				break
			}
		}
		if readErr == syscall.EAGAIN {
			chunks.Put(buffer)
			return false
		}
		return true
	}
	for {
		var err error
		if room, err = x.room(frame.Stdout); err != nil {
			return err
		}
		if err := from.Read(attempt); err != nil {
			return err
		}
		if readErr == nil && n > 0 {
			x.spend(frame.Stdout, n)
			err = x.sendData(buffer[:frame.HeaderSize+n], frame.Stdout)
		}
		chunks.Put(buffer)
		switch {
		case readErr != nil:
			return readErr
		case n == 0 || err != nil:
			return err
		}
	}
}

// CloseWrite tells the client that channel 1 ends; nothing may be written to it afterwards.
func (x *Exchange) CloseWrite() error {
	return x.send(message{kind: frame.End, channel: frame.Stdout, stream: x.id})
}

// room waits for credit and returns how much of it there is, at most a frame's worth. It takes none.
func (x *Exchange) room(channel uint8) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.awaitRoom(channel)
}

// spend takes credit that room has found.
func (x *Exchange) spend(channel uint8, n int) {
	x.mu.Lock()
	x.credit[channel] -= uint64(n)
	x.mu.Unlock()
}
