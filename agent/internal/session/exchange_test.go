package session

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
	"time"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

// serveExchange serves a lane with one operation, "trade".
func serveExchange(t *testing.T, answer func(*Exchange) Result) *client {
	t.Helper()
	return connect(t, serveConfig(t, &Config{Exchanges: map[string]ExchangeOperation{
		"trade": func([]byte) (func(*Exchange) Result, error) { return answer, nil },
	}}))
}

func (c *client) trade() uint32 {
	c.stream++
	c.send(frame.Call, 0, c.stream, frame.AppendText(nil, 1, "trade"))
	return c.stream
}

func TestExchangeCarriesDataBothWaysWithinCredit(t *testing.T) {
	c := serveExchange(t, func(x *Exchange) Result {
		all, err := io.ReadAll(x)
		if err != nil {
			return Result{Failed: &command.Failure{Code: "EIO", Message: err.Error()}}
		}
		n, err := x.ReadFrom(bytes.NewReader(all))
		if err != nil || n != int64(len(all)) {
			return Result{Failed: &command.Failure{Code: "EIO", Message: "short"}}
		}
		return Result{Reply: frame.AppendU64(nil, 21, uint64(len(all)))}
	})
	id := c.trade()
	sent := bytes.Repeat([]byte("0123456789abcdef"), frame.MaxData/16)
	const rounds = 12 // three times the initial credit
	room := frame.InitialCredit
	for i := 0; i < rounds; i++ {
		for room < len(sent) {
			if f := c.next(); f.Type == frame.Credit {
				room += int(binary.BigEndian.Uint32(f.payload))
			} else {
				t.Fatalf("got frame type %#x before the end of the input", f.Type)
			}
		}
		c.send(frame.Data, frame.Stdin, id, sent)
		room -= len(sent)
	}
	c.send(frame.End, frame.Stdin, id, nil)
	got, credit := 0, frame.InitialCredit
	for {
		f := c.next()
		switch f.Type {
		case frame.Credit:
		case frame.Data:
			if credit -= len(f.payload); credit < 0 {
				t.Fatal("the agent sent more than its credit")
			}
			if want := sent[got%len(sent):]; !bytes.HasPrefix(want, f.payload[:min2(len(f.payload), len(want))]) {
				t.Fatalf("other data at %d", got)
			}
			got += len(f.payload)
			if credit == 0 {
				credit = frame.InitialCredit
				var payload [4]byte
				binary.BigEndian.PutUint32(payload[:], uint32(credit))
				c.send(frame.Credit, frame.Stdout, id, payload[:])
			}
		case frame.Reply:
			if got != rounds*len(sent) {
				t.Fatalf("got %d bytes of %d", got, rounds*len(sent))
			}
			return
		default:
			t.Fatalf("got frame type %#x %q", f.Type, f.payload)
		}
	}
}

func min2(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func TestExchangeIsCancelled(t *testing.T) {
	for name, work := range map[string]func(x *Exchange) error{
		"while it reads": func(x *Exchange) error { _, err := io.ReadAll(x); return err },
		"while it waits for credit": func(x *Exchange) error {
			_, err := x.Write(make([]byte, 2*frame.InitialCredit))
			return err
		},
		"while it does something else": func(x *Exchange) error { <-x.Cancelled(); return ErrCancelled },
	} {
		t.Run(name, func(t *testing.T) {
			c := serveExchange(t, func(x *Exchange) Result {
				if err := work(x); err != ErrCancelled {
					return Result{}
				}
				return Result{Failed: &command.Failure{Code: "ECANCELED", Message: "cancelled"}}
			})
			id := c.trade()
			c.send(frame.Kill, 0, id, nil)
			f := c.next()
			for f.Type == frame.Data {
				f = c.next()
			}
			if f.Type != frame.Failed || !bytes.Contains(f.payload, []byte("ECANCELED")) {
				t.Fatalf("got frame type %#x %q", f.Type, f.payload)
			}
		})
	}
}

func TestExchangeEndsWithItsConnection(t *testing.T) {
	begun := make(chan struct{})
	ended := make(chan error, 1)
	c := serveExchange(t, func(x *Exchange) Result {
		close(begun)
		_, err := io.ReadAll(x)
		ended <- err
		return Result{}
	})
	c.trade()
	<-begun // what stands before a preamble in one read is dropped
	c.raw(frame.Preamble)
	select {
	case err := <-ended:
		if err != ErrCancelled {
			t.Fatal(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the operation goes on")
	}
}

func TestDataForACallThatTakesNoneIsAnError(t *testing.T) {
	held := make(chan struct{})
	defer close(held)
	lane := serveConfig(t, &Config{Operations: map[string]Operation{"trade": func([]byte) (func() Result, error) {
		return func() Result { <-held; return Result{} }, nil
	}}})
	c := connect(t, lane)
	c.send(frame.Data, frame.Stdin, c.trade(), []byte("x"))
	if f := c.next(); f.Type != frame.Fatal {
		t.Fatalf("got frame type %#x", f.Type)
	}
}
