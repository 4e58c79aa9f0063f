package session

import (
	"errors"
	"sync"
	"unicode/utf8"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

const (
	maxStreams = 256
	// maxQueued bounds the answers that the reader owes to a client that does not read them.
	maxQueued = 1024
	// maxPending bounds the bytes of EXEC and CALL payloads that are being worked on.
	maxPending = 16 << 20
	// maxMessage is the longest text of a FATAL or FAILED, in bytes.
	maxMessage = 4096
)

// Protocol errors that concern the connection or a stream's state.
var (
	errFirst    = errors.New("the first frame must be HELLO")
	errSequence = errors.New("sequence number is not the expected one")
	errUnknown  = errors.New("frame for a stream that never was")
	errState    = errors.New("frame does not fit the stream's state")
	errReused   = errors.New("stream number is not greater than the last one")
	errCredit   = errors.New("more data than credit")
	errQueue    = errors.New("client does not read its answers")
	errVersion  = errors.New("protocol version is not supported")
)

// stream is an open EXEC or CALL. Its methods are called by the reading goroutine and must not block.
type stream interface {
	handle(h frame.Header, payload []byte) error
	// abandon is called when the connection has ended.
	abandon()
	// detach is called instead when the connection was lost in the copying of the machine: what runs goes on.
	detach()
}

// conn is one connection, from its preamble to its end.
type conn struct {
	server   *server
	config   *Config
	outlet   *outlet // nil before HELLO
	expected uint32  // next sequence number; only for the reading goroutine
	last     uint32  // greatest stream number so far; only for the reading goroutine
	queue    chan message
	closed   chan struct{}

	mu      sync.Mutex
	streams map[uint32]stream // nil when the connection has ended
	pending int               // bytes of payloads being worked on
	epoch   uint64            // of the machine, when this connection came; see Window
}

func newConn(s *server) *conn {
	return &conn{server: s, config: s.config, streams: make(map[uint32]stream),
		queue: make(chan message, maxQueued), closed: make(chan struct{}), epoch: s.config.Window.current()}
}

func (c *conn) handle(h frame.Header, payload []byte) error {
	if c.outlet == nil {
		return c.hello(h, payload)
	}
	if h.Sequence != c.expected {
		return errSequence
	}
	c.expected++
	switch h.Type {
	case frame.Hello:
		return errState
	case frame.Exec, frame.Attach, frame.Call:
		return c.open(h, payload)
	}
	if h.Stream > c.last {
		return errUnknown
	}
	c.mu.Lock()
	target := c.streams[h.Stream]
	c.mu.Unlock()
	if target == nil {
		return nil // it has ended; the frames crossed
	}
	return target.handle(h, payload)
}

func (c *conn) hello(h frame.Header, payload []byte) error {
	if h.Type != frame.Hello || h.Sequence != 0 {
		return errFirst
	}
	var version uint32
	var nonce []byte
	err := frame.Each(payload, func(f frame.Field) (err error) {
		switch f.Tag {
		case 1:
			version, err = f.U32()
		case 2:
			nonce = f.Value
		}
		return err
	})
	if err != nil || len(nonce) != frame.NonceSize {
		return frame.ErrField
	}
	c.expected = 1
	welcome := frame.AppendU32(nil, 1, frame.Version)
	welcome = frame.AppendBytes(welcome, 2, nonce)
	welcome = frame.AppendText(welcome, 3, c.config.Version)
	c.outlet = newOutlet(c.server.duplex)
	c.server.outlet = c.outlet
	go c.answer(c.outlet, welcome)
	if version != frame.Version {
		return errVersion
	}
	return nil
}

// answer writes what the reader has to say, which itself must never wait for the client.
func (c *conn) answer(o *outlet, welcome []byte) {
	if o.greet(welcome) != nil {
		return
	}
	for {
		select {
		case m := <-c.queue:
			if o.send(m) != nil || m.kind == frame.Fatal {
				return
			}
		case <-c.closed:
			return
		}
	}
}

// enqueue sends a frame from the reading goroutine.
func (c *conn) enqueue(m message) error {
	select {
	case c.queue <- m:
		return nil
	default:
		return errQueue
	}
}

// fatal tells the client what is wrong and ends the connection.
func (c *conn) fatal(code, text string) {
	c.abandonStreams()
	payload := frame.AppendText(frame.AppendText(nil, 1, code), 2, clip(text))
	if c.outlet == nil || c.enqueue(message{kind: frame.Fatal, payload: payload}) != nil {
		close(c.closed)
	}
}

// close ends the connection without a word.
func (c *conn) close() {
	c.abandonStreams()
	close(c.closed)
}

func (c *conn) abandonStreams() {
	c.mu.Lock()
	streams := c.streams
	c.streams = nil
	spare := c.config.Window.covers(c.epoch)
	c.mu.Unlock()
	for _, s := range streams {
		if spare {
			s.detach()
		} else {
			s.abandon()
		}
	}
}

// renew makes this a connection of the copy that the machine is.
func (c *conn) renew() {
	epoch := c.config.Window.current()
	c.mu.Lock()
	c.epoch = epoch
	c.mu.Unlock()
}

// open starts a new stream.
func (c *conn) open(h frame.Header, payload []byte) error {
	if h.Stream <= c.last {
		return errReused
	}
	c.last = h.Stream
	c.mu.Lock()
	full := len(c.streams) >= maxStreams || c.pending > 0 && c.pending+len(payload) > maxPending
	c.mu.Unlock()
	if full {
		return c.enqueue(failedMessage(h.Stream, &command.Failure{Code: "EAGAIN",
			Message: "Cannot open a stream: too many are open on this connection"}))
	}
	var opened stream
	var run func()
	var err error
	switch h.Type {
	case frame.Exec:
		opened, run, err = openExec(c, h.Stream, payload)
	case frame.Attach:
		opened, run, err = openAttach(c, h.Stream, payload)
	default:
		var made *call
		if made, err = newCall(c, h.Stream, payload); err == nil {
			opened, run = made, made.run
		}
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.streams[h.Stream] = opened
	c.pending += len(payload)
	c.mu.Unlock()
	c.spawn(opened, run)
	return nil
}

// settle says that a payload of n bytes is no longer held.
func (c *conn) settle(n int) {
	c.mu.Lock()
	c.pending -= n
	c.mu.Unlock()
}

// forget removes an ended stream; it comes before the frame that tells the client, who may open another at once.
func (c *conn) forget(id uint32) {
	c.mu.Lock()
	delete(c.streams, id)
	c.mu.Unlock()
}

// spawn runs part of a stream in a goroutine that cannot take the agent down.
func (c *conn) spawn(s stream, run func()) {
	go func() {
		defer func() {
			if r := recover(); r != nil {
				c.config.Log("panic in a stream: " + describePanic(r))
				s.abandon()
			}
		}()
		run()
	}()
}

func failedMessage(stream uint32, f *command.Failure) message {
	payload := frame.AppendText(frame.AppendText(nil, 1, f.Code), 2, clip(f.Message))
	return message{kind: frame.Failed, stream: stream, payload: payload}
}

// clip keeps a text within its limit and valid.
func clip(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	end := maxMessage
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "..."
}
