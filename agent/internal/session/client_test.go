package session

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

// A process may have only one reaper, so all tests share one.
var (
	starterOnce sync.Once
	starter     *command.Starter
)

// nonces makes each test client's nonce another.
var nonces uint64

const testVersion = "test"

const testGroup = "/smolvm-agent-test"

func TestMain(m *testing.M) {
	code := m.Run()
	for _, place := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		left, _ := filepath.Glob(place + testGroup + "/*")
		for _, dir := range append(left, place+testGroup) {
			_ = syscall.Rmdir(dir)
		}
	}
	os.Exit(code)
}

func sharedStarter() *command.Starter {
	starterOnce.Do(func() {
		starter = &command.Starter{Reaper: command.NewReaper(), Environment: &command.Environment{},
			Freezer: &command.Freezer{}}
		// Without root or without cgroup v2 the commands are found by their session.
		for _, place := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
			if starter.Groups == nil {
				starter.Groups = command.NewGroups(place + testGroup)
			}
		}
	})
	return starter
}

type client struct {
	t        *testing.T
	lane     *memoryLane
	sequence uint32
	expected uint32
	stream   uint32
	decoder  frame.Decoder
	frames   []received
}

type received struct {
	frame.Header
	payload []byte
}

// serve starts the agent's side on a fresh lane.
func serve(t *testing.T) *memoryLane {
	t.Helper()
	return serveConfig(t, &Config{Operations: map[string]Operation{"echo": func(p []byte) (func() Result, error) {
		copied := append([]byte(nil), p...)
		return func() Result { return Result{Reply: copied} }, nil
	}}})
}

// serveConfig does with a configuration that is completed.
func serveConfig(t *testing.T, config *Config) *memoryLane {
	t.Helper()
	lane := newMemoryLane()
	config.Starter, config.Version, config.Log = sharedStarter(), testVersion, func(s string) { t.Error(s) }
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = Serve(lane, config)
	}()
	t.Cleanup(func() {
		lane.close()
		<-done
	})
	return lane
}

func connect(t *testing.T, lane *memoryLane) *client {
	t.Helper()
	c := &client{t: t, lane: lane, decoder: frame.Decoder{From: frame.FromAgent}}
	nonce := make([]byte, frame.NonceSize)
	binary.BigEndian.PutUint64(nonce, atomic.AddUint64(&nonces, 1))
	identity := frame.AppendBytes(frame.AppendU32(nil, 1, frame.Version), 2, nonce)
	c.raw(frame.Preamble)
	c.send(frame.Hello, 0, 0, identity)
	// What the lane still holds for an earlier client comes first, cut anywhere.
	wanted := frame.Append(append([]byte(nil), frame.Preamble...), frame.Header{Type: frame.Welcome},
		frame.AppendText(identity, 3, testVersion))
	var seen []byte
	for !bytes.HasSuffix(seen, wanted) {
		var b [1]byte
		if _, err := io.ReadFull(lane.toClient, b[:]); err != nil {
			t.Fatal(err)
		}
		seen = append(seen, b[0])
	}
	c.expected = 1
	return c
}

func (c *client) raw(p []byte) {
	if _, err := c.lane.fromClient.Write(p); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) send(kind frame.Type, channel uint8, stream uint32, payload []byte) {
	h := frame.Header{Type: kind, Channel: channel, Stream: stream, Sequence: c.sequence}
	c.sequence++
	c.raw(frame.Append(nil, h, payload))
}

func (c *client) next() received {
	c.t.Helper()
	var b [4096]byte
	for len(c.frames) == 0 {
		n, err := c.lane.toClient.Read(b[:])
		if err == nil {
			err = c.decoder.Feed(b[:n], func(h frame.Header, p []byte) error {
				if h.Sequence != c.expected {
					c.t.Errorf("sequence %d, want %d", h.Sequence, c.expected)
				}
				c.expected++
				c.frames = append(c.frames, received{h, append([]byte(nil), p...)})
				return nil
			})
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
	first := c.frames[0]
	c.frames = c.frames[1:]
	return first
}

func request(argv ...string) (p []byte) {
	for _, a := range argv {
		p = frame.AppendText(p, 1, a)
	}
	return p
}

func (c *client) exec(payload []byte) uint32 {
	c.stream++
	c.send(frame.Exec, 0, c.stream, payload)
	return c.stream
}

func (c *client) shell(line string) uint32 { return c.exec(request("/bin/sh", "-c", line)) }

func (c *client) credit(stream uint32, channel uint8, n int) {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], uint32(n))
	c.send(frame.Credit, channel, stream, p[:])
}

type outcome struct {
	frame.Type
	output [3][]byte
	fields map[uint8][]byte
	ended  int
}

func (o outcome) u32(tag uint8) int {
	if len(o.fields[tag]) != 4 {
		return -1
	}
	return int(binary.BigEndian.Uint32(o.fields[tag]))
}

func (o outcome) text(tag uint8) string { return string(o.fields[tag]) }

// finish reads a stream to its end and gives credit for what it reads.
func (c *client) finish(stream uint32) outcome {
	c.t.Helper()
	var o outcome
	for {
		f := c.next()
		if f.Stream != stream && f.Type != frame.Fatal {
			continue
		}
		switch f.Type {
		case frame.Data:
			o.output[f.Channel] = append(o.output[f.Channel], f.payload...)
			c.credit(stream, f.Channel, len(f.payload))
		case frame.End:
			o.ended++
		case frame.Exited, frame.Failed, frame.Fatal, frame.Reply:
			o.Type = f.Type
			o.fields = make(map[uint8][]byte)
			_ = frame.Each(f.payload, func(x frame.Field) error {
				o.fields[x.Tag] = x.Value
				return nil
			})
			return o
		}
	}
}

// eventually waits for something that another process does.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// fuzzStarter starts nothing: a closed reaper refuses, and everything before that is still exercised.
func fuzzStarter() *command.Starter {
	fuzzOnce.Do(func() {
		closed := &command.Reaper{}
		closed.Close()
		fuzzing = &command.Starter{Reaper: closed, Environment: &command.Environment{}}
	})
	return fuzzing
}

var (
	fuzzOnce sync.Once
	fuzzing  *command.Starter
)
