package laneclient

import (
	"encoding/binary"
	"io"
	"math"
	"sync"

	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/pieces"
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
	queued  pieces.Queue // of channel 1; never more than the window allows
	window  int          // bytes of channel 1 that the agent may still send
	owed    int          // bytes read for which it has no new credit yet
	signals int          // bytes of channel 2 that it may still send
	credit  uint64       // bytes of channel 0 that it will still take
	half    bool         // channel 1 has ended
	shut    bool         // channel 0 has ended, or is of no use any more
	killed  bool
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

// Ended reports that the agent has ended channel 1: what was read until io.EOF is all of it.
func (c *Call) Ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.half
}

// Read gives the data of channel 1; io.EOF is its end, or the end of the call.
func (c *Call) Read(p []byte) (int, error) {
	c.mu.Lock()
	if !c.awaitData() {
		c.mu.Unlock()
		return 0, io.EOF
	}
	n := c.queued.Read(p)
	grant := c.consumed(n)
	c.mu.Unlock()
	return n, c.grant(grant)
}

// WriteTo gives the data of channel 1 to a writer, until its end or the end of the call. It holds no buffer while it
// waits for data.
func (c *Call) WriteTo(to io.Writer) (int64, error) {
	total := int64(0)
	for {
		c.mu.Lock()
		if !c.awaitData() {
			c.mu.Unlock()
			return total, nil
		}
		piece := c.queued.Take()
		c.mu.Unlock()
		n, err := to.Write(piece.Bytes())
		piece.Release()
		total += int64(n)
		if err != nil {
			return total, err
		}
		c.mu.Lock()
		grant := c.consumed(n)
		c.mu.Unlock()
		if err := c.grant(grant); err != nil {
			return total, err
		}
	}
}

// awaitData waits for something to read and reports whether there is any. The lock is held.
func (c *Call) awaitData() bool {
	for c.queued.Len() == 0 && !c.half && !c.over && !c.killed {
		c.changed.Wait()
	}
	return c.queued.Len() > 0
}

// consumed counts what was read and returns the credit that the agent is to get. The lock is held.
func (c *Call) consumed(n int) int {
	c.owed += n
	if c.owed < creditStep || c.half || c.over {
		return 0
	}
	grant := c.owed
	c.owed = 0
	c.window += grant
	return grant
}

func (c *Call) grant(n int) error {
	if n == 0 {
		return nil
	}
	var payload [4]byte
	binary.BigEndian.PutUint32(payload[:], uint32(n))
	return c.client.send(frame.Credit, frame.Stdout, c.id, payload[:])
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
	for {
		if c.over || c.shut {
			return 0, io.ErrClosedPipe
		}
		// What it has not credited again counts as being with the agent.
		kept := frame.InitialCredit - c.client.allowance()
		if c.credit > kept {
			if room := c.credit - kept; uint64(n) > room {
				n = int(room)
			}
			c.credit -= uint64(n)
			return n, nil
		}
		c.changed.Wait()
	}
}

// CloseWrite ends channel 0. It must not be called while somebody writes.
func (c *Call) CloseWrite() error {
	if !c.shutDown() {
		return nil
	}
	return c.client.send(frame.End, frame.Stdin, c.id, nil)
}

// Kill asks the agent to end the call, which it then does with a failure. What has come is dropped.
func (c *Call) Kill() error {
	c.mu.Lock()
	again := c.over || c.killed
	c.killed, c.shut = true, true
	c.queued.Clear()
	c.mu.Unlock()
	c.changed.Broadcast()
	if again {
		return nil
	}
	return c.client.send(frame.Kill, 0, c.id, nil)
}

// shutDown notes the end of channel 0, and reports whether the agent is to be told.
func (c *Call) shutDown() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut || c.over {
		return false
	}
	c.shut = true
	c.changed.Broadcast()
	return true
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
	if channel != frame.Stdout || len(p) > c.window || c.half {
		return ErrProtocol
	}
	c.window -= len(p)
	if !c.killed {
		c.queued.Append(p)
	}
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

// ended takes the END of a channel.
func (c *Call) ended(channel uint8) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if channel == frame.Stderr {
		return nil // of no use
	}
	if channel != frame.Stdout || c.half {
		return ErrProtocol
	}
	c.half = true
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
