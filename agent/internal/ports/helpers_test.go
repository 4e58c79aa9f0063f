package ports

import (
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"smolvm.dev/agent/internal/connect"
	"smolvm.dev/agent/internal/laneclient"
	"smolvm.dev/agent/internal/session"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// forwarding makes a server whose guest is an agent in this process; cut ends the lane.
func forwarding(t testing.TB) (s *Server, cut func()) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "agent")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = session.Serve(theirs, &session.Config{Exchanges: map[string]session.ExchangeOperation{
			"net.connect": (&connect.Connector{}).Operation}, Log: func(s string) { t.Error(s) }})
		_ = theirs.Close()
	}()
	client, err := laneclient.Open(os.NewFile(uintptr(pair[0]), "client"), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s = New(client)
	t.Cleanup(func() {
		s.CloseAll()
		client.Close()
		<-done
	})
	return s, client.Close
}

// guestServer gives the port of a server of the guest, and its connections.
func guestServer(t testing.TB) (port int, accepted <-chan *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections := make(chan *net.TCPConn, MaxConnections+1)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			connections <- connection.(*net.TCPConn)
		}
	}()
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().(*net.TCPAddr).Port, connections
}

func forwarded(t testing.TB, s *Server, guestPort int) (hostPort int) {
	t.Helper()
	hostPort, err := s.Listen(loopback, 0, guestPort)
	if err != nil {
		t.Fatal(err)
	}
	return hostPort
}

func dial(t testing.TB, port int) *net.TCPConn {
	t.Helper()
	client, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	_ = client.SetDeadline(time.Now().Add(20 * time.Second))
	return client
}

// ask does what a line on the control socket does.
func ask(s *Server, op, fields string) (answer string, err error) {
	result, err := s.Operations()[op](json.RawMessage("{" + fields + "}"))
	if err != nil || result == nil {
		return "", err
	}
	text, err := json.Marshal(result)
	return strings.TrimSpace(string(text)), err
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}
