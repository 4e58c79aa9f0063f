package egress

import (
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
	conn, err := b.try(port)
	if err != nil {
		b.t.Fatal(err)
	}
	return conn
}

// try connects to the proxy, which is started by the first one.
func (b *proxyBench) try(port uint16) (*net.TCPConn, error) {
	b.t.Helper()
	if b.address[port] == "" {
		original := netip.AddrPortFrom(netip.MustParseAddr("::ffff:192.0.2.1"), port)
		listener := listen(b.t)
		go func() {
			_ = b.proxy.ServeListener(listener, func(net.Conn) (netip.AddrPort, error) { return original, nil })
		}()
		b.address[port] = listener.Addr().String()
	}
	conn, err := net.Dial("tcp", b.address[port])
	if err != nil {
		return nil, err
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn), conn.SetDeadline(time.Now().Add(20 * time.Second))
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
