package ports

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestBothMaySpeakFirstAndEndFirst(t *testing.T) {
	s, _ := forwarding(t)
	guestPort, accepted := guestServer(t)
	port := forwarded(t, s, guestPort)
	speak := func(from, to *net.TCPConn, text string) {
		t.Helper()
		_, _ = from.Write([]byte(text))
		_ = from.CloseWrite()
		if got, err := io.ReadAll(to); err != nil || string(got) != text {
			t.Errorf("%q %v", got, err)
		}
	}
	client := dial(t, port)
	server := <-accepted
	speak(server, client, "the server")
	speak(client, server, "the client")
	client = dial(t, port)
	server = <-accepted
	speak(client, server, "the client")
	speak(server, client, "the server")
	// One that says nothing at all.
	client = dial(t, port)
	server = <-accepted
	speak(client, server, "")
	speak(server, client, "")
	eventually(t, "all places are free", func() bool { return len(s.places) == 0 })
}

func TestLargeData(t *testing.T) {
	s, _ := forwarding(t)
	guestPort, accepted := guestServer(t)
	client := dial(t, forwarded(t, s, guestPort))
	go func() {
		server := <-accepted
		_, _ = io.Copy(server, server)
		_ = server.Close()
	}()
	data := bytes.Repeat([]byte("0123456789abcdef!"), 16<<20/17)
	go func() {
		_, _ = client.Write(data)
		_ = client.CloseWrite()
	}()
	if got, err := io.ReadAll(client); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
}

func TestResetsGoThrough(t *testing.T) {
	s, cut := forwarding(t)
	guestPort, accepted := guestServer(t)
	port := forwarded(t, s, guestPort)
	isReset := func(who string, c *net.TCPConn) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		// Where it also writes, that may have been told in place of this.
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) && !(err == nil && (&connection{client: c}).wasReset()) {
			t.Errorf("%s sees %v", who, err)
		}
	}
	client := dial(t, port)
	server := <-accepted
	_ = server.SetLinger(0)
	_ = server.Close()
	isReset("the client of a server that resets", client)

	client = dial(t, port)
	server = <-accepted
	_ = client.SetLinger(0)
	_ = client.Close()
	isReset("the server of a client that resets", server)

	// Both sides write: whichever of our directions hears of the reset, it is none's end.
	for i := 0; i < 20; i++ {
		client = dial(t, port)
		server = <-accepted
		go func(server *net.TCPConn) { _, _ = io.Copy(server, endless{}) }(server)
		_, _ = client.Write([]byte("half of it"))
		_, _ = io.ReadFull(client, make([]byte, 1<<20))
		_ = client.SetLinger(0)
		_ = client.Close()
		isReset("the server of a client that resets while both write", server)
	}

	// Nobody reads from the client any more.
	client = dial(t, port)
	server = <-accepted
	_ = client.CloseWrite()
	if _, err := io.ReadAll(server); err != nil {
		t.Error(err)
	}
	_ = client.SetLinger(0)
	_ = client.Close()
	_ = server.SetWriteDeadline(time.Now().Add(10 * time.Second))
	var err error
	for err == nil {
		_, err = server.Write([]byte("x"))
		time.Sleep(time.Millisecond)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a client that has ended and then resets goes unnoticed")
	}

	// The guest takes no more.
	client = dial(t, port)
	server = <-accepted
	_ = client.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	for err = nil; err == nil; {
		_, err = client.Write(make([]byte, 1<<20))
	}
	_ = client.SetLinger(0)
	_ = client.Close()
	eventually(t, "all places are free", func() bool { return len(s.places) == 0 })
	isReset("a server that does not read", server)

	client = dial(t, port)
	server = <-accepted
	cut()
	isReset("the client of a guest that is gone", client)
	isReset("the server of a host that is gone", server)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestNobodyListensInTheGuest(t *testing.T) {
	s, _ := forwarding(t)
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client := dial(t, forwarded(t, s, probe.Addr().(*net.TCPAddr).Port))
	_ = probe.Close() // what may have reached it is reset too
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

// A frozen server does not accept; its kernel does.
func TestAServerThatStandsStill(t *testing.T) {
	s, _ := forwarding(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client := dial(t, forwarded(t, s, listener.Addr().(*net.TCPAddr).Port))
	_, _ = client.Write([]byte("hello"))
	_ = client.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	p := make([]byte, 5)
	if _, err := io.ReadFull(server, p); err != nil || string(p) != "hello" {
		t.Errorf("%q %v", p, err)
	}
}

func TestAtMostSoManyConnections(t *testing.T) {
	s, _ := forwarding(t)
	guestPort, accepted := guestServer(t)
	port := forwarded(t, s, guestPort)
	var clients, servers []*net.TCPConn
	for i := 0; i < MaxConnections; i++ {
		clients = append(clients, dial(t, port))
		servers = append(servers, <-accepted)
		defer servers[i].Close()
	}
	// It may be reset before it knows that it was connected.
	more, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err == nil {
		defer more.Close()
		_, err = more.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("one more: %v", err)
	}
	for i := range clients { // all of them work
		_, _ = servers[i].Write([]byte{byte(i)})
		p := make([]byte, 1)
		if _, err := io.ReadFull(clients[i], p); err != nil || p[0] != byte(i) {
			t.Errorf("%d: %v %v", i, p, err)
		}
	}
	_ = clients[7].Close()
	_ = servers[7].Close()
	eventually(t, "a place is free", func() bool { return len(s.places) < MaxConnections })
	client := dial(t, port)
	_, _ = (<-accepted).Write([]byte("x"))
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func BenchmarkToClient(b *testing.B)   { benchmark(b, true) }
func BenchmarkFromClient(b *testing.B) { benchmark(b, false) }

func benchmark(b *testing.B, toClient bool) {
	s, _ := forwarding(b)
	guestPort, accepted := guestServer(b)
	client := dial(b, forwarded(b, s, guestPort))
	_ = client.SetDeadline(time.Time{})
	from, to := client, <-accepted
	if toClient {
		from, to = to, from
	}
	const chunk = 1 << 20
	b.SetBytes(chunk)
	b.ReportAllocs()
	go func() {
		for p := make([]byte, chunk); ; {
			if _, err := from.Write(p); err != nil {
				return
			}
		}
	}()
	for i := 0; i < b.N; i++ {
		if _, err := io.CopyN(io.Discard, to, chunk); err != nil {
			b.Fatal(err)
		}
	}
	_ = to.Close()
}
