package laneclient

import (
	"encoding/binary"
	"io"
	"math"
	"sync"

	"smolvm.dev/agent/internal/frame"
)

// creditStep is how much is consumed, in bytes, before the agent gets new credit.
const creditStep = frame.InitialCredit / 4

// Call is an operation that exchanges data. Reading is for one goroutine, writing for any number.
type Call struct {
	client *Client
	id     uint32
	ready  chan struct{}
	done   chan struct{}

	mu      sync.Mutex
	changed *sync.Cond
	queued  []byte // of channel 1; never more than the window allows
	window  int    // bytes of channel 1 that the agent may still send
	owed    int    // bytes read for which it has no new credit yet
	signals int    // bytes of channel 2 that it may still send
	credit  uint64 // bytes of channel 0 that it will still take
	over    bool
	err     error
}

func newCall(c *Client, id uint32) *Call {
	call := &Call{client: c, id: id, ready: make(chan struct{}), done: make(chan struct{}),
		window: frame.InitialCredit, signals: frame.InitialCredit, credit: frame.InitialCredit}
	call.changed = sync.NewCond(&call.mu)
	return call
}

// Ready is closed when the first byte of channel 2 has come.
func (c *Call) Ready() <-chan struct{} { return c.ready }

// Done is closed when the call has ended.
func (c *Call) Done() <-chan struct{} { return c.done }

// Err says how it ended: nil for a REPLY, *Failure for what the agent says.
func (c *Call) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Read gives the data of channel 1; io.EOF is the end of the call.
func (c *Call) Read(p []byte) (int, error) {
	c.mu.Lock()
	for len(c.queued) == 0 && !c.over {
		c.changed.Wait()
	}
	if len(c.queued) == 0 {
		c.mu.Unlock()
		return 0, io.EOF
	}
	n := copy(p, c.queued)
	c.queued = append(c.queued[:0], c.queued[n:]...)
	c.owed += n
	grant := 0
	if c.owed >= creditStep && !c.over {
		grant = c.owed
		c.owed = 0
		c.window += grant
	}
	c.mu.Unlock()
	if grant == 0 {
		return n, nil
	}
	var payload [4]byte
	binary.BigEndian.PutUint32(payload[:], uint32(grant))
	return n, c.client.send(frame.Credit, frame.Stdout, c.id, payload[:])
}

// Write sends data on channel 0, as the agent grants credit.
func (c *Call) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		room, err := c.await(len(p) - written)
		if err != nil {
			return written, err
		}
		if err := c.client.sendData(c.id, p[written:written+room]); err != nil {
			return written, err
		}
		written += room
	}
	return written, nil
}

func (c *Call) await(n int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.credit == 0 && !c.over {
		c.changed.Wait()
	}
	if c.over {
		return 0, io.ErrClosedPipe
	}
	if uint64(n) > c.credit {
		n = int(c.credit)
	}
	c.credit -= uint64(n)
	return n, nil
}

func (c *Call) receive(channel uint8, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if channel == frame.Stderr {
		if len(p) > c.signals {
			return ErrProtocol
		}
		if c.signals == frame.InitialCredit {
			close(c.ready)
		}
		c.signals -= len(p)
		return nil
	}
	if channel != frame.Stdout || len(p) > c.window {
		return ErrProtocol
	}
	c.window -= len(p)
	c.queued = append(c.queued, p...)
	c.changed.Broadcast()
	return nil
}

func (c *Call) credited(channel uint8, n uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if channel != frame.Stdin || c.credit > math.MaxUint64/2 {
		return ErrProtocol
	}
	c.credit += uint64(n)
	c.changed.Broadcast()
	return nil
}

func (c *Call) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.over = true
	c.err = err
	close(c.done)
	c.changed.Broadcast()
}
