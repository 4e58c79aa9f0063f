package session

import (
	"encoding/binary"
	"sync"
	"syscall"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

const (
	// maxEarlySignals bounds the signals kept for a command that has not started yet.
	maxEarlySignals = 16
	maxSignal       = 64
)

// exec is an open EXEC stream.
type exec struct {
	conn    *conn
	id      uint32
	request *execRequest

	mu      sync.Mutex
	changed *sync.Cond // anything below has changed
	credit  [3]uint64  // bytes that the client will still take, by channel
	process *command.Process
	early   []syscall.Signal // for a process that does not exist yet
	killed  bool
	ended   bool // the process itself has ended
	dead    bool // the connection has ended
	// detached: the connection has ended and the command goes on; its outputs are read and dropped.
	detached bool
	outputs  [2]*pump
	input    *stdin // nil when stdin is /dev/null
}

func newExec(c *conn, id uint32, request *execRequest) *exec {
	e := &exec{conn: c, id: id, request: request}
	e.changed = sync.NewCond(&e.mu)
	e.credit[frame.Stdout] = frame.InitialCredit
	e.credit[frame.Stderr] = frame.InitialCredit
	if request.stdin {
		e.input = newStdin(e)
	}
	return e
}

// handle takes a frame of the client.
func (e *exec) handle(h frame.Header, payload []byte) error {
	switch h.Type {
	case frame.Data, frame.End:
		if h.Channel != frame.Stdin || e.input == nil {
			return errState
		}
		if h.Type == frame.Data {
			return e.input.offer(payload)
		}
		return e.input.end()
	case frame.Credit:
		if h.Channel == frame.Stdin {
			return errState
		}
		e.mu.Lock()
		e.credit[h.Channel] += uint64(binary.BigEndian.Uint32(payload))
		e.mu.Unlock()
		e.changed.Broadcast()
	case frame.Signal:
		return e.signal(payload)
	case frame.Kill:
		e.kill()
	}
	return nil
}

func (e *exec) signal(payload []byte) error {
	number := uint32(0)
	err := frame.Each(payload, func(f frame.Field) (err error) {
		if f.Tag == 1 {
			number, err = f.U32()
		}
		return err
	})
	if err != nil || number == 0 || number > maxSignal {
		return frame.ErrField
	}
	e.mu.Lock()
	process := e.process
	if process == nil && len(e.early) < maxEarlySignals {
		e.early = append(e.early, syscall.Signal(number))
	}
	e.mu.Unlock()
	if process != nil {
		process.Signal(syscall.Signal(number))
	}
	return nil
}

func (e *exec) kill() {
	e.mu.Lock()
	e.killed = true
	process := e.process
	e.mu.Unlock()
	if process != nil {
		process.KillAll()
	}
}

func (e *exec) wasKilled() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.killed
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

// detach lets the command go on with nobody to hear of it. What the client had sent still reaches the command.
func (e *exec) detach() {
	e.mu.Lock()
	e.detached = true
	if e.input != nil {
		e.input.ended = true
	}
	e.mu.Unlock()
	e.changed.Broadcast()
}

// interruptOutputs wakes pumps that wait for output. The lock is held.
func (e *exec) interruptOutputs() {
	for _, p := range e.outputs {
		if p != nil {
			p.interrupt()
		}
	}
}

// adopt notes the started process and catches up with what has been asked of it meanwhile.
func (e *exec) adopt(p *command.Process, outputs [2]*pump) {
	e.mu.Lock()
	e.process = p
	e.outputs = outputs
	early, kill := e.early, e.killed
	if e.dead {
		e.interruptOutputs()
	}
	e.mu.Unlock()
	for _, signal := range early {
		p.Signal(signal)
	}
	if kill {
		p.KillAll()
	}
}
