package session

import (
	"errors"
	"sync"
	"sync/atomic"

	"smolvm.dev/agent/internal/frame"
)

// keepScratch is the largest buffer, in bytes, that an outlet keeps between frames.
const keepScratch = 4096

var errClosed = errors.New("connection is closed")

// outlet is the writing side of one connection. Whoever has something to send writes it under the lock, without a
// goroutine in between: the handover would cost more than the write, and nothing can pile up.
type outlet struct {
	duplex Duplex
	dead   int32 // atomic; 1 when nothing may be written any more

	mu       sync.Mutex
	sequence uint32
	scratch  []byte
}

type message struct {
	kind    frame.Type
	channel uint8
	stream  uint32
	payload []byte
}

// newOutlet returns an outlet that is locked until greet has run, so that WELCOME is the first frame.
func newOutlet(d Duplex) *outlet {
	o := &outlet{duplex: d}
	o.mu.Lock()
	return o
}

// greet writes the preamble and WELCOME and opens the outlet for everybody else.
func (o *outlet) greet(welcome []byte) error {
	defer o.mu.Unlock()
	o.scratch = append(o.scratch[:0], frame.Preamble...)
	o.add(message{kind: frame.Welcome, payload: welcome})
	return o.flush()
}

// send writes frames one behind the other, in one piece.
func (o *outlet) send(messages ...message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.scratch = o.scratch[:0]
	for _, m := range messages {
		o.add(m)
	}
	return o.flush()
}

// sendLast writes a frame and returns when the host has it, as far as the lane can tell.
func (o *outlet) sendLast(m message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f, ok := o.duplex.(Flusher); ok {
		if f.FlushWrites(true) == nil {
			defer f.FlushWrites(false)
		}
	}
	o.scratch = o.scratch[:0]
	o.add(m)
	return o.flush()
}

// sendUnless is send, but nothing is sent once the stream is over. Whoever sends a stream's last frame has set over before
// it, so that none of the stream's can follow.
func (o *outlet) sendUnless(over *int32, m message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if atomic.LoadInt32(over) != 0 {
		return errClosed
	}
	o.scratch = o.scratch[:0]
	o.add(m)
	return o.flush()
}

// sendDataUnless is sendData, and to that what sendUnless is to send.
func (o *outlet) sendDataUnless(over *int32, p []byte, channel uint8, stream uint32) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if atomic.LoadInt32(over) != 0 {
		return errClosed
	}
	return o.writeData(p, channel, stream)
}

// sendData writes a DATA frame whose payload already lies behind room for the header.
func (o *outlet) sendData(p []byte, channel uint8, stream uint32) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.writeData(p, channel, stream)
}

func (o *outlet) writeData(p []byte, channel uint8, stream uint32) error {
	frame.PutHeader(p, frame.Header{Type: frame.Data, Channel: channel, Stream: stream, Sequence: o.sequence,
		Length: uint32(len(p) - frame.HeaderSize)})
	o.sequence++
	return o.write(p)
}

func (o *outlet) add(m message) {
	h := frame.Header{Type: m.kind, Channel: m.channel, Stream: m.stream, Sequence: o.sequence}
	o.sequence++
	o.scratch = frame.Append(o.scratch, h, m.payload)
}

func (o *outlet) flush() error {
	err := o.write(o.scratch)
	if cap(o.scratch) > keepScratch {
		o.scratch = nil
	}
	return err
}

func (o *outlet) write(p []byte) error {
	if atomic.LoadInt32(&o.dead) != 0 {
		return errClosed
	}
	if _, err := o.duplex.Write(p); err != nil {
		// A frame cut short would put all that follows out of step.
		atomic.StoreInt32(&o.dead, 1)
		return err
	}
	return nil
}

// kill interrupts a write that blocks and lets no other follow. When it returns the lane is free for the next
// outlet.
func (o *outlet) kill() {
	atomic.StoreInt32(&o.dead, 1)
	_ = o.duplex.SetWriteDeadline(past)
	o.mu.Lock()
	o.mu.Unlock() // waiting for the writer is the purpose
	_ = o.duplex.SetWriteDeadline(never)
}
