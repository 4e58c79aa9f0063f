package laneclient

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"smolvm.dev/agent/internal/frame"
)

// agent is the other end of a lane: a guest that may send anything.
type agent struct {
	t        *testing.T
	conn     net.Conn
	decoder  frame.Decoder
	sequence uint32
	frames   chan received
}

type received struct {
	frame.Header
	payload []byte
}

// pair gives both ends of a lane; what the agent is to send before its greeting comes first.
func pair(t *testing.T, leftovers []byte) (*Client, *agent) {
	t.Helper()
	ours, theirs := net.Pipe()
	a := &agent{t: t, conn: theirs, decoder: frame.Decoder{From: frame.FromClient}, frames: make(chan received, 100)}
	t.Cleanup(func() { _ = theirs.Close() })
	go a.run(leftovers)
	client, err := Open(ours, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client, a
}

func (a *agent) run(leftovers []byte) {
	defer close(a.frames)
	head := make([]byte, frame.PreambleSize)
	if _, err := io.ReadFull(a.conn, head); err != nil || !bytes.Equal(head, frame.Preamble) {
		a.t.Errorf("preamble %x %v", head, err)
		return
	}
	buffer := make([]byte, readSize)
	next := uint32(0)
	for {
		n, err := a.conn.Read(buffer)
		if err != nil {
			return
		}
		err = a.decoder.Feed(buffer[:n], func(h frame.Header, p []byte) error {
			if h.Sequence != next {
				a.t.Errorf("sequence %d, want %d", h.Sequence, next)
			}
			next++
			if h.Type == frame.Hello {
				_, _ = a.conn.Write(append(append([]byte(nil), leftovers...), frame.Preamble...))
				a.send(frame.Welcome, 0, 0, p)
				return nil
			}
			a.frames <- received{h, append([]byte(nil), p...)}
			return nil
		})
		if err != nil {
			a.t.Error(err)
		}
	}
}

func (a *agent) send(kind frame.Type, channel uint8, stream uint32, payload []byte) {
	h := frame.Header{Type: kind, Channel: channel, Stream: stream, Sequence: a.sequence}
	a.sequence++
	_, _ = a.conn.Write(frame.Append(nil, h, payload))
}

func (a *agent) next(kind frame.Type) received {
	a.t.Helper()
	select {
	case f := <-a.frames:
		if f.Type != kind {
			a.t.Fatalf("frame type %#x, want %#x", f.Type, kind)
		}
		return f
	case <-time.After(5 * time.Second):
		a.t.Fatal("no frame came")
	}
	return received{}
}

func call(t *testing.T, c *Client, a *agent) *Call {
	t.Helper()
	made, err := c.Call("mount", frame.AppendU32(nil, 13, 7))
	if err != nil {
		t.Fatal(err)
	}
	f := a.next(frame.Call)
	if want := frame.AppendU32(frame.AppendText(nil, 1, "mount"), 13, 7); !bytes.Equal(f.payload, want) {
		t.Errorf("call %x", f.payload)
	}
	return made
}

func waitFor(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("never: " + what)
	}
}

func TestDropsWhatIsLeftOfEarlierClients(t *testing.T) {
	other := frame.AppendBytes(frame.AppendU32(nil, 1, 1), 2, make([]byte, frame.NonceSize))
	foreign := frame.Append(append([]byte(nil), frame.Preamble...), frame.Header{Type: frame.Welcome}, other)
	for name, leftovers := range map[string][]byte{
		"nothing": nil, "bytes": []byte("left over"), "half a preamble": frame.Preamble[:15], "another's welcome": foreign,
		"a cut welcome": foreign[:30], "a preamble": frame.Preamble,
		"frames": frame.Append(append([]byte(nil), foreign...), frame.Header{Type: frame.Data, Channel: 1, Stream: 1, Sequence: 1},
			[]byte("data")),
	} {
		t.Run(name, func(t *testing.T) {
			c, a := pair(t, leftovers)
			made := call(t, c, a)
			a.send(frame.Reply, 0, made.id, nil)
			waitFor(t, "the reply", made.Done())
			if made.Err() != nil {
				t.Error(made.Err())
			}
		})
	}
}

func TestSilenceAndNoise(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	if _, err := Open(ours, 50*time.Millisecond); err != ErrSilent {
		t.Errorf("silence: %v", err)
	}
	ours, noise := net.Pipe()
	defer noise.Close()
	go func() { _, _ = io.Copy(io.Discard, noise) }()
	go func() {
		for p := make([]byte, 1<<20); ; {
			if _, err := noise.Write(p); err != nil {
				return
			}
		}
	}()
	if _, err := Open(ours, 20*time.Second); err != ErrProtocol {
		t.Errorf("noise: %v", err)
	}
	_ = ours.Close()
}

func TestDataBothWays(t *testing.T) {
	c, a := pair(t, nil)
	made := call(t, c, a)
	a.send(frame.Data, frame.Stderr, made.id, []byte{1})
	waitFor(t, "ready", made.Ready())
	a.send(frame.Data, frame.Stdout, made.id, []byte("hello"))
	p := make([]byte, 5)
	if _, err := io.ReadFull(made, p); err != nil || string(p) != "hello" {
		t.Errorf("%q %v", p, err)
	}
	// A preamble in the data never goes out in one piece.
	data := append(append([]byte("before"), frame.Preamble...), frame.Preamble...)
	go func() { _, _ = made.Write(data) }()
	var got []byte
	for len(got) < len(data) {
		f := a.next(frame.Data)
		if f.Channel != frame.Stdin || f.Stream != made.id || bytes.Contains(f.payload, frame.Preamble) {
			t.Errorf("frame %+v %x", f.Header, f.payload)
		}
		got = append(got, f.payload...)
	}
	if !bytes.Equal(got, data) {
		t.Errorf("%x", got)
	}
	a.send(frame.Failed, 0, made.id, frame.AppendText(frame.AppendText(nil, 1, "ENODEV"), 2, "no"))
	waitFor(t, "the end", made.Done())
	var failure *Failure
	if !errors.As(made.Err(), &failure) || failure.Code != "ENODEV" || failure.Message != "no" {
		t.Errorf("%v", made.Err())
	}
	if _, err := made.Read(p); err != io.EOF {
		t.Errorf("read after the end: %v", err)
	}
	if _, err := made.Write(p); err == nil {
		t.Error("wrote after the end")
	}
}

func TestCredit(t *testing.T) {
	c, a := pair(t, nil)
	made := call(t, c, a)
	written := make(chan error, 1)
	go func() {
		_, err := made.Write(make([]byte, frame.InitialCredit+10))
		written <- err
	}()
	for sent := 0; sent < frame.InitialCredit; {
		sent += len(a.next(frame.Data).payload)
	}
	select {
	case f := <-a.frames:
		t.Fatalf("%d bytes more than credit", len(f.payload))
	case <-written:
		t.Fatal("all was written without credit")
	case <-time.After(50 * time.Millisecond):
	}
	a.send(frame.Credit, frame.Stdin, made.id, []byte{0, 0, 0, 10})
	if n := len(a.next(frame.Data).payload); n != 10 || <-written != nil {
		t.Errorf("%d bytes", n)
	}
	// The other way round: what is read gives new credit.
	go func() { _, _ = io.CopyN(io.Discard, made, creditStep) }()
	for i := 0; i < creditStep/frame.MaxData; i++ {
		a.send(frame.Data, frame.Stdout, made.id, make([]byte, frame.MaxData))
	}
	if f := a.next(frame.Credit); f.Channel != frame.Stdout || binary.BigEndian.Uint32(f.payload) < creditStep {
		t.Errorf("credit %+v %x", f.Header, f.payload)
	}
}

func TestAHostileAgentEndsItsConnection(t *testing.T) {
	data := func(channel uint8, stream uint32, n int) func(*agent) {
		return func(a *agent) { a.send(frame.Data, channel, stream, make([]byte, n)) }
	}
	for name, attack := range map[string]func(*agent){
		"a stream that never was":  data(1, 9, 1),
		"data on stdin":            data(0, 1, 1),
		"a gap in the numbers":     func(a *agent) { a.sequence++; data(1, 1, 1)(a) },
		"a client's frame":         func(a *agent) { a.send(frame.Kill, 0, 1, nil) },
		"a frame of a command":     func(a *agent) { a.send(frame.Exited, 0, 1, nil) },
		"bytes":                    func(a *agent) { _, _ = a.conn.Write(make([]byte, 64)) },
		"credit for output":        func(a *agent) { a.send(frame.Credit, 1, 1, make([]byte, 4)) },
		"a second end":             func(a *agent) { a.send(frame.Reply, 0, 1, nil); a.send(frame.Reply, 0, 1, nil) },
		"FATAL":                    func(a *agent) { a.send(frame.Fatal, 0, 0, []byte{1}) },
		"more signals than credit": func(a *agent) { flood(a, frame.Stderr) },
		"more data than credit":    func(a *agent) { flood(a, frame.Stdout) },
	} {
		t.Run(name, func(t *testing.T) {
			c, a := pair(t, nil)
			made := call(t, c, a)
			go func() {
				for range a.frames { // such as credit
				}
			}()
			go attack(a)
			waitFor(t, "the end of the connection", c.Closed())
			waitFor(t, "the end of the call", made.Done())
			if c.Err() == nil {
				t.Error("the connection ended without a reason")
			}
		})
	}
}

func flood(a *agent, channel uint8) {
	for i := 0; i <= frame.InitialCredit/frame.MaxData; i++ {
		a.send(frame.Data, channel, 1, make([]byte, frame.MaxData))
	}
}

func TestTheEndOfTheLane(t *testing.T) {
	c, a := pair(t, nil)
	made := call(t, c, a)
	_ = a.conn.Close()
	waitFor(t, "the end of the connection", c.Closed())
	if _, err := made.Read(make([]byte, 1)); err != io.EOF || made.Err() == nil {
		t.Errorf("%v %v", err, made.Err())
	}
	if _, err := c.Call("mount", nil); err == nil {
		t.Error("a call on a closed connection")
	}
}
