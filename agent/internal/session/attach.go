package session

import (
	"encoding/binary"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

// view is a stream that shows a detached process to a client: that of the EXEC which started it, or of an ATTACH. A
// goroutine of its own writes to the client, so that one that is slow holds up nobody else.
type view struct {
	conn    *conn
	id      uint32
	bytes   int       // of the request's payload, until it is settled
	process *detached // nil for an ATTACH to nothing
	// attached: the client need not know what the process takes.
	attached bool
	asked    uint64 // offset from which on it wants the output
	oldest   bool   // it wants all that is kept

	// Guarded by the process's lock.
	writer writer
	owed   int       // bytes of stdin that the client is to get credit for
	credit [3]uint64 // bytes that the client will still take, by channel
	offset uint64    // of the next byte to be sent
	before counts    // bytes before offset
	lost   counts    // bytes that were gone before they could be sent
	dead   bool      // the connection has ended
	left   bool      // the client wants no more of it
}

func newView(c *conn, id uint32, bytes int, d *detached) *view {
	v := &view{conn: c, id: id, bytes: bytes, process: d}
	v.writer = writer{window: frame.InitialCredit, owner: v}
	v.credit[frame.Stdout] = frame.InitialCredit
	v.credit[frame.Stderr] = frame.InitialCredit
	return v
}

// openAttach makes the stream of an ATTACH, and what is to run in a goroutine of its own.
func openAttach(c *conn, id uint32, payload []byte) (stream, func(), error) {
	v := newView(c, id, len(payload), nil)
	v.attached, v.oldest = true, true
	name, named := "", false
	err := frame.Each(payload, func(f frame.Field) (err error) {
		switch f.Tag {
		case 1:
			named = true
			name, err = f.Text()
		case 2:
			v.oldest = false
			v.asked, err = f.U64()
		}
		return err
	})
	if err == nil && !named {
		err = frame.ErrField
	}
	if err != nil {
		return nil, nil, err
	}
	if v.process = c.config.Processes.find(name); v.process == nil {
		return v, func() {
			v.fail(&command.Failure{Code: "ESRCH", Message: "Cannot attach to process \"" + cut(name, maxUserName) +
				"\": there is none of that id, or it ended too long ago"})
		}, nil
	}
	return v, v.follow, nil
}

func (v *view) fail(f *command.Failure) {
	v.conn.settle(v.bytes)
	v.conn.forget(v.id)
	_ = v.conn.outlet.send(failedMessage(v.id, f))
}

// launch starts the process and shows it.
func (v *view) launch() {
	if failed := v.process.launch(v.conn.config); failed != nil {
		v.fail(failed)
		return
	}
	v.follow()
}

// follow shows the process until it has ended, or the client has had enough. The ring is there as long.
func (v *view) follow() {
	d := v.process
	defer d.leave()
	v.conn.settle(v.bytes)
	started := frame.AppendText(frame.AppendU32(nil, 1, uint32(d.process.Pid)), 2, d.id)
	started = frame.AppendU64(started, 3, v.begin())
	_ = v.conn.outlet.send(message{kind: frame.Started, stream: v.id, payload: started})
	for v.step() {
	}
}

// begin finds where the view begins, and returns it.
func (v *view) begin() uint64 {
	d := v.process
	d.mu.Lock()
	defer d.mu.Unlock()
	v.offset = v.asked
	if v.oldest || v.offset < d.ring.start {
		v.offset = d.ring.start
	}
	if v.offset > d.ring.end {
		v.offset = d.ring.end
	}
	v.before = d.ring.lost.plus(d.ring.count(d.ring.start, v.offset-d.ring.start))
	return v.offset
}

// step waits for something to tell the client, tells it, and reports whether there will be more.
func (v *view) step() bool {
	d := v.process
	d.mu.Lock()
	for !v.ready() {
		d.changed.Wait()
	}
	switch {
	case v.dead:
		d.mu.Unlock()
		return false
	case v.left:
		d.mu.Unlock()
		v.conn.forget(v.id)
		_ = v.conn.outlet.send(message{kind: frame.Reply, stream: v.id})
		return false
	case v.owed >= creditStep:
		n := v.owed
		v.owed = 0
		v.writer.window += n
		d.mu.Unlock()
		return v.conn.outlet.send(creditMessage(v.id, n)) == nil
	case v.offset < d.ring.start:
		v.lost = v.lost.plus(d.ring.lost.minus(v.before))
		v.offset, v.before = d.ring.start, d.ring.lost
		skipped := frame.AppendU64(nil, 1, v.offset)
		d.mu.Unlock()
		return v.conn.outlet.send(message{kind: frame.Skipped, stream: v.id, payload: skipped}) == nil
	case v.offset == d.ring.end:
		messages := d.exited(v.id, v.lost)
		d.mu.Unlock()
		v.conn.forget(v.id)
		_ = v.conn.outlet.send(messages[:]...)
		return false
	}
	buffer := chunks.Get().(*[frame.HeaderSize + maxChunk]byte)
	defer chunks.Put(buffer)
	channel, n := v.take(buffer[frame.HeaderSize:])
	d.mu.Unlock()
	return v.conn.outlet.sendData(buffer[:frame.HeaderSize+n], channel, v.id) == nil
}

// ready reports that there is something to tell the client. The lock is held.
func (v *view) ready() bool {
	d := v.process
	switch {
	case v.dead, v.left, v.owed >= creditStep, v.offset < d.ring.start:
		return true
	case v.offset == d.ring.end:
		return d.over
	}
	channel := frame.Stdout
	if d.ring.isStderr(v.offset % ringSize) {
		channel = frame.Stderr
	}
	return v.credit[channel] > 0
}

// take copies the next output that there is credit for. The lock is held.
func (v *view) take(p []byte) (channel uint8, n int) {
	channel, output := v.process.ring.run(v.offset)
	if allowed := v.credit[channel]; uint64(len(output)) > allowed {
		output = output[:allowed]
	}
	n = copy(p, output)
	v.credit[channel] -= uint64(n)
	v.before[channel] += uint64(n)
	v.offset += uint64(n)
	return channel, n
}

// handle takes a frame of the client.
func (v *view) handle(h frame.Header, payload []byte) error {
	d := v.process
	if d == nil {
		return nil
	}
	switch h.Type {
	case frame.Data, frame.End:
		if h.Channel != frame.Stdin || d.input == nil && !v.attached {
			return errState
		}
		return v.write(h, payload)
	case frame.Credit:
		if h.Channel == frame.Stdin {
			return errState
		}
		d.mu.Lock()
		v.credit[h.Channel] += uint64(binary.BigEndian.Uint32(payload))
		d.mu.Unlock()
		d.changed.Broadcast()
	case frame.Signal:
		return d.signal(payload)
	case frame.Kill:
		// What it has left behind, and its number, are no longer its own.
		if !d.hasEnded() {
			d.kill()
		}
	case frame.Resize:
		if !d.request.terminal && !v.attached {
			return errState
		}
		return d.resize(payload)
	case frame.Detach:
		d.mu.Lock()
		v.left = true
		d.mu.Unlock()
		d.changed.Broadcast()
	default:
		return errState
	}
	return nil
}

// write takes stdin. What the process cannot take, for it has none or another view has closed it, is dropped.
func (v *view) write(h frame.Header, payload []byte) error {
	d := v.process
	d.mu.Lock()
	defer d.mu.Unlock()
	open := d.input != nil && !d.input.closed()
	if h.Type == frame.End {
		if open {
			return d.input.end(&v.writer)
		}
		if v.writer.ended {
			return errState
		}
		v.writer.ended = true
		return nil
	}
	if open {
		return d.input.offer(&v.writer, payload)
	}
	if err := v.writer.check(len(payload)); err != nil {
		return err
	}
	v.writer.window -= len(payload)
	v.owed += len(payload)
	d.changed.Broadcast()
	return nil
}

// refund lets the client send n more bytes of stdin. Its own goroutine tells it: here it could hold up other writers.
func (v *view) refund(n int) {
	d := v.process
	d.mu.Lock()
	v.owed += n
	d.mu.Unlock()
	d.changed.Broadcast()
}

// abandon ends the view, and a process that waits to be started: nobody was told that it runs.
func (v *view) abandon() {
	d := v.process
	if d == nil {
		return
	}
	d.mu.Lock()
	v.dead = true
	if !v.attached {
		d.cancel()
	}
	d.mu.Unlock()
	d.changed.Broadcast()
}

func (v *view) detach() { v.abandon() }
