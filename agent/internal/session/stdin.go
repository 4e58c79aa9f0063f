package session

import (
	"os"

	"smolvm.dev/agent/internal/frame"
)

const (
	// creditStep is how much stdin is consumed, in bytes, before the client is told: a quarter of its window.
	creditStep = frame.InitialCredit / 4
)

// stdin carries what the client sends to the command. Its fields are guarded by the exec's lock.
type stdin struct {
	exec    *exec
	file    *os.File // nil before attach
	queued  []byte
	window  int  // bytes that the client may still send
	ended   bool // the client has sent END
	stopped bool // the command or the connection has ended
}

func newStdin(e *exec) *stdin {
	return &stdin{exec: e, window: frame.InitialCredit}
}

// offer takes data from the client; it never blocks, the window bounds it.
func (s *stdin) offer(data []byte) error {
	e := s.exec
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case s.ended:
		return errState
	case len(data) > s.window:
		return errCredit
	case s.stopped:
		return nil
	}
	s.window -= len(data)
	s.queued = append(s.queued, data...)
	e.changed.Broadcast()
	return nil
}

func (s *stdin) end() error {
	e := s.exec
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.ended {
		return errState
	}
	s.ended = true
	e.changed.Broadcast()
	return nil
}

func (s *stdin) attach(file *os.File) {
	s.exec.mu.Lock()
	defer s.exec.mu.Unlock()
	s.file = file
	if s.stopped {
		_ = file.SetWriteDeadline(past)
	}
}

// stop ends the writing, also one that blocks.
func (s *stdin) stop() {
	s.exec.mu.Lock()
	s.stopped = true
	s.queued = nil
	if s.file != nil {
		_ = s.file.SetWriteDeadline(past)
	}
	s.exec.mu.Unlock()
	s.exec.changed.Broadcast()
}

// run writes to the command until the client ends its input or the command is gone.
func (s *stdin) run() {
	defer s.file.Close()
	var data []byte
	consumed := 0
	broken := false
	for {
		data = s.next(data)
		if data == nil {
			return
		}
		for rest := data; len(rest) > 0; {
			n := len(rest)
			if n > creditStep {
				n = creditStep
			}
			if !broken {
				// A command that has closed its stdin goes on; the client need not know.
				_, err := s.file.Write(rest[:n])
				broken = err != nil
			}
			rest = rest[n:]
			if consumed += n; consumed >= creditStep {
				if !s.grant(consumed) {
					return
				}
				consumed = 0
			}
		}
	}
}

// next waits for data and swaps buffers with the queue; nil means that there will be no more.
func (s *stdin) next(used []byte) []byte {
	e := s.exec
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(s.queued) == 0 && !s.ended && !s.stopped {
		e.changed.Wait()
	}
	if s.stopped || len(s.queued) == 0 {
		return nil
	}
	data := s.queued
	s.queued = used[:0]
	return data
}

// grant gives credit back, unless there is no one left to use it.
func (s *stdin) grant(n int) bool {
	s.exec.mu.Lock()
	stopped := s.stopped
	s.window += n
	s.exec.mu.Unlock()
	if stopped {
		return false
	}
	s.exec.sendCredit(n)
	return true
}
