package egress

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

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
		{"CONNECT api.example.com:80 HTTP/1.1\r\nHost: api.example.com:80\r\n\r\n", "403", "CONNECT", "http 192.0.2.1:80 - not-allowed 192.0.2.1:80"},
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
