package egress

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

const allowProxy = `{"mode":"allow","names":[{"name":"api.example.com","port":443},{"name":"api.example.com","port":80},
	{"name":"*.example.org","port":443},{"name":"*.example.org","port":80}],"networks":[{"cidr":"10.0.0.5/32","port":80}]}`

// proxyBench is a proxy with servers on loopback that stand for the outside.
type proxyBench struct {
	*denialBook
	proxy   *Proxy
	address map[uint16]string // where to connect to, by the port that the guest wanted

	mu     sync.Mutex
	names  map[string]string // addresses by name
	dialed []string
}

func newProxyBench(t *testing.T, servers map[string]string) *proxyBench {
	t.Helper()
	b := &proxyBench{denialBook: newDenialBook(t), address: map[uint16]string{}, names: map[string]string{
		"api.example.com":     "93.184.216.34",
		"private.example.org": "10.0.0.6",
		"opened.example.org":  "10.0.0.6 10.0.0.5",
		"loop.example.org":    "127.0.0.1",
		"host.example.org":    "198.51.100.2",
		"guest.example.org":   "172.16.0.6",
		"meta.example.org":    "169.254.169.254",
		"mixed.example.org":   "10.0.0.6 127.0.0.1 93.184.216.34",
		"many.example.org":    "203.0.113.1 203.0.113.2 203.0.113.3 203.0.113.4 93.184.216.34",
		"few.example.org":     "203.0.113.1 203.0.113.2 203.0.113.3 93.184.216.34",
	}}
	rules := testRules(t, allowProxy)
	b.proxy = NewProxy(rules, NewResolver(rules, nil), b.Denials)
	b.proxy.Lookup = func(_ context.Context, name string) ([]netip.Addr, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		var all []netip.Addr
		for _, text := range strings.Fields(b.names[name]) {
			all = append(all, netip.MustParseAddr(text))
		}
		if all == nil {
			return nil, errors.New("no such name")
		}
		return all, nil
	}
	b.proxy.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		b.mu.Lock()
		b.dialed = append(b.dialed, address)
		b.mu.Unlock()
		if to, ok := servers[address]; ok {
			return (&net.Dialer{}).DialContext(ctx, network, to)
		}
		return nil, errors.New("connection refused")
	}
	for _, port := range []uint16{80, 443, 8080} {
		original := netip.AddrPortFrom(netip.MustParseAddr("::ffff:192.0.2.1"), port)
		listener := listen(t)
		go func() {
			_ = b.proxy.ServeListener(listener, func(net.Conn) (netip.AddrPort, error) { return original, nil })
		}()
		b.address[port] = listener.Addr().String()
	}
	return b
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func (b *proxyBench) dial(port uint16) *net.TCPConn {
	b.t.Helper()
	conn, err := net.Dial("tcp", b.address[port])
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn.(*net.TCPConn)
}

// lastDenial is "protocol address:port name rule allow".
func (b *proxyBench) lastDenial() string {
	b.t.Helper()
	lines := b.lines()
	b.mu.Lock()
	b.clock = b.clock.Add(denialWindow)
	b.mu.Unlock()
	if len(lines) == 0 {
		return ""
	}
	text := func(s *string) string {
		if s == nil {
			return "-"
		}
		return *s
	}
	line := lines[len(lines)-1]
	return fmt.Sprintf("%s %s:%d %s %s %s", line.Protocol, *line.Address, *line.Port, text(line.Name), line.Rule, text(line.Allow))
}

func (b *proxyBench) dials() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := strings.Join(b.dialed, " ")
	b.dialed = nil
	return all
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// echoServer sends back what it gets, then ends.
func echoServer(t testing.TB, wrap func(net.Conn) net.Conn) string {
	listener := listen(t)
	go func() {
		_ = acceptAll(listener, func(conn net.Conn) {
			go func() {
				defer conn.Close()
				conn := wrap(conn)
				_, _ = io.Copy(conn, conn)
				if half, ok := conn.(interface{ CloseWrite() error }); ok {
					_ = half.CloseWrite()
				}
			}()
		})
	}()
	return listener.Addr().String()
}

func plain(conn net.Conn) net.Conn { return conn }

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

func TestHTTPThroughTheProxy(t *testing.T) {
	b := newProxyBench(t, nil)
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s close=%v %d %v %v", r.Method, r.Host, r.URL, r.Close, len(body), r.Trailer, err)
	}))
	t.Cleanup(outside.Close)
	address := outside.Listener.Addr().String()
	b.proxy.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	for _, c := range []struct{ request, status, body, denial string }{
		{"GET /x HTTP/1.1\r\nHost: API.example.com\r\nConnection: keep-alive\r\n\r\n", "200", "GET API.example.com /x close=true 0", ""},
		{"GET /x HTTP/1.0\r\nHost: api.example.com:80\r\n\r\n", "200", "GET api.example.com:80 /x close=true 0", ""},
		{"GET http://api.example.com/x HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "200", "GET api.example.com http://api.example.com/x", ""},
		{"POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 5\r\n\r\nhello", "200", "close=true 5", ""},
		{"POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 40000\r\n\r\n" + strings.Repeat("x", 40000), "200", "close=true 40000", ""},
		{"POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\nT: v\r\n\r\n",
			"200", "close=true 15 map[T:[v]]", ""},
		{"GET /1 HTTP/1.1\r\nHost: api.example.com\r\n\r\nGET /second HTTP/1.1\r\nHost: evil.com\r\n\r\n", "200", "/1", ""},
		{"GET / HTTP/1.1\r\nHost: opened.example.org\r\n\r\n", "200", "opened.example.org", ""},
		{"GET / HTTP/1.1\r\nHost: evil.com\r\n\r\n", "403", `the entry "evil.com:80" would allow it`,
			"http 192.0.2.1:80 evil.com name-not-allowed evil.com:80"},
		{"GET / HTTP/1.1\r\nHost: 93.184.216.34\r\n\r\n", "403", `rule "no-name"`, "http 192.0.2.1:80 - no-name 192.0.2.1:80"},
		{"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "403", `rule "no-name"`, "http 192.0.2.1:80 - no-name 192.0.2.1:80"},
		{"GET / HTTP/1.1\r\n\r\n", "403", `rule "no-name"`, "http 192.0.2.1:80 - no-name 192.0.2.1:80"},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "403", `HTTP/2`, "http 192.0.2.1:80 - no-name 192.0.2.1:80"},
		{"GET / HTTP/1.1\r\nHost: private.example.org\r\n\r\n", "403", `the entry "10.0.0.6:80" would allow it`,
			"http 192.0.2.1:80 private.example.org private-answer 10.0.0.6:80"},
		{"GET / HTTP/1.1\r\nHost: none.example.org\r\n\r\n", "502", `rule "unresolved"`, "http 192.0.2.1:80 none.example.org unresolved -"},
		{"CONNECT api.example.com:80 HTTP/1.1\r\nHost: api.example.com:80\r\n\r\n", "403", "CONNECT", "http 192.0.2.1:80 - not-allowed -"},
		{"GET / HTTP/1.1\r\nHost: api.example.com.\r\n\r\n", "400", `rule "malformed"`, "http 192.0.2.1:80 - malformed -"},
		{"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", headLimit) + "\r\n\r\n", "400", "too long", "http 192.0.2.1:80 - malformed -"},
	} {
		before := len(b.lines())
		conn := b.dial(80)
		go func() { _, _ = io.WriteString(conn, c.request) }()
		raw, err := io.ReadAll(conn)
		response, failure := http.ReadResponse(bufio.NewReader(strings.NewReader(string(raw))), nil)
		if err != nil || failure != nil {
			t.Errorf("%.200q: %v %v", c.request, err, failure)
			continue
		}
		body, _ := io.ReadAll(response.Body)
		if !strings.HasPrefix(response.Status, c.status) || !strings.Contains(string(body), c.body) || strings.Contains(string(raw), "/second") {
			t.Errorf("%.200q: got %s", c.request, raw)
		}
		if c.denial == "" {
			if lines := b.lines(); len(lines) != before {
				t.Errorf("%.200q: has a record: %s", c.request, b.lastDenial())
			}
		} else if got := b.lastDenial(); got != c.denial {
			t.Errorf("%.200q: got %s", c.request, got)
		}
	}
}

func TestBadBodiesEndTheConnection(t *testing.T) {
	b := newProxyBench(t, map[string]string{"93.184.216.34:80": echoServer(t, plain)})
	const head = "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, body := range []string{"x\r\n", "5 \r\nhello\r\n", "+5\r\nhello\r\n", "-1\r\n", "5\nhello\r\n", "5\r\nhelloX\r\n", "\r\n",
		"1000000000000000\r\n", "5;\x01\r\n", "0\r\nT\r\n", "0\r\n T: v\r\n", "0x5\r\nhello\r\n", strings.Repeat("0", bodyBuffer) + "\r\n",
		"0\r\n" + strings.Repeat("T: "+strings.Repeat("v", 1000)+"\r\n", 20)} {
		conn := b.dial(80)
		go func() { _, _ = io.WriteString(conn, head+body) }()
		if _, err := io.ReadAll(conn); err == nil {
			t.Errorf("%.100q: has a regular end", body)
		}
		if got := b.lastDenial(); got != "http 192.0.2.1:80 api.example.com malformed -" {
			t.Errorf("%.100q: got %s", body, got)
		}
	}
}

// TestContinue has a client that sends the body only once it was asked to.
func TestContinue(t *testing.T) {
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "got %s", body)
	}))
	t.Cleanup(outside.Close)
	b := newProxyBench(t, map[string]string{"93.184.216.34:80": outside.Listener.Addr().String()})
	conn := b.dial(80)
	_, _ = io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	answer := bufio.NewReader(conn)
	if line, err := answer.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatal(line, err)
	}
	_, _ = io.WriteString(conn, "body")
	if rest, err := io.ReadAll(answer); !strings.Contains(string(rest), "got body") || err != nil {
		t.Errorf("%s %v", rest, err)
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
	if n, err := io.Copy(io.Discard, b.dial(443)); n != 0 || err == nil {
		t.Errorf("one connection too many: %d bytes, %v", n, err)
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
