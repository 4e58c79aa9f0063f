package netguard

import (
	"encoding/binary"
	"errors"
	"io"
)

const (
	lengthSize = 4
	// frameLimit is passt's own limit of a frame, in bytes.
	frameLimit = 65535
	// bufferSize bounds what is held in one direction, in bytes.
	bufferSize = 256 * 1024
)

// errBadFrame means that the stream cannot be followed any more.
var errBadFrame = errors.New("frame length is out of range")

// batch collects neighbouring frames that go the same way, so that what arrives together leaves together.
type batch struct {
	buffer     []byte
	start, end int
	write      func(messages []byte)
	// queue takes frames one by one instead, where the rate is limited; nil where it is not.
	queue func(message []byte)
}

func (b *batch) add(buffer []byte, start, end int) {
	if b.queue != nil {
		b.queue(buffer[start:end])
		return
	}
	if b.end != start {
		b.flush()
		b.start = start
	}
	b.buffer, b.end = buffer, end
}

// flush must be called before the buffer changes.
func (b *batch) flush() {
	if b.start == b.end {
		return
	}
	b.write(b.buffer[b.start:b.end])
	b.start, b.end = 0, 0
}

// relay reads frames until `from` ends. Each is given to take as a part of the buffer, with the 4 bytes of its length
// in front, and after those that arrived together comes flush.
func relay(from io.Reader, frames *splitter, take func(buffer []byte, start, end int), flush func()) error {
	buffer := make([]byte, bufferSize)
	filled := 0
	for {
		n, readErr := from.Read(buffer[filled:])
		filled += n
		used, err := frames.split(buffer[:filled], take)
		flush()
		if err != nil {
			return err
		}
		filled = copy(buffer, buffer[used:filled])
		if readErr != nil {
			return readErr
		}
	}
}

// splitter finds the frames of a stream.
type splitter struct {
	// source, where it is set, is the MAC address that frames come from, and the stream may begin in the middle of one:
	// QEMU goes on with the rest of a frame whose beginning an earlier netguard got (seen with QEMU 7.2). A guest that
	// puts what looks like a frame into that frame has sent one frame more, which is judged as any other.
	source  []byte
	isAtOne bool // the stream is known to be at the beginning of a frame
}

// split gives every whole frame to take, and returns the bytes of all of them, and of what is none.
func (s *splitter) split(buffer []byte, take func(buffer []byte, start, end int)) (used int, err error) {
	for len(buffer)-used >= lengthSize {
		size := int(binary.BigEndian.Uint32(buffer[used:]))
		if isFrameSize(size) && (s.isAtOne || s.source == nil) {
			end := used + lengthSize + size
			if end > len(buffer) {
				break
			}
			take(buffer, used, end)
			used = end
			continue
		}
		if s.source == nil {
			return used, errBadFrame
		}
		used += s.find(buffer[used:])
		if !s.isAtOne {
			break
		}
	}
	return used, nil
}

// find looks for the beginning of a frame from the source, and returns what is before it.
func (s *splitter) find(data []byte) (skipped int) {
	const sourceAt, sourceEnd = lengthSize + 6, lengthSize + 12
	s.isAtOne = false
	for ; len(data)-skipped >= sourceEnd; skipped++ {
		here := data[skipped:]
		if string(here[sourceAt:sourceEnd]) == string(s.source) && isFrameSize(int(binary.BigEndian.Uint32(here))) {
			s.isAtOne = true
			break
		}
	}
	return skipped
}

func isFrameSize(size int) bool { return size >= ethernetSize && size <= frameLimit }
