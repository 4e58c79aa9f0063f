package session

import (
	"io"
	"os"
	"sync"
	"time"
)

// laneCapacity is what a test lane holds in each direction, in bytes: small, so that both ends must wait.
const laneCapacity = 64 << 10

// pipe is one direction of an in-memory lane.
type pipe struct {
	mu       sync.Mutex
	changed  *sync.Cond
	data     []byte
	closed   bool
	left     bool // the client has left and the reader has not been told
	expired  bool // a write deadline has passed
	capacity int
}

func newPipe(capacity int) *pipe {
	p := &pipe{capacity: capacity}
	p.changed = sync.NewCond(&p.mu)
	return p
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.data) == 0 && !p.closed && !p.left {
		p.changed.Wait()
	}
	if len(p.data) > 0 {
		n := copy(b, p.data)
		p.data = p.data[n:]
		p.changed.Broadcast()
		return n, nil
	}
	if p.left {
		p.left = false
		return 0, ErrClientLeft
	}
	return 0, io.EOF
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = false // who writes is there: a quick reconnect goes unnoticed, as on a port
	written := 0
	for written < len(b) {
		for len(p.data) >= p.capacity && !p.closed && !p.expired {
			p.changed.Wait()
		}
		if p.expired {
			return written, os.ErrDeadlineExceeded
		}
		if p.closed {
			return written, io.ErrClosedPipe
		}
		n := p.capacity - len(p.data)
		if n > len(b)-written {
			n = len(b) - written
		}
		p.data = append(p.data, b[written:written+n]...)
		written += n
		p.changed.Broadcast()
	}
	return written, nil
}

func (p *pipe) set(change func()) {
	p.mu.Lock()
	change()
	p.mu.Unlock()
	p.changed.Broadcast()
}

// memoryLane is the agent's end of a lane whose client is the test.
type memoryLane struct {
	fromClient, toClient *pipe
}

func newMemoryLane() *memoryLane {
	return &memoryLane{newPipe(laneCapacity), newPipe(laneCapacity)}
}

func (l *memoryLane) Read(b []byte) (int, error)  { return l.fromClient.Read(b) }
func (l *memoryLane) Write(b []byte) (int, error) { return l.toClient.Write(b) }

func (l *memoryLane) SetWriteDeadline(t time.Time) error {
	l.toClient.set(func() { l.toClient.expired = !t.IsZero() })
	return nil
}

// hangUp lets the client leave; the lane discards what it has not read, like a port does.
func (l *memoryLane) hangUp() {
	l.toClient.set(func() { l.toClient.data = nil })
	l.fromClient.set(func() { l.fromClient.left = true })
}

func (l *memoryLane) close() {
	l.toClient.set(func() { l.toClient.closed = true })
	l.fromClient.set(func() { l.fromClient.closed = true })
}
