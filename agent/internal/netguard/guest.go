package netguard

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"time"
)

const (
	// guestTick is how often a write that the VMM does not take looks whether it is still wanted.
	guestTick = 100 * time.Millisecond
	// guestPatience is how long what we say ourselves waits for a guest that takes nothing. Then it is dropped.
	guestPatience = 3 * time.Second
)

// guestWriter lets many write whole frames to the guest, which may take none for as long as it likes: it is paused, or
// wants to.
type guestWriter struct {
	turn chan struct{} // holds one token while nobody writes; it guards what follows
	to   net.Conn
	rest []byte // of a frame that the VMM has taken a part of: it goes first
}

func newGuestWriter() *guestWriter {
	w := &guestWriter{turn: make(chan struct{}, 1)}
	w.turn <- struct{}{}
	return w
}

// set makes it write to another connection.
func (w *guestWriter) set(to net.Conn) {
	<-w.turn // Soon: who had the connection before has closed it.
	defer w.leave()
	w.to, w.rest = to, nil
}

// tell writes with guestPatience, and tells whether the VMM took all of it.
func (w *guestWriter) tell(messages []byte) bool {
	end := time.Now().Add(guestPatience)
	return w.write(messages, func() bool { return time.Now().After(end) })
}

// write returns when the VMM has taken the frames, or takes none and stop says so: then false, as when the VMM has gone
// (whoever reads from it sees why). What was not taken is lost, but never a part of a frame.
func (w *guestWriter) write(messages []byte, stop func() bool) bool {
	if !w.enter(stop) {
		return false
	}
	defer w.leave()
	if w.to == nil {
		return false
	}
	if len(w.rest) > 0 {
		n, done := w.push(w.rest, stop)
		if w.rest = w.rest[n:]; !done {
			return false
		}
	}
	n, done := w.push(messages, stop)
	if !done {
		w.rest = append([]byte(nil), restOfFrame(messages, n)...)
	}
	return done
}

// enter waits for the turn.
func (w *guestWriter) enter(stop func() bool) bool {
	select {
	case <-w.turn:
		return true
	default:
	}
	ticker := time.NewTicker(guestTick)
	defer ticker.Stop()
	for {
		select {
		case <-w.turn:
			return true
		case <-ticker.C:
			if stop() {
				return false
			}
		}
	}
}

func (w *guestWriter) leave() { w.turn <- struct{}{} }

// push tells how many bytes the VMM has taken, and whether those are all.
func (w *guestWriter) push(bytes []byte, stop func() bool) (sent int, done bool) {
	for sent < len(bytes) {
		_ = w.to.SetWriteDeadline(time.Now().Add(guestTick))
		n, err := w.to.Write(bytes[sent:])
		sent += n
		if err != nil && (!errors.Is(err, os.ErrDeadlineExceeded) || stop()) {
			return sent, sent == len(bytes)
		}
	}
	return sent, true
}

// restOfFrame is what is missing of the frame that the first `sent` bytes end in; empty between two frames.
func restOfFrame(messages []byte, sent int) []byte {
	end := 0
	for end < sent {
		end += lengthSize + int(binary.BigEndian.Uint32(messages[end:]))
	}
	return messages[sent:end]
}
