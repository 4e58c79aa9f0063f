// Package laneclient is the host's side of docs/guest-protocol.md for helper programs: one connection over a lane, with
// calls that exchange data. Everything that the agent sends counts as hostile and is checked.
package laneclient

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"smolvm.dev/agent/internal/frame"
)

const (
	// maxDropped is how many leftovers are dropped in search of the own WELCOME, in bytes.
	maxDropped = 16 << 20
	readSize   = frame.MaxData + frame.HeaderSize
	// MaxCalls is how many calls a connection has at most: as many streams as the agent keeps open.
	MaxCalls = 256
	// maxSent is how many bytes of all calls the agent is given to hold, as long as each may have creditStep.
	maxSent = 16 << 20
)

// Reasons for which a connection ends.
var (
	ErrProtocol = errors.New("the guest sent something that is not the protocol")
	ErrSilent   = errors.New("the guest did not answer")
)

// Reasons for which a call is not made.
var (
	ErrBusy      = errors.New("too many calls at a time")
	ErrExhausted = errors.New("too many calls over one connection")
)

// Lane is a byte stream to the agent.
type Lane interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
}

// Client is an open connection.
type Client struct {
	lane   Lane
	closed chan struct{}

	write    sync.Mutex // also keeps frames and calls in the order of their numbers; taken before mu
	sequence uint32
	scratch  []byte

	mu    sync.Mutex
	calls map[uint32]*Call // those that have not ended
	last  uint32
	err   error // why it ended

	open int32 // atomic: how many calls there are
}

// Open greets the agent, which has until the limit to answer.
func Open(lane Lane, limit time.Duration) (*Client, error) {
	nonce := make([]byte, frame.NonceSize)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	hello := frame.AppendBytes(frame.AppendU32(nil, 1, frame.Version), 2, nonce)
	greeting := append([]byte(nil), frame.Preamble...)
	if _, err := lane.Write(frame.Append(greeting, frame.Header{Type: frame.Hello}, hello)); err != nil {
		return nil, err
	}
	if err := lane.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	c := &Client{lane: lane, closed: make(chan struct{}), sequence: 1, calls: make(map[uint32]*Call)}
	r := &reader{client: c, nonce: nonce, decoder: frame.Decoder{From: frame.FromAgent}}
	if err := r.greet(); err != nil {
		return nil, err
	}
	if err := lane.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	go func() { c.end(r.run()) }()
	return c, nil
}

// Closed is closed when the connection has ended.
func (c *Client) Closed() <-chan struct{} { return c.closed }

// Err says why it ended.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and all its calls.
func (c *Client) Close() { c.end(io.ErrClosedPipe) }

func (c *Client) end(err error) {
	c.mu.Lock()
	if c.calls == nil {
		c.mu.Unlock()
		return
	}
	calls := c.calls
	c.calls, c.err = nil, err
	c.mu.Unlock()
	for _, call := range calls {
		call.finish(err)
	}
	_ = c.lane.Close()
	close(c.closed)
}

// Call starts an operation. The fields are those behind its name.
func (c *Client) Call(operation string, fields []byte) (*Call, error) {
	payload := append(frame.AppendText(nil, 1, operation), fields...)
	c.write.Lock()
	defer c.write.Unlock()
	call, err := c.newCall()
	if err != nil {
		return nil, err
	}
	return call, c.sendLocked(frame.Call, 0, call.id, payload)
}

func (c *Client) newCall() (*Call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.calls == nil:
		return nil, c.err
	case len(c.calls) >= MaxCalls:
		return nil, ErrBusy
	case c.last == math.MaxUint32:
		return nil, ErrExhausted
	}
	c.last++
	call := newCall(c, c.last)
	c.calls[call.id] = call
	atomic.StoreInt32(&c.open, int32(len(c.calls)))
	return call, nil
}

func (c *Client) send(kind frame.Type, channel uint8, stream uint32, payload []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	return c.sendLocked(kind, channel, stream, payload)
}

func (c *Client) sendLocked(kind frame.Type, channel uint8, stream uint32, payload []byte) error {
	c.scratch = c.add(c.scratch[:0], frame.Header{Type: kind, Channel: channel, Stream: stream}, payload)
	_, err := c.lane.Write(c.scratch)
	return err
}

// sendData sends bytes of a call's channel 0. No frame holds a preamble: that would begin another connection.
func (c *Client) sendData(stream uint32, p []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	c.scratch = c.scratch[:0]
	for len(p) > 0 {
		n := len(p)
		if n > frame.MaxData {
			n = frame.MaxData
		}
		if at := bytes.Index(p[:n], frame.Preamble); at >= 0 {
			n = at + frame.PreambleSize/2
		}
		c.scratch = c.add(c.scratch, frame.Header{Type: frame.Data, Stream: stream}, p[:n])
		p = p[n:]
	}
	_, err := c.lane.Write(c.scratch)
	return err
}

func (c *Client) add(to []byte, h frame.Header, payload []byte) []byte {
	h.Sequence = c.sequence
	c.sequence++
	return frame.Append(to, h, payload)
}

// find is nil for a call that has ended.
func (c *Client) find(id uint32) (call *Call, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[id], id <= c.last
}

func (c *Client) forget(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
	atomic.StoreInt32(&c.open, int32(len(c.calls)))
}

// allowance is how many bytes a call may have with the agent: all calls together have a bound. Never less than what the
// agent waits for before it gives new credit.
func (c *Client) allowance() uint64 {
	share := uint64(maxSent) / (uint64(atomic.LoadInt32(&c.open)) + 1)
	switch {
	case share < creditStep:
		return creditStep
	case share > frame.InitialCredit:
		return frame.InitialCredit
	}
	return share
}
