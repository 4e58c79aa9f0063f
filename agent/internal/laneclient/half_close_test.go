package laneclient

import (
	"bytes"
	"io"
	"sync"
	"testing"
	"time"

	"smolvm.dev/agent/internal/frame"
)

func TestTheEndOfAChannelIsNotThatOfTheCall(t *testing.T) {
	c, a := pair(t, nil)
	made := call(t, c, a)
	a.send(frame.Data, frame.Stdout, made.id, []byte("all"))
	a.send(frame.End, frame.Stderr, made.id, nil)
	a.send(frame.End, frame.Stdout, made.id, nil)
	var got bytes.Buffer
	if _, err := made.WriteTo(&got); err != nil || got.String() != "all" || !made.Ended() {
		t.Errorf("%q %v %v", got.String(), err, made.Ended())
	}
	go func() {
		_, _ = made.Write([]byte("more"))
		_ = made.CloseWrite()
		_ = made.CloseWrite() // once is enough
		_ = made.Kill()
		_ = made.Kill()
	}()
	if f := a.next(frame.Data); string(f.payload) != "more" {
		t.Errorf("%q", f.payload)
	}
	if f := a.next(frame.End); f.Channel != frame.Stdin || f.Stream != made.id {
		t.Errorf("%+v", f.Header)
	}
	a.next(frame.Kill)
	a.send(frame.Reply, 0, made.id, nil)
	waitFor(t, "the end of the call", made.Done())
	if made.Err() != nil || made.CloseWrite() != nil {
		t.Error(made.Err())
	}
	select {
	case f := <-a.frames:
		t.Errorf("frame %+v after the end", f.Header)
	case <-time.After(20 * time.Millisecond):
	}
}

func TestWithoutAnEndItIsNotWhole(t *testing.T) {
	c, a := pair(t, nil)
	made := call(t, c, a)
	a.send(frame.Data, frame.Stdout, made.id, []byte("half"))
	a.send(frame.Failed, 0, made.id, frame.AppendText(nil, 1, "ECONNRESET"))
	if got, err := io.ReadAll(made); err != nil || string(got) != "half" || made.Ended() || made.Err() == nil {
		t.Errorf("%q %v %v %v", got, err, made.Ended(), made.Err())
	}
}

func TestFramesBehindAnEndAreHostile(t *testing.T) {
	for name, attack := range map[string]func(*agent){
		"data":             func(a *agent) { a.send(frame.Data, frame.Stdout, 1, []byte("x")) },
		"another":          func(a *agent) { a.send(frame.End, frame.Stdout, 1, nil) },
		"the client's own": func(a *agent) { a.send(frame.End, frame.Stdin, 1, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			c, a := pair(t, nil)
			call(t, c, a)
			a.send(frame.End, frame.Stdout, 1, nil)
			go attack(a)
			waitFor(t, "the end of the connection", c.Closed())
			if c.Err() != ErrProtocol {
				t.Error(c.Err())
			}
		})
	}
}

func TestAKilledCallIsReadNoMore(t *testing.T) {
	c, a := pair(t, nil)
	made := call(t, c, a)
	written := make(chan error, 2)
	go func() {
		_, err := made.Write(make([]byte, 2*frame.InitialCredit))
		written <- err
	}()
	go func() {
		_, err := made.WriteTo(io.Discard)
		written <- err
	}()
	for sent := 0; sent < frame.InitialCredit; {
		sent += len(a.next(frame.Data).payload)
	}
	_ = made.Kill()
	for i := 0; i < 2; i++ {
		if err := <-written; err != nil && err != io.ErrClosedPipe {
			t.Error(err)
		}
	}
	a.next(frame.Kill)
	flood(a, frame.Stdout) // as much as it has credit for, and more is an error as ever
	waitFor(t, "the end of the connection", c.Closed())
}

func TestManyCallsAtOnce(t *testing.T) {
	c, a := pair(t, nil)
	var callers sync.WaitGroup
	for i := 0; i < MaxCalls; i++ {
		callers.Add(1)
		go func() {
			defer callers.Done()
			if _, err := c.Call("mount", nil); err != nil {
				t.Error(err)
			}
		}()
	}
	for i := uint32(1); i <= MaxCalls; i++ {
		if f := a.next(frame.Call); f.Stream != i {
			t.Fatalf("call %d is numbered %d", i, f.Stream)
		}
	}
	callers.Wait()
	if _, err := c.Call("mount", nil); err != ErrBusy {
		t.Errorf("one more: %v", err)
	}
	a.send(frame.Reply, 0, 3, nil)
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := c.Call("mount", nil); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// What the agent may be made to hold for all calls together has a bound.
func TestManyCallsShareWhatTheAgentHolds(t *testing.T) {
	c, a := pair(t, nil)
	var calls []*Call
	for i := 0; i < MaxCalls; i++ {
		made, err := c.Call("mount", nil)
		if err != nil {
			t.Fatal(err)
		}
		a.next(frame.Call)
		calls = append(calls, made)
	}
	written := make(chan int, 1)
	go func() {
		n, _ := calls[0].Write(make([]byte, frame.InitialCredit))
		written <- n
	}()
	got := 0
	for got < creditStep {
		got += len(a.next(frame.Data).payload)
	}
	select {
	case f := <-a.frames:
		t.Fatalf("%d bytes more", len(f.payload))
	case <-time.After(50 * time.Millisecond):
	}
	// All of it was consumed: then the agent gives credit, and it goes on.
	for got < frame.InitialCredit {
		a.send(frame.Credit, frame.Stdin, calls[0].id, []byte{0, 1, 0, 0})
		for next := got + creditStep; got < next; {
			got += len(a.next(frame.Data).payload)
		}
	}
	if n := <-written; n != frame.InitialCredit || got != n {
		t.Errorf("%d of %d", got, n)
	}
}
