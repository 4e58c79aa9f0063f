package session

import (
	"encoding/binary"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

// exec is an open EXEC stream, whose command belongs to its connection. It is the sink of the command's output.
type exec struct {
	task // whose lock guards what follows too
	conn *conn
	id   uint32

	flow   [3]flow // by channel
	writer writer
	dead   bool // the connection has ended, and with it the command
	// forsaken: the connection has ended and the command goes on; its outputs are read and dropped.
	forsaken bool
}

// flow is what the client wants of one output.
type flow struct {
	credit  uint64 // bytes that the client will still take
	limit   uint64 // bytes still to be sent before the rest is dropped
	dropped uint64
}

// openExec makes the stream of an EXEC, and what is to run in a goroutine of its own.
func openExec(c *conn, id uint32, payload []byte) (stream, func(), error) {
	request, err := parseExec(payload)
	if err != nil {
		return nil, nil, err
	}
	if request.detached {
		v := newView(c, id, len(payload), newDetached(request))
		return v, v.launch, nil
	}
	e := newExec(c, id, request)
	return e, e.run, nil
}

func newExec(c *conn, id uint32, request *execRequest) *exec {
	e := &exec{conn: c, id: id}
	e.init(request)
	for channel, limit := range request.limits {
		e.flow[channel] = flow{credit: frame.InitialCredit, limit: limit}
	}
	e.writer = writer{window: frame.InitialCredit, owner: e}
	return e
}

// run is the life of a command, from the request to EXITED or FAILED.
func (e *exec) run() {
	process, outputs, failed := e.start(e.conn.config.Starter, e)
	e.conn.settle(e.request.bytes)
	if failed != nil {
		e.conn.forget(e.id)
		_ = e.conn.outlet.send(failedMessage(e.id, failed))
		return
	}
	started := frame.AppendU32(nil, 1, uint32(process.Pid))
	// Before adopt: a signal that waited may end the command, and STARTED comes first all the same.
	_ = e.conn.outlet.send(message{kind: frame.Started, stream: e.id, payload: started})
	e.adopt(process, outputs)
	e.attend(func(run func()) { e.conn.spawn(e, run) })
	e.conn.forget(e.id)
	messages := e.exited(e.id, [3]uint64{frame.Stdout: e.flow[frame.Stdout].dropped,
		frame.Stderr: e.flow[frame.Stderr].dropped})
	_ = e.conn.outlet.send(messages[:]...)
	prepareOutputs()
}

func (e *exec) adopt(p *command.Process, outputs [2]*pump) {
	e.task.adopt(p, outputs)
	e.mu.Lock()
	if e.dead {
		e.interruptOutputs()
	}
	e.mu.Unlock()
}

// handle takes a frame of the client.
func (e *exec) handle(h frame.Header, payload []byte) error {
	switch h.Type {
	case frame.Data, frame.End:
		if h.Channel != frame.Stdin || e.input == nil {
			return errState
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if h.Type == frame.Data {
			return e.input.offer(&e.writer, payload)
		}
		return e.input.end(&e.writer)
	case frame.Credit:
		if h.Channel == frame.Stdin {
			return errState
		}
		e.mu.Lock()
		e.flow[h.Channel].credit += uint64(binary.BigEndian.Uint32(payload))
		e.mu.Unlock()
		e.changed.Broadcast()
	case frame.Signal:
		return e.signal(payload)
	case frame.Kill:
		e.kill()
	case frame.Resize:
		if !e.request.terminal {
			return errState
		}
		return e.resize(payload)
	default:
		return errState
	}
	return nil
}

// room waits for credit, or for a reason to do without.
func (e *exec) room(channel uint8) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := &e.flow[channel]
	for f.limit > 0 && f.credit == 0 && !e.dead && !e.forsaken {
		e.changed.Wait()
	}
	room := uint64(maxChunk)
	switch {
	case e.dead:
		return 0
	case f.limit == 0 || e.forsaken:
		return maxChunk // dropped output needs no credit
	case f.credit < room:
		room = f.credit
	}
	if f.limit < room {
		room = f.limit
	}
	return int(room)
}

// put sends or drops output.
func (e *exec) put(channel uint8, chunk []byte) bool {
	n := uint64(len(chunk) - frame.HeaderSize)
	e.mu.Lock()
	f := &e.flow[channel]
	drop := f.limit == 0 || e.forsaken
	switch {
	case f.limit == 0:
		f.dropped += n
	case !e.forsaken:
		f.credit -= n
		if f.limit != noLimit {
			f.limit -= n
		}
	}
	e.mu.Unlock()
	if drop || e.conn.outlet.sendData(chunk, channel, e.id) == nil {
		return true
	}
	// The write was cut off by the end of the connection: a forsaken command must not find its output closed.
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.forsaken
}

// refund lets the client send n more bytes of stdin.
func (e *exec) refund(n int) {
	e.mu.Lock()
	if e.input.stopped || e.forsaken {
		e.mu.Unlock()
		return
	}
	e.writer.window += n
	e.mu.Unlock()
	_ = e.conn.outlet.send(creditMessage(e.id, n))
}

// abandon ends the command because nobody is there any more to hear of it.
func (e *exec) abandon() {
	e.mu.Lock()
	e.dead = true
	spare := e.ended && e.request.keepOrphans
	e.interruptOutputs()
	e.mu.Unlock()
	e.changed.Broadcast()
	if e.input != nil {
		e.input.stop()
	}
	if !spare {
		e.kill()
	}
}

// detach lets the command go on with nobody to hear of it. What the client had sent still reaches the command. One that
// waits to be started comes to nothing: nobody was told that it runs.
func (e *exec) detach() {
	e.mu.Lock()
	e.forsaken = true
	e.cancel()
	if e.input != nil {
		e.input.ended = true
	}
	e.mu.Unlock()
	e.changed.Broadcast()
}
