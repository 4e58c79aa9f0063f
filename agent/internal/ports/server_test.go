package ports

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"smolvm.dev/agent/internal/control"
)

func codeOf(err error) string {
	var told *control.Error
	if errors.As(err, &told) {
		return told.Code
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return "EADDRINUSE"
	}
	return ""
}

func TestOrders(t *testing.T) {
	s, _ := forwarding(t)
	if answer, err := ask(s, "list", ""); err != nil || answer != `{"ports":[]}` {
		t.Errorf("%s %v", answer, err)
	}
	answer, err := ask(s, "listen", `"hostAddress":"127.0.0.1","hostPort":0,"guestPort":80`)
	if err != nil {
		t.Fatal(err)
	}
	var first int
	if n, _ := fmt.Sscanf(answer, `{"hostPort":%d}`, &first); n != 1 || first == 0 {
		t.Fatal(answer)
	}
	place := `"hostAddress":"127.0.0.1","hostPort":` + strconv.Itoa(first)
	for _, other := range []string{place, strings.Replace(place, "127.0.0.1", "0.0.0.0", 1),
		strings.Replace(place, "127.0.0.1", "::ffff:127.0.0.1", 1)} {
		if _, err := ask(s, "listen", other+`,"guestPort":81`); codeOf(err) != "EADDRINUSE" {
			t.Errorf("%s: %v", other, err)
		}
	}
	want := fmt.Sprintf(`{"ports":[{%s,"guestPort":80}]}`, place)
	if answer, err := ask(s, "list", ""); err != nil || answer != want {
		t.Errorf("%s %v", answer, err)
	}
	if answer, err := ask(s, "close", place); err != nil || answer != "" {
		t.Errorf("%s %v", answer, err)
	}
	if _, err := ask(s, "close", place); codeOf(err) != "ENOENT" {
		t.Error(err)
	}
	// The port is free at once.
	if _, err := ask(s, "listen", place+`,"guestPort":81`); err != nil {
		t.Error(err)
	}
}

func TestOrdersThatMakeNoSense(t *testing.T) {
	s, _ := forwarding(t)
	for _, c := range []struct{ op, fields string }{
		{"listen", ``},
		{"listen", `"hostAddress":"127.0.0.1","hostPort":0`},
		{"listen", `"hostAddress":"127.0.0.1","guestPort":80`},
		{"listen", `"hostPort":0,"guestPort":80`},
		{"listen", `"hostAddress":"localhost","hostPort":0,"guestPort":80`},
		{"listen", `"hostAddress":"fe80::1%lo","hostPort":0,"guestPort":80`},
		{"listen", `"hostAddress":"127.0.0.1","hostPort":0,"guestPort":0`},
		{"listen", `"hostAddress":"127.0.0.1","hostPort":0,"guestPort":65536`},
		{"listen", `"hostAddress":"127.0.0.1","hostPort":-1,"guestPort":80`},
		{"listen", `"hostAddress":"127.0.0.1","hostPort":"0","guestPort":80`},
		{"listen", `"hostAddress":"127.0.0.1","hostPort":0,"guestPort":80,"more":1`},
		{"close", `"hostAddress":"127.0.0.1"`},
		{"close", `"hostAddress":"127.0.0.1","hostPort":0`},
		{"list", `"all":true`},
	} {
		if answer, err := ask(s, c.op, c.fields); codeOf(err) != "EINVAL" {
			t.Errorf("%s %s: %s %v", c.op, c.fields, answer, err)
		}
	}
	if _, err := s.Listen(netip.MustParseAddr("192.0.2.1"), 0, 80); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Error(err)
	}
}

func TestClosingAPortEndsItsConnectionsAlone(t *testing.T) {
	s, _ := forwarding(t)
	guestPort, accepted := guestServer(t)
	first, second := forwarded(t, s, guestPort), forwarded(t, s, guestPort)
	gone := dial(t, first)
	server := <-accepted
	stays := dial(t, second)
	other := <-accepted
	if err := s.Close(loopback, first); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*net.TCPConn{gone, server} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	}
	if _, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: first}); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a closed port: %v", err)
	}
	_, _ = other.Write([]byte("x"))
	if _, err := io.ReadFull(stays, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func TestExactlyTheAddressThatWasAskedFor(t *testing.T) {
	s, _ := forwarding(t)
	guestPort, _ := guestServer(t)
	port := forwarded(t, s, guestPort)
	if c, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2), Port: port}); err == nil {
		_ = c.Close()
		t.Error("127.0.0.2 answers for 127.0.0.1")
	}
	probe, err := net.Listen("tcp6", "[::]:0")
	if err != nil {
		t.Logf("no IPv6 here: %v", err)
		return
	}
	_ = probe.Close()
	six, err := s.Listen(netip.IPv6Unspecified(), 0, guestPort)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: six}); err == nil {
		_ = c.Close()
		t.Error("[::] takes IPv4 too")
	}
}

func TestListenersAreBounded(t *testing.T) {
	s, _ := forwarding(t)
	for i := 0; i < maxListeners; i++ {
		forwarded(t, s, 80)
	}
	if _, err := s.Listen(loopback, 0, 80); codeOf(err) != "EMFILE" {
		t.Error(err)
	}
	if n := len(s.List()); n != maxListeners {
		t.Error(n)
	}
	s.CloseAll()
	if _, err := s.Listen(loopback, 0, 80); codeOf(err) != "ESHUTDOWN" || len(s.List()) != 0 {
		t.Error(err)
	}
}
