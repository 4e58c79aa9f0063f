package session

import (
	"bytes"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

// socketPair gives two ends that do not block.
func socketPair(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	t.Cleanup(func() {
		_ = ours.Close()
		_ = theirs.Close()
	})
	return ours, theirs
}

// spliced serves an exchange that carries a socket, and gives the socket's other end.
func spliced(t *testing.T) (*client, *os.File) {
	t.Helper()
	ours, theirs := socketPair(t)
	raw, err := ours.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	c := serveExchange(t, func(x *Exchange) Result {
		up := make(chan error, 1)
		go func() {
			_, err := x.WriteTo(ours)
			_ = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_WR) })
			up <- err
		}()
		err := x.Carry(raw)
		if err == nil {
			if err = x.CloseWrite(); err == nil {
				err = <-up
			}
		}
		if err != nil {
			return Result{Failed: &command.Failure{Code: "EIO", Message: err.Error()}}
		}
		return Result{}
	})
	return c, theirs
}

func TestSpliceCarriesMoreThanItsCredit(t *testing.T) {
	c, socket := spliced(t)
	id := c.trade()
	data := bytes.Repeat([]byte("0123456789abcdef!"), 5*frame.InitialCredit/17)
	go func() {
		_, _ = socket.Write(data)
		if raw, err := socket.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_WR) })
		}
	}()
	var got []byte
	for ended := false; !ended; {
		f := c.next()
		switch f.Type {
		case frame.Data:
			got = append(got, f.payload...)
			c.credit(id, frame.Stdout, len(f.payload))
		case frame.End:
			ended = true
		default:
			t.Fatalf("frame type %#x", f.Type)
		}
	}
	if !bytes.Equal(got, data) {
		t.Error("other data")
	}
	// The other direction is still open.
	c.send(frame.Data, frame.Stdin, id, []byte("after its end"))
	c.send(frame.End, frame.Stdin, id, nil)
	if f := c.next(); f.Type != frame.Reply {
		t.Errorf("frame type %#x %q", f.Type, f.payload)
	}
	if said, err := io.ReadAll(socket); err != nil || string(said) != "after its end" {
		t.Errorf("%q %v", said, err)
	}
}

func TestSpliceHoldsBackWithoutCredit(t *testing.T) {
	c, socket := spliced(t)
	id := c.trade()
	go func() { _, _ = socket.Write(make([]byte, 2*frame.InitialCredit)) }()
	got := 0
	for got < frame.InitialCredit {
		got += len(c.next().payload)
	}
	c.credit(id, frame.Stdout, 1)
	if f := c.next(); len(f.payload) != 1 {
		t.Errorf("%d bytes for a credit of 1", len(f.payload))
	}
	c.send(frame.Kill, 0, id, nil)
	if f := c.next(); f.Type != frame.Failed {
		t.Errorf("frame type %#x", f.Type)
	}
}

func TestWhatAnOperationLeavesWaitingIsLetGo(t *testing.T) {
	let := make(chan error, 1)
	c := serveExchange(t, func(x *Exchange) Result {
		go func() {
			_, err := x.WriteTo(io.Discard)
			let <- err
		}()
		return Result{}
	})
	c.trade()
	if f := c.next(); f.Type != frame.Reply {
		t.Fatalf("frame type %#x", f.Type)
	}
	select {
	case err := <-let:
		if err != ErrCancelled {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it still waits")
	}
}

func TestNothingFollowsTheLastFrame(t *testing.T) {
	said := make(chan error, 3)
	c := serveExchange(t, func(x *Exchange) Result {
		go func() {
			<-x.Cancelled()
			_, err := x.Write([]byte("late"))
			said <- err
			said <- x.grant(1)
			said <- x.CloseWrite()
		}()
		return Result{}
	})
	for i := 0; i < 2; i++ {
		c.trade()
		if f := c.next(); f.Type != frame.Reply {
			t.Fatalf("frame type %#x", f.Type)
		}
		for j := 0; j < cap(said); j++ {
			if <-said == nil {
				t.Error("it was sent")
			}
		}
	}
}
