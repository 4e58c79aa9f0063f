package laneclient

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"

	"smolvm.dev/agent/internal/frame"
)

// reader is the receiving side of a connection; it belongs to one goroutine.
type reader struct {
	client   *Client
	nonce    []byte
	decoder  frame.Decoder
	matcher  frame.Matcher
	expected uint32
	greeted  bool
}

var errNotMine = errors.New("not the own welcome")

// greet drops everything up to a preamble that is followed by WELCOME with the own nonce.
func (r *reader) greet() error {
	buffer := make([]byte, readSize)
	inside := false // behind a preamble
	for dropped := 0; dropped <= maxDropped; {
		n, err := r.client.lane.Read(buffer)
		dropped += n
		for p := buffer[:n]; len(p) > 0; {
			at := r.matcher.Find(p)
			if at < 0 {
				if inside {
					inside = r.feedWelcome(p)
				}
				break
			}
			if inside {
				// WELCOME may lie in front of this preamble, which then is the guest's mistake and shows later.
				r.feedWelcome(p[:at])
				if r.greeted {
					return ErrProtocol
				}
			}
			r.decoder.Reset()
			inside = true
			p = p[at:]
		}
		if r.greeted {
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return ErrSilent
		}
		if err != nil {
			return err
		}
	}
	return ErrProtocol
}

// feedWelcome reports whether what comes next can still be the WELCOME.
func (r *reader) feedWelcome(p []byte) bool {
	err := r.decoder.Feed(p, func(h frame.Header, payload []byte) error {
		if r.greeted {
			// What lies behind it in the same read; the agent speaks only when spoken to, so this is rare.
			return r.take(h, payload)
		}
		if h.Type != frame.Welcome || h.Sequence != 0 {
			return errNotMine
		}
		var nonce []byte
		err := frame.Each(payload, func(f frame.Field) error {
			if f.Tag == 2 {
				nonce = append([]byte(nil), f.Value...)
			}
			return nil
		})
		if err != nil || !bytes.Equal(nonce, r.nonce) {
			return errNotMine
		}
		r.greeted = true
		r.expected = 1
		return nil
	})
	return err == nil || r.greeted
}

func (r *reader) run() error {
	buffer := make([]byte, readSize)
	for {
		n, err := r.client.lane.Read(buffer)
		if n > 0 {
			if err := r.decoder.Feed(buffer[:n], r.take); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// take handles one frame.
func (r *reader) take(h frame.Header, payload []byte) error {
	if h.Sequence != r.expected {
		return ErrProtocol
	}
	r.expected++
	switch h.Type {
	case frame.Fatal:
		return failureOf(payload)
	case frame.Data, frame.Credit, frame.End, frame.Reply, frame.Failed:
	default:
		return ErrProtocol
	}
	call, known := r.client.find(h.Stream)
	if !known || call == nil {
		return ErrProtocol // the agent ends a call itself, so nothing of it can cross
	}
	switch h.Type {
	case frame.Data:
		return call.receive(h.Channel, payload)
	case frame.Credit:
		return call.credited(h.Channel, binary.BigEndian.Uint32(payload))
	case frame.End:
		return call.ended(h.Channel)
	case frame.Failed:
		r.client.forget(h.Stream)
		call.finish(failureOf(payload))
		return nil
	}
	r.client.forget(h.Stream)
	call.finish(nil)
	return nil
}

// Failure is what the agent says of a call that failed.
type Failure struct{ Code, Message string }

func (f *Failure) Error() string { return f.Code + ": " + f.Message }

func failureOf(payload []byte) error {
	f := &Failure{}
	err := frame.Each(payload, func(field frame.Field) (err error) {
		switch field.Tag {
		case 1:
			f.Code, err = field.Text()
		case 2:
			f.Message, err = field.Text()
		}
		return err
	})
	if err != nil {
		return ErrProtocol
	}
	return f
}
