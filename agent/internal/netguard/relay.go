package netguard

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

const (
	lengthSize = 4
	// frameLimit is passt's own limit of a frame, in bytes.
	frameLimit = 65535
	// bufferSize bounds what is held in one direction, in bytes.
	bufferSize = 256 * 1024
)

// ErrBadFrame means that the stream cannot be followed any more.
var ErrBadFrame = errors.New("frame length is out of range")

// LockedWriter lets the relay and the resolver write whole frames to the guest.
type LockedWriter struct {
	mutex sync.Mutex
	To    io.Writer
}

func (w *LockedWriter) Write(data []byte) (int, error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.To.Write(data)
}

// Relay copies the frames that keep says yes to, until either side ends. A frame is a 4-byte big-endian length and
// the bytes; what arrives together leaves together.
func Relay(to io.Writer, from io.Reader, keep func(frame []byte) bool) error {
	buffer := make([]byte, bufferSize)
	filled := 0
	for {
		n, err := from.Read(buffer[filled:])
		filled += n
		used, kept, bad := sift(buffer[:filled], keep)
		if kept > 0 {
			if _, werr := to.Write(buffer[:kept]); werr != nil {
				return werr
			}
		}
		if bad {
			return ErrBadFrame
		}
		filled = copy(buffer, buffer[used:filled])
		if err != nil {
			return err
		}
	}
}

// sift moves the frames to keep to the front; used counts the bytes of all whole frames, kept those to send.
func sift(data []byte, keep func([]byte) bool) (used, kept int, bad bool) {
	for len(data)-used >= lengthSize {
		size := int(binary.BigEndian.Uint32(data[used:]))
		if size < ethernetSize || size > frameLimit {
			return used, kept, true
		}
		end := used + lengthSize + size
		if end > len(data) {
			break
		}
		if keep(data[used+lengthSize : end]) {
			kept += copy(data[kept:], data[used:end])
		}
		used = end
	}
	return used, kept, false
}
