package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

func TestTLSThroughTheProxy(t *testing.T) {
	config := &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
	b := newProxyBench(t, map[string]string{
		"93.184.216.34:443": echoServer(t, func(conn net.Conn) net.Conn { return tls.Server(conn, config) })})
	for _, c := range []struct {
		name   string
		denial string // "" when it must work
	}{
		{"api.example.com", ""},
		{"API.example.COM", ""},
		{"mixed.example.org", ""},
		{"evil.com", "tls 192.0.2.1:443 evil.com name-not-allowed evil.com:443"},
		{"example.org", "tls 192.0.2.1:443 example.org name-not-allowed example.org:443"},
		{"93.184.216.34", "tls 192.0.2.1:443 - no-name 192.0.2.1:443"}, // Go sends no name then
		{"private.example.org", "tls 192.0.2.1:443 private.example.org private-answer 10.0.0.6:443"},
		{"opened.example.org", "tls 192.0.2.1:443 opened.example.org private-answer 10.0.0.6:443"}, // opened for port 80
		{"loop.example.org", "tls 192.0.2.1:443 loop.example.org private-answer -"},
		{"host.example.org", "tls 192.0.2.1:443 host.example.org private-answer -"},
		{"guest.example.org", "tls 192.0.2.1:443 guest.example.org private-answer -"},
		{"meta.example.org", "tls 192.0.2.1:443 meta.example.org private-answer -"},
		{"none.example.org", "tls 192.0.2.1:443 none.example.org unresolved -"},
	} {
		client := tls.Client(b.dial(443), &tls.Config{ServerName: c.name, InsecureSkipVerify: true})
		err := client.Handshake()
		if c.denial != "" {
			if err == nil || !strings.Contains(err.Error(), "access denied") {
				t.Errorf("%s: %v", c.name, err)
			}
			if got := b.lastDenial(); got != c.denial {
				t.Errorf("%s: got %s", c.name, got)
			}
			if got := b.dials(); got != "" {
				t.Errorf("%s: dialed %s", c.name, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		go func() { _, _ = client.Write(make([]byte, 1<<20)); _ = client.CloseWrite() }()
		if n, err := io.Copy(io.Discard, client); n != 1<<20 || err != nil {
			t.Errorf("%s: %d bytes came back, %v", c.name, n, err)
		}
		if got := b.dials(); got != "93.184.216.34:443" {
			t.Errorf("%s: dialed %s", c.name, got)
		}
	}
}

// TestHelloArrivesUnchanged sends byte by byte, with an end, and gets all of it back.
func TestHelloArrivesUnchanged(t *testing.T) {
	b := newProxyBench(t, map[string]string{"93.184.216.34:443": echoServer(t, plain)})
	said := append(inRecords(clientHello(t, "api.example.com"), 37), "\x17\x03\x03\x00\x04more"...)
	conn := b.dial(443)
	for i := range said {
		if _, err := conn.Write(said[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	_ = conn.CloseWrite()
	if got, err := io.ReadAll(conn); string(got) != string(said) || err != nil {
		t.Errorf("%d of %d bytes came back, %v", len(got), len(said), err)
	}
}

func TestOtherProtocolsAreReset(t *testing.T) {
	b := newProxyBench(t, nil)
	for _, said := range []string{"\x00", "SSH-2.0-OpenSSH_9.2\r\n", "GET\r\n", "\r\n", "\n", "(", "EHLO me\r\n", "GET / HTTP/1.1 \r\n"} {
		conn := b.dial(443)
		_, _ = io.WriteString(conn, said)
		if n, err := io.Copy(io.Discard, conn); n != 0 || err == nil {
			t.Errorf("%q: %d bytes, %v", said, n, err)
		}
		if got := b.lastDenial(); got != "tcp 192.0.2.1:443 - no-name 192.0.2.1:443" {
			t.Errorf("%q: got %s", said, got)
		}
	}
	// Who says nothing is not refused.
	conn := b.dial(443)
	_ = conn.CloseWrite()
	_, _ = io.Copy(io.Discard, conn)
	if len(b.lines()) != 8 {
		t.Error("a connection without a word has a record")
	}
}

func TestAddressesAreTried(t *testing.T) {
	b := newProxyBench(t, map[string]string{"93.184.216.34:80": echoServer(t, plain)})
	for name, want := range map[string]string{
		"few.example.org":  "203.0.113.1:80 203.0.113.2:80 203.0.113.3:80 93.184.216.34:80",
		"many.example.org": "203.0.113.1:80 203.0.113.2:80 203.0.113.3:80 203.0.113.4:80",
	} {
		conn := b.dial(80)
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+name+"\r\n\r\n")
		line, err := bufio.NewReader(conn).ReadString('\n')
		if got := strings.HasPrefix(line, "HTTP/1.1 502"); got != (name == "many.example.org") || err != nil {
			t.Errorf("%s: %s %v", name, line, err)
		}
		if got := b.dials(); got != want {
			t.Errorf("%s: dialed %s", name, got)
		}
	}
	if lines := b.lines(); len(lines) != 0 {
		t.Error("a server out of reach is no refusal: ", b.lastDenial())
	}
}

// hold makes a connection that is carried.
func (b *proxyBench) hold(name string) *net.TCPConn {
	b.t.Helper()
	conn := b.dial(443)
	said := inRecords(clientHello(b.t, name), 1000)
	_, _ = conn.Write(said)
	if _, err := io.ReadFull(conn, make([]byte, len(said))); err != nil {
		b.t.Fatal(err)
	}
	return conn
}

func TestAChangeEndsConnections(t *testing.T) {
	b := newProxyBench(t, map[string]string{"93.184.216.34:443": echoServer(t, plain), "203.0.113.1:443": echoServer(t, plain)})
	ended, kept := b.hold("api.example.com"), b.hold("few.example.org")
	b.proxy.rules.Update(mustPolicy(t, `{"mode":"allow","names":[{"name":"few.example.org","port":443}]}`))
	if n, err := io.Copy(io.Discard, ended); n != 0 || err == nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := kept.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(kept, make([]byte, 1)); err != nil {
		t.Error("a connection that is still allowed: ", err)
	}
	// What comes to lead to the host is refused too.
	b.proxy.rules.host.read = func() ([]netip.Prefix, error) { return []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, nil }
	if err := b.proxy.rules.host.Refresh(); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, kept); n != 0 || err == nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestAChangeWhileItConnects(t *testing.T) {
	server := echoServer(t, plain)
	b := newProxyBench(t, nil)
	b.proxy.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		b.proxy.rules.Update(mustPolicy(t, `{"mode":"off"}`))
		return (&net.Dialer{}).DialContext(ctx, network, server)
	}
	client := tls.Client(b.dial(443), &tls.Config{ServerName: "api.example.com", InsecureSkipVerify: true})
	if err := client.Handshake(); err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Error(err)
	}
	if got := b.lastDenial(); got != "tls 192.0.2.1:443 api.example.com off api.example.com:443" {
		t.Errorf("got %s", got)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	b := newProxyBench(t, map[string]string{"93.184.216.34:443": echoServer(t, plain)})
	var held []net.Conn
	for i := 0; i < connectionsAtOnce; i++ {
		held = append(held, b.hold("api.example.com"))
	}
	if conn, err := b.try(443); err == nil { // The reset may come before connect has returned.
		if n, err := io.Copy(io.Discard, conn); n != 0 || err == nil {
			t.Errorf("one connection too many: %d bytes, %v", n, err)
		}
	}
	for _, conn := range held {
		_ = conn.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Fatal(err)
		}
	}
	for try := 0; ; try++ { // The last may still be on its way out.
		b.proxy.mu.Lock()
		left := len(b.proxy.connections)
		b.proxy.mu.Unlock()
		if left == 0 {
			break
		}
		if try == 1000 {
			t.Fatalf("%d connections are left", left)
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.hold("api.example.com")
}

// TestAServersResetIsPassedOn so that half a response is not taken for a whole one.
func TestAServersResetIsPassedOn(t *testing.T) {
	listener := listen(t)
	go func() {
		_ = acceptAll(listener, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 1000))
			_, _ = io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\nhalf")
			_, _ = conn.Read(make([]byte, 1)) // until the client has seen it
			reset(conn)
		})
	}()
	b := newProxyBench(t, map[string]string{"93.184.216.34:80": listener.Addr().String()})
	conn := b.dial(80)
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 9\r\n\r\n")
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.0 200 OK\r\n\r\nhalf"))); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(conn, "x")
	if _, err := io.ReadAll(conn); err == nil {
		t.Error("the connection has a regular end")
	}
}

func TestSilenceIsRefused(t *testing.T) {
	b := newProxyBench(t, nil)
	b.proxy.headWait = 50 * time.Millisecond
	for _, said := range []string{"", "\x16", "GE"} {
		conn := b.dial(443)
		_, _ = io.WriteString(conn, said)
		_, _ = io.Copy(io.Discard, conn) // until it is ended
		if got := b.lastDenial(); !strings.HasSuffix(got, "192.0.2.1:443 - no-name 192.0.2.1:443") {
			t.Errorf("%q: got %s", said, got)
		}
	}
	if len(b.lines()) != 3 {
		t.Errorf("%d records", len(b.lines()))
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	t.Parallel()
	b := newProxyBench(t, map[string]string{"93.184.216.34:443": echoServer(t, plain)})
	b.proxy.idleWait = time.Second
	conn := b.hold("api.example.com")
	for i := 0; i < 30; i++ { // longer than the limit together, but never idle for long
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if n, err := io.Copy(io.Discard, conn); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes, %v", n, err)
	}
}
