package lane

import (
	"errors"
	"io"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"smolvm.dev/agent/internal/laneclient"
	"smolvm.dev/agent/internal/session"
)

func TestEachConnectionIsServed(t *testing.T) {
	eachTransport(t, func(t *testing.T, over *transport) {
		over.start(t, echo, nil)
		first, second := over.connect(t), over.connect(t)
		if !second.answered() || !first.answered() || !second.answered() {
			t.Error("no answer")
		}
		first.Close()
		if !over.connect(t).answered() || !second.answered() {
			t.Error("no answer after another client has left")
		}
	})
}

func TestAConnectionIsALane(t *testing.T) {
	eachTransport(t, func(t *testing.T, over *transport) {
		ended := make(chan error, 1)
		over.start(t, func(c *Connection) error {
			err := session.Serve(c, &session.Config{Log: func(string) {}})
			ended <- err
			return err
		}, nil)
		lane := over.connect(t)
		// Whatever comes before a preamble is dropped, and each preamble starts anew.
		if _, err := lane.Write([]byte("leftovers")); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < 2; n++ {
			client, err := laneclient.Open(kept{lane}, patience)
			if err != nil {
				t.Fatal(n, err)
			}
			call, err := client.Call("no such thing", nil)
			if err != nil {
				t.Fatal(n, err)
			}
			_, _ = io.ReadAll(call)
			var failure *laneclient.Failure
			if !errors.As(call.Err(), &failure) || failure.Code != "ENOSYS" {
				t.Error(n, call.Err())
			}
			if err := lane.SetReadDeadline(time.Unix(1, 0)); err != nil { // ends the client, not the connection
				t.Fatal(err)
			}
			<-client.Closed()
		}
		lane.Close()
		if err := <-ended; err == nil || err == session.ErrClientLeft {
			t.Errorf("the session ended with %v", err)
		}
	})
}

// kept is a lane that its client does not close.
type kept struct{ client }

func (kept) Close() error { return nil }

func TestOnlyTheHostIsServed(t *testing.T) {
	eachTransport(t, func(t *testing.T, over *transport) {
		s := over.start(t, echo, func(s *server) { s.allowed = over.peer + 7 })
		if over.connect(t).answered() {
			t.Error("a stranger got an answer")
		}
		if n := atomic.LoadInt32(&s.served); n != 0 {
			t.Errorf("served %d", n)
		}
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	eachTransport(t, func(t *testing.T, over *transport) {
		s := over.start(t, echo, func(s *server) { s.limit = 2 })
		first, second := over.connect(t), over.connect(t)
		if !first.answered() || !second.answered() {
			t.Fatal("no answer")
		}
		third := over.connect(t)
		answered := make(chan bool)
		go func() { answered <- third.answered() }()
		select {
		case <-answered:
			t.Fatal("one more than the limit is served")
		case <-time.After(100 * time.Millisecond):
		}
		if n := atomic.LoadInt32(&s.served); n != 2 {
			t.Errorf("served %d", n)
		}
		first.Close()
		if !<-answered {
			t.Error("it is not served when there is room")
		}
	})
}

func TestAcceptGoesOnAfterErrors(t *testing.T) {
	eachTransport(t, func(t *testing.T, over *transport) {
		errs := []error{syscall.EINTR, syscall.ECONNABORTED, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM}
		s := over.start(t, echo, func(s *server) {
			accept := s.accept
			s.accept = func(listener int) (int, uint32, error) {
				if len(errs) > 0 {
					err := errs[0]
					errs = errs[1:]
					return -1, 0, err
				}
				return accept(listener)
			}
		})
		if !over.connect(t).answered() {
			t.Error("no answer")
		}
		if len(s.logged) != 1 {
			t.Errorf("%d lines on the console for one shortage", len(s.logged))
		}
	})
}

// A snapshot resets every connection, in the original too. The next client may be the one that closes the window in
// which their commands are spared, so their sessions must be over by then.
func TestAConnectionWaitsForThoseThatHaveEnded(t *testing.T) {
	eachTransport(t, func(t *testing.T, over *transport) {
		ended, goOn := make(chan struct{}), make(chan struct{})
		order := make(chan string, 2)
		first := int32(1)
		over.start(t, func(c *Connection) error {
			if !atomic.CompareAndSwapInt32(&first, 1, 0) {
				order <- "new one served"
				return echo(c)
			}
			err := echo(c)
			close(ended)
			<-goOn
			order <- "old one over"
			return err
		}, nil)
		old := over.connect(t)
		if !old.answered() {
			t.Fatal("no answer")
		}
		old.Close()
		<-ended
		next := over.connect(t)
		time.AfterFunc(50*time.Millisecond, func() { close(goOn) })
		if !next.answered() {
			t.Fatal("no answer")
		}
		if got := <-order; got != "old one over" {
			t.Errorf("first: %s", got)
		}
	})
}

func TestAConnectionDoesNotWaitForThoseThatLive(t *testing.T) {
	eachTransport(t, func(t *testing.T, over *transport) {
		connections := make(chan *Connection, 1)
		over.start(t, func(c *Connection) error {
			connections <- c
			return echo(c)
		}, nil)
		silent := over.connect(t)
		c := <-connections
		if c.gone() {
			t.Error("a silent client counts as gone")
		}
		silent.Close()
		<-c.done
		if !c.gone() {
			t.Error("a closed connection is not gone")
		}
	})
}

func TestAFlushedWriteIsTaken(t *testing.T) {
	// A unix socket counts what its reader has not read, so this shows the waiting; over vsock it is the device's part.
	over := unixTransport(t)
	read, drained := int32(0), make(chan int32, 1)
	over.start(t, func(c *Connection) error {
		if _, err := c.Write([]byte("last word")); err != nil {
			return err
		}
		c.drain(patience)
		drained <- atomic.LoadInt32(&read)
		return io.EOF
	}, nil)
	host := over.connect(t)
	time.AfterFunc(50*time.Millisecond, func() {
		atomic.StoreInt32(&read, 1)
		_, _ = io.ReadFull(host, make([]byte, len("last word")))
	})
	if <-drained != 1 {
		t.Error("a flush did not wait for the reader")
	}
}
