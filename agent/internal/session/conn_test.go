package session

import (
	"testing"
	"time"

	"smolvm.dev/agent/internal/frame"
)

func fatal(t *testing.T, c *client, want string) {
	t.Helper()
	if o := c.finish(0); o.Type != frame.Fatal || o.text(1) != want {
		t.Errorf("type %x %q %q, want FATAL %s", o.Type, o.text(1), o.text(2), want)
	}
}

func TestProtocolErrorsAreFatalAndTheLaneGoesOn(t *testing.T) {
	lane := serve(t)
	nul := frame.AppendText(nil, 1, "a\x00b")
	for name, breakIt := range map[string]func(*client){
		"replay":        func(c *client) { c.sequence--; c.shell("true") },
		"gap":           func(c *client) { c.sequence++; c.shell("true") },
		"second hello":  func(c *client) { c.send(frame.Hello, 0, 0, nil) },
		"unknown":       func(c *client) { c.send(frame.Kill, 0, 5, nil) },
		"magic":         func(c *client) { c.raw(make([]byte, frame.HeaderSize)) },
		"stream reused": func(c *client) { c.finish(c.shell("true")); c.stream = 0; c.shell("true") },
		"text":          func(c *client) { c.exec(nul) },
		"no stdin":      func(c *client) { c.send(frame.Data, 0, c.exec(request("sleep", "9")), []byte("x")) },
		"signal zero":   func(c *client) { c.send(frame.Signal, 0, c.exec(request("sleep", "9")), frame.AppendU32(nil, 1, 0)) },
		"past credit": func(c *client) {
			id := c.exec(frame.AppendBytes(request("sleep", "9"), 9, []byte{1}))
			// More than the window and the command's pipe take together.
			for sent := 0; sent <= 1<<20; sent += 65536 {
				c.send(frame.Data, 0, id, make([]byte, 65536))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, lane)
			breakIt(c)
			fatal(t, c, "EPROTO")
		})
	}
	c := connect(t, lane)
	c.finish(c.shell("true"))
}

func TestOtherVersionIsRefused(t *testing.T) {
	lane := serve(t)
	c := &client{t: t, lane: lane, decoder: frame.Decoder{From: frame.FromAgent}}
	c.raw(frame.Preamble)
	c.send(frame.Hello, 0, 0, frame.AppendBytes(frame.AppendU32(nil, 1, 99), 2, make([]byte, 16)))
	var preamble [frame.PreambleSize]byte
	if _, err := lane.toClient.Read(preamble[:]); err != nil {
		t.Fatal(err)
	}
	if f := c.next(); f.Type != frame.Welcome {
		t.Fatalf("%+v", f)
	}
	fatal(t, c, "EPROTONOSUPPORT")
}

func TestGarbageBeforeThePreambleIsDropped(t *testing.T) {
	lane := serve(t)
	c := &client{t: t, lane: lane}
	c.raw([]byte("SM garbage \xff\xfe SMOL"))
	c.raw(frame.Preamble[:7])
	c = connect(t, lane)
	if o := c.finish(c.shell("exit 3")); o.u32(1) != 3 {
		t.Errorf("%v", o.fields)
	}
}

func TestPreambleInsideAPayloadStartsAnew(t *testing.T) {
	lane := serve(t)
	c := connect(t, lane)
	id := c.exec(frame.AppendBytes(request("/bin/sh", "-c", "echo $$; exec cat"), 9, []byte{1}))
	pid := ""
	for pid == "" {
		if f := c.next(); f.Type == frame.Data {
			pid = string(f.payload[:len(f.payload)-1])
		}
	}
	// A client that dies within a frame leaves its header; the next one's bytes come where the payload should.
	whole := frame.Append(nil, frame.Header{Type: frame.Data, Stream: id, Sequence: c.sequence}, make([]byte, 60000))
	c.raw(whole[:100])
	c = connect(t, lane)
	eventually(t, "the old command is killed", func() bool { return !running(pid) })
	if o := c.finish(c.shell("exit 4")); o.u32(1) != 4 {
		t.Errorf("%v", o.fields)
	}
}

func TestNewClientIsServedThoughTheOldOneNeverRead(t *testing.T) {
	lane := serve(t)
	for round := 0; round < 20; round++ {
		c := connect(t, lane)
		for i := 0; i < 8; i++ {
			c.shell("yes") // fills the lane, which nobody reads
		}
		if round%2 == 0 {
			time.Sleep(5 * time.Millisecond)
			lane.hangUp()
		}
	}
	c := connect(t, lane)
	c.finish(c.shell("true"))
}

func TestOneStreamTooMany(t *testing.T) {
	lane := serve(t)
	c := connect(t, lane)
	for i := 0; i < maxStreams; i++ {
		c.exec(request("sleep", "100"))
	}
	if o := c.finish(c.exec(request("sleep", "100"))); o.Type != frame.Failed || o.text(1) != "EAGAIN" {
		t.Errorf("%x %v", o.Type, o.fields)
	}
	// The connection's end kills them all; a new one has all its streams.
	lane.hangUp()
	c = connect(t, lane)
	c.finish(c.shell("true"))
}

func TestCalls(t *testing.T) {
	c := connect(t, serve(t))
	call := func(name string) outcome {
		c.stream++
		c.send(frame.Call, 0, c.stream, frame.AppendText(nil, 1, name))
		return c.finish(c.stream)
	}
	if o := call("echo"); o.Type != frame.Reply || o.text(1) != "echo" {
		t.Errorf("%x %v", o.Type, o.fields)
	}
	if o := call("no-such"); o.Type != frame.Failed || o.text(1) != "ENOSYS" {
		t.Errorf("%x %v", o.Type, o.fields)
	}
}

func FuzzSession(f *testing.F) {
	hello := frame.Append(nil, frame.Header{Type: frame.Hello},
		frame.AppendBytes(frame.AppendU32(nil, 1, 1), 2, make([]byte, 16)))
	start := append(append([]byte(nil), frame.Preamble...), hello...)
	f.Add(start)
	f.Add([]byte("garbage"))
	// The starter refuses everything: no command of the fuzzer's choice may run on the host.
	f.Add(frame.Append(start, frame.Header{Type: frame.Exec, Stream: 1, Sequence: 1}, request("/proc/no-such-program")))
	f.Add(frame.Append(start, frame.Header{Type: frame.Call, Stream: 1, Sequence: 1}, frame.AppendText(nil, 1, "echo")))
	f.Add(frame.Append(start, frame.Header{Type: frame.Signal, Stream: 1, Sequence: 1}, frame.AppendU32(nil, 1, 9)))
	f.Fuzz(func(t *testing.T, stream []byte) {
		lane := newMemoryLane()
		config := &Config{Starter: fuzzStarter(), Version: testVersion, Log: func(s string) { t.Error(s) },
			Operations: map[string]Operation{"echo": func(p []byte) (func() Result, error) {
				return func() Result { return Result{} }, nil
			}}}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = Serve(lane, config)
		}()
		c := &client{t: t, lane: lane}
		c.raw(stream)
		// Whatever came before, the next client is served.
		c = connect(t, lane)
		c.stream = 1
		c.send(frame.Call, 0, 1, frame.AppendText(nil, 1, "echo"))
		if o := c.finish(1); o.Type != frame.Reply {
			t.Errorf("%x %v", o.Type, o.fields)
		}
		lane.close()
		<-done
	})
}
