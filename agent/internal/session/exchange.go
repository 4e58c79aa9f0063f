package session

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/pieces"
)

// ErrCancelled is what reading and writing give once nobody waits for the operation any more.
var ErrCancelled = errors.New("cancelled by the client")

// Exchange is the data of a call. Reading is for one goroutine, writing for any number.
type Exchange struct {
	conn      *conn
	id        uint32
	cancelled chan struct{}
	finished  int32 // atomic; 1 once the operation has returned: nothing more is sent

	mu      sync.Mutex
	changed *sync.Cond   // anything below has changed
	queued  pieces.Queue // what came and was not read; never more than window allows
	window  int          // bytes that the client may still send
	owed    int          // bytes read for which the client has no new credit yet
	ended   bool         // the client has sent END
	over    bool         // cancelled is closed
	credit  [3]uint64    // bytes that the client will still take, by channel
}

func newExchange(c *conn, id uint32) *Exchange {
	x := &Exchange{conn: c, id: id, cancelled: make(chan struct{}), window: frame.InitialCredit}
	x.changed = sync.NewCond(&x.mu)
	x.credit[frame.Stdout] = frame.InitialCredit
	x.credit[frame.Stderr] = frame.InitialCredit
	return x
}

// Cancelled is closed when nobody waits for the operation any more.
func (x *Exchange) Cancelled() <-chan struct{} { return x.cancelled }

// Read gives what the client sends; io.EOF is its END.
func (x *Exchange) Read(p []byte) (int, error) {
	x.mu.Lock()
	if err := x.awaitData(); err != nil {
		x.mu.Unlock()
		return 0, err
	}
	n := x.queued.Read(p)
	grant := x.consumed(n)
	x.mu.Unlock()
	return n, x.grant(grant)
}

// awaitData waits for something to read. The lock is held.
func (x *Exchange) awaitData() error {
	for x.queued.Len() == 0 && !x.ended && !x.over {
		x.changed.Wait()
	}
	switch {
	case x.over:
		return ErrCancelled
	case x.queued.Len() == 0:
		return io.EOF
	}
	return nil
}

// consumed counts what was read and returns the credit that the client is to get. The lock is held.
func (x *Exchange) consumed(n int) int {
	x.owed += n
	if x.owed < creditStep || x.ended {
		return 0
	}
	grant := x.owed
	x.owed = 0
	x.window += grant
	return grant
}

func (x *Exchange) grant(n int) error {
	if n == 0 {
		return nil
	}
	var payload [4]byte
	binary.BigEndian.PutUint32(payload[:], uint32(n))
	return x.send(message{kind: frame.Credit, channel: frame.Stdin, stream: x.id, payload: payload[:]})
}

// Write sends data to the client on channel 1, as it grants credit.
func (x *Exchange) Write(p []byte) (int, error) { return x.WriteChannel(frame.Stdout, p) }

// WriteChannel is Write for any channel.
func (x *Exchange) WriteChannel(channel uint8, p []byte) (int, error) {
	buffer := chunks.Get().(*[frame.HeaderSize + maxChunk]byte)
	defer chunks.Put(buffer)
	written := 0
	for written < len(p) {
		room, err := x.await(channel, len(p)-written)
		if err != nil {
			return written, err
		}
		copy(buffer[frame.HeaderSize:], p[written:written+room])
		if err := x.sendData(buffer[:frame.HeaderSize+room], channel); err != nil {
			return written, err
		}
		written += room
	}
	return written, nil
}

// ReadFrom sends all of a source on channel 1 without copying it once more.
func (x *Exchange) ReadFrom(source io.Reader) (int64, error) {
	buffer := chunks.Get().(*[frame.HeaderSize + maxChunk]byte)
	defer chunks.Put(buffer)
	total := int64(0)
	for {
		n, readErr := source.Read(buffer[frame.HeaderSize:])
		for sent := 0; sent < n; {
			room, err := x.await(frame.Stdout, n-sent)
			if err != nil {
				return total, err
			}
			if sent > 0 {
				copy(buffer[frame.HeaderSize:], buffer[frame.HeaderSize+sent:frame.HeaderSize+n])
				n, sent = n-sent, 0
			}
			if err := x.sendData(buffer[:frame.HeaderSize+room], frame.Stdout); err != nil {
				return total, err
			}
			sent += room
			total += int64(room)
		}
		if readErr == io.EOF {
			return total, nil
		}
		if readErr != nil {
			return total, readErr
		}
	}
}

// await waits for credit and takes up to n bytes of it, at most a frame's worth.
func (x *Exchange) await(channel uint8, n int) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	room, err := x.awaitRoom(channel)
	if err != nil {
		return 0, err
	}
	if n > room {
		n = room
	}
	x.credit[channel] -= uint64(n)
	return n, nil
}

// awaitRoom waits for credit and returns how much of it there is, at most a frame's worth. The lock is held.
func (x *Exchange) awaitRoom(channel uint8) (int, error) {
	for x.credit[channel] == 0 && !x.over {
		x.changed.Wait()
	}
	if x.over {
		return 0, ErrCancelled
	}
	if x.credit[channel] > maxChunk {
		return maxChunk, nil
	}
	return int(x.credit[channel]), nil
}

// handle takes a frame of the client.
func (x *Exchange) handle(h frame.Header, payload []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	defer x.changed.Broadcast()
	switch h.Type {
	case frame.Data:
		switch {
		case h.Channel != frame.Stdin || x.ended:
			return errState
		case len(payload) > x.window:
			return errCredit
		}
		x.window -= len(payload)
		if !x.over {
			x.queued.Append(payload)
		}
	case frame.End:
		if h.Channel != frame.Stdin || x.ended {
			return errState
		}
		x.ended = true
	case frame.Credit:
		if h.Channel == frame.Stdin {
			return errState
		}
		x.credit[h.Channel] += uint64(binary.BigEndian.Uint32(payload))
	default:
		return errState
	}
	return nil
}

func (x *Exchange) send(m message) error { return x.conn.outlet.sendUnless(&x.finished, m) }

func (x *Exchange) sendData(p []byte, channel uint8) error {
	return x.conn.outlet.sendDataUnless(&x.finished, p, channel, x.id)
}

// finish is for what an operation may leave behind: it is let go, and what it says is not sent.
func (x *Exchange) finish() {
	atomic.StoreInt32(&x.finished, 1)
	x.cancel()
}

func (x *Exchange) cancel() {
	x.mu.Lock()
	if !x.over {
		x.over = true
		x.queued.Clear()
		close(x.cancelled)
	}
	x.mu.Unlock()
	x.changed.Broadcast()
}
