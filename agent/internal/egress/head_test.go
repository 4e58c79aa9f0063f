package egress

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

func TestHeads(t *testing.T) {
	const host = "Host: api.example.com\r\n"
	for _, c := range []struct{ head, want string }{ // the name, or the rule
		{"GET / HTTP/1.1\r\n" + host, "api.example.com"},
		{"GET /?q=http://evil.com/ HTTP/1.1\r\n" + host, "api.example.com"},
		{"GET //evil.com/ HTTP/1.1\r\n" + host, "api.example.com"},
		{"OPTIONS * HTTP/1.1\r\n" + host, "api.example.com"},
		{"M-SEARCH / HTTP/1.1\r\nhOST:\tApi.Example.com:80 \r\n", "api.example.com"},
		{"GET HTTP://API.example.com?x HTTP/1.1\r\n" + host, "api.example.com"},
		{"GET / HTTP/1.1\r\n" + host + "X-Umlaut: \xe4\r\nEmpty:\r\n", "api.example.com"},
		{"GET / HTTP/1.1\r\n" + host + "Upgrade-Insecure-Requests: 1\r\n", "api.example.com"},
		{"GET / HTTP/1.1\r\n" + host + "Connection: Host, close\r\n", "api.example.com"},

		{"GET / HTTP/1.1\r\n", "no-name"},
		{"GET / HTTP/1.0\r\n", "no-name"},
		{"GET / HTTP/1.1\r\nHost:\r\n", "no-name"},
		{"GET / HTTP/1.1\r\nHost: 10.0.0.1:80\r\n", "no-name"},
		{"GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n", "no-name"},
		{"PRI * HTTP/2.0\r\n", "no-name"},
		{"CONNECT api.example.com:80 HTTP/1.1\r\n" + host, "not-allowed"},
		{"GET / HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n", "not-allowed"},
		{"GET / HTTP/1.1\r\n" + host + "upgrade: h2c\r\n", "not-allowed"},

		{"GET / HTTP/1.1\r\n" + host + host, "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "host: evil.com\r\n", "malformed"},
		{"GET / HTTP/1.1\r\nHost: api.example.com, evil.com\r\n", "malformed"},
		{"GET / HTTP/1.1\r\nHost: evil.com@api.example.com\r\n", "malformed"},
		{"GET / HTTP/1.1\r\nHost: api.example.com:81\r\n", "malformed"},
		{"GET / HTTP/1.1\r\nHost: api.example.com:\r\n", "malformed"},
		{"GET / HTTP/1.1\r\nHost: api.example.com:080\r\n", "malformed"},
		{"GET / HTTP/1.1\r\nHost: api.example.com.\r\n", "malformed"},
		{"GET / HTTP/1.1\r\nHost: api.example.com/\r\n", "malformed"},
		{"GET / HTTP/1.1\r\nHost: api .example.com\r\n", "malformed"},
		{"GET / HTTP/1.1\r\nHost : api.example.com\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n Host: api.example.com\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + " folded\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "\tfolded: x\r\n", "malformed"},
		{"GET / HTTP/1.1\r\nHost: api.example.com\nHost: evil.com\r\n", "malformed"},
		{"GET / HTTP/1.1\r\nHost: api.example.com\rX: y\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "X: a\x00b\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "no colon\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + ": no name\r\n", "malformed"},
		{"GET http://evil.com/ HTTP/1.1\r\n" + host, "malformed"},
		{"GET http://api.example.com@evil.com/ HTTP/1.1\r\n" + host, "malformed"},
		{"GET http://evil.com\\@api.example.com/ HTTP/1.1\r\n" + host, "malformed"},
		{"GET https://api.example.com/ HTTP/1.1\r\n" + host, "malformed"},
		{"GET http:/// HTTP/1.1\r\n" + host, "malformed"},
		{"GET api.example.com HTTP/1.1\r\n" + host, "malformed"},
		{"GET * HTTP/1.1\r\n" + host, "malformed"},
		{"GET  / HTTP/1.1\r\n" + host, "malformed"},
		{"GET /a b HTTP/1.1\r\n" + host, "malformed"},
		{"GET /\x7f HTTP/1.1\r\n" + host, "malformed"},
		{"GET /\tHTTP/1.1 HTTP/1.1\r\n" + host, "malformed"},
		{"GET / HTTP/1.2\r\n" + host, "malformed"},
		{"GET / HTTP/0.9\r\n" + host, "malformed"},
		{"GET / http/1.1\r\n" + host, "malformed"},
		{"G(T / HTTP/1.1\r\n" + host, "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "Content-Length: 5\r\nContent-Length: 5\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "Content-Length: 5, 5\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "Content-Length: +5\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "Content-Length: -5\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "Content-Length: 0x5\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "Content-Length:\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "Content-Length: 9999999999999999999\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "Transfer-Encoding: identity\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n", "malformed"},
		{"GET / HTTP/1.1\r\n" + host + "Transfer-Encoding\x00: chunked\r\n", "malformed"},
		{"GET / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n", "malformed"},
	} {
		r, failure := parseHead([]byte(c.head+"\r\n"), 80)
		got := ""
		if failure != nil {
			got = string(failure.Rule)
		} else {
			got = r.name
		}
		if got != c.want {
			t.Errorf("%q: got %s", c.head, got)
		}
	}
}

func TestHeadsAreRewritten(t *testing.T) {
	const said = "POST /x HTTP/1.1\r\nconnection: keep-alive, X-Secret\r\nHOST:  api.example.com\r\nKeep-Alive: 5\r\n" +
		"Proxy-Connection: keep-alive\r\nContent-Length: 007\r\nX-Secret: 1\r\n\r\n"
	const want = "POST /x HTTP/1.1\r\nHOST:  api.example.com\r\nContent-Length: 007\r\nX-Secret: 1\r\nConnection: close\r\n\r\n"
	r, failure := parseHead([]byte(said), 80)
	if failure != nil || string(r.head) != want || r.length != 7 || r.chunked {
		t.Errorf("%+v %v", r, failure)
	}
}

// FuzzHead compares with Go's own server: it must see the same host and the same length, or refuse.
func FuzzHead(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n"))
	f.Add([]byte("POST http://a.b/x HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\n"))
	f.Add([]byte("PUT / HTTP/1.0\r\nHost: a.b:80\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		end := headEnd(data)
		if end < 0 || end > headLimit {
			return
		}
		r, failure := parseHead(data[:end], 80)
		if (r == nil) == (failure == nil) {
			t.Fatal("neither a request nor a failure")
		}
		if r == nil {
			return
		}
		if !isName(r.name) || r.name != strings.ToLower(r.name) || r.chunked && r.length != 0 {
			t.Errorf("%+v", r)
		}
		if again := headEnd(r.head); again != len(r.head) {
			t.Errorf("the head ends at %d of %d", again, len(r.head))
		}
		theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r.head)))
		if err != nil {
			return
		}
		name, _, _ := strings.Cut(strings.ToLower(theirs.Host), ":")
		if name != r.name || !theirs.Close || (len(theirs.TransferEncoding) > 0) != r.chunked || !r.chunked && theirs.ContentLength != r.length {
			t.Errorf("we see %q %v %d, Go sees %q %v %d", r.name, r.chunked, r.length, theirs.Host, theirs.TransferEncoding, theirs.ContentLength)
		}
	})
}
