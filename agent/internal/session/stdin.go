package session

import (
	"encoding/binary"
	"os"

	"smolvm.dev/agent/internal/frame"
)

const (
	// creditStep is how much stdin is consumed, in bytes, before the client is told: a quarter of its window.
	creditStep = frame.InitialCredit / 4
)

// stdin carries what clients send to the command. Its fields are guarded by the task's lock.
type stdin struct {
	task     *task
	file     *os.File  // nil before attach
	terminal *terminal // nil for a pipe
	queued   []piece
	spare    []byte // for the next piece
	ended    bool   // a client has sent END
	stopped  bool   // nothing is written any more: the command or its connection has ended
}

// piece is what one writer has sent with no other's between.
type piece struct {
	from *writer
	data []byte
}

// writer is a stream that may write to the command. It is guarded by the task's lock.
type writer struct {
	window   int  // bytes that the client may still send
	ended    bool // it has sent END
	consumed int  // bytes that it gets credit for at the next step; only for the goroutine that writes
	owner    refunder
}

// refunder gives a writer credit back for what was consumed. The lock is not held.
type refunder interface{ refund(n int) }

func creditMessage(stream uint32, n int) message {
	payload := make([]byte, 4)
	binary.BigEndian.PutUint32(payload, uint32(n))
	return message{kind: frame.Credit, channel: frame.Stdin, stream: stream, payload: payload}
}

// offer takes data from a client; it never blocks, the window bounds it. The lock is held.
func (s *stdin) offer(w *writer, data []byte) error {
	if err := w.check(len(data)); err != nil || s.stopped {
		return err
	}
	w.window -= len(data)
	last := len(s.queued) - 1
	if last < 0 || s.queued[last].from != w {
		s.queued = append(s.queued, piece{from: w, data: s.spare[:0]})
		s.spare = nil
		last++
	}
	s.queued[last].data = append(s.queued[last].data, data...)
	s.task.changed.Broadcast()
	return nil
}

// check reports what is wrong with n more bytes from the client.
func (w *writer) check(n int) error {
	switch {
	case w.ended:
		return errState
	case n > w.window:
		return errCredit
	}
	return nil
}

// end takes the END of a client. The lock is held.
func (s *stdin) end(w *writer) error {
	if w.ended {
		return errState
	}
	w.ended = true
	s.ended = true
	s.task.changed.Broadcast()
	return nil
}

// closed reports that nothing more is written than what is queued. The lock is held.
func (s *stdin) closed() bool { return s.ended || s.stopped }

func (s *stdin) attach(f *files) {
	s.task.mu.Lock()
	defer s.task.mu.Unlock()
	s.terminal = f.terminal
	if s.file = f.stdin.ours; s.terminal != nil {
		s.file = s.terminal.master
	}
	if s.stopped {
		_ = s.file.SetWriteDeadline(past)
	}
}

// stop ends the writing, also one that blocks.
func (s *stdin) stop() {
	s.task.mu.Lock()
	s.stopped = true
	s.queued = nil
	if s.file != nil {
		_ = s.file.SetWriteDeadline(past)
	}
	s.task.mu.Unlock()
	s.task.changed.Broadcast()
}

// run writes to the command until its input ends or the command is gone.
func (s *stdin) run() {
	defer s.finish()
	broken := false
	var used []byte
	last := byte('\n')
	for {
		next, ok := s.next(used)
		if !ok {
			if s.terminal != nil && !broken {
				s.terminal.typeEnd(last)
			}
			return
		}
		w := next.from
		for rest := next.data; len(rest) > 0; {
			n := len(rest)
			if n > creditStep {
				n = creditStep
			}
			if !broken {
				// A command that has closed its stdin goes on; the client need not know.
				_, err := s.file.Write(rest[:n])
				broken = err != nil
				last = rest[n-1]
			}
			rest = rest[n:]
			if w.consumed += n; w.consumed >= creditStep {
				w.owner.refund(w.consumed)
				w.consumed = 0
			}
		}
		used = next.data
	}
}

func (s *stdin) finish() {
	if s.terminal == nil {
		_ = s.file.Close()
	}
}

// next waits for data; the buffer that was used can serve again. False means that there will be no more.
func (s *stdin) next(used []byte) (piece, bool) {
	s.task.mu.Lock()
	defer s.task.mu.Unlock()
	if s.spare == nil {
		s.spare = used
	}
	for len(s.queued) == 0 && !s.closed() {
		s.task.changed.Wait()
	}
	if s.stopped || len(s.queued) == 0 {
		return piece{}, false
	}
	first := s.queued[0]
	s.queued = s.queued[1:]
	if len(s.queued) == 0 {
		s.queued = nil
	}
	return first, true
}
