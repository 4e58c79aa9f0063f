package egress

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// clientHello is what Go's own client says first, without the headers of records.
func clientHello(t testing.TB, name string) []byte {
	t.Helper()
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		_ = tls.Client(there, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
		_ = there.Close()
	}()
	header := make([]byte, recordHeader)
	if _, err := io.ReadFull(here, header); err != nil {
		t.Fatal(err)
	}
	hello := make([]byte, binary.BigEndian.Uint16(header[3:]))
	if _, err := io.ReadFull(here, hello); err != nil {
		t.Fatal(err)
	}
	return hello
}

func inRecords(message []byte, size int) []byte {
	var out []byte
	for len(message) > 0 {
		n := size
		if n > len(message) {
			n = len(message)
		}
		out = append(out, contentHandshake, 3, 1, byte(n>>8), byte(n))
		out = append(out, message[:n]...)
		message = message[n:]
	}
	return out
}

func extension(kind uint16, data ...byte) []byte {
	return append([]byte{byte(kind >> 8), byte(kind), byte(len(data) >> 8), byte(len(data))}, data...)
}

func sni(names ...string) []byte {
	var list []byte
	for _, name := range names {
		list = append(list, nameTypeHost, byte(len(name)>>8), byte(len(name)))
		list = append(list, name...)
	}
	return extension(extensionName, append([]byte{byte(len(list) >> 8), byte(len(list))}, list...)...)
}

// hello builds a ClientHello. No extensions at all leaves their length out.
func hello(extensions ...[]byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 1, 1, 0)
	if extensions != nil {
		all := bytes.Join(extensions, nil)
		body = append(append(body, byte(len(all)>>8), byte(len(all))), all...)
	}
	return append([]byte{handshakeHello, 0, byte(len(body) >> 8), byte(len(body))}, body...)
}

func TestNamesOfHellos(t *testing.T) {
	grease := extension(0x1a1a)
	for name, c := range map[string]struct {
		hello []byte
		want  string // the name, or the rule
	}{
		"Go's own":          {clientHello(t, "api.example.com"), "api.example.com"},
		"upper case":        {hello(grease, sni("API.Example.com"), grease), "api.example.com"},
		"no extensions":     {hello(), "no-name"},
		"empty extensions":  {hello([]byte{}), "no-name"},
		"other extensions":  {hello(grease), "no-name"},
		"ECH only":          {hello(extension(0xfe0d, 0, 0, 1, 0, 1, 5)), "no-name"},
		"an address":        {hello(sni("93.184.216.34")), "no-name"},
		"an IPv6 address":   {hello(sni("2001:db8::1")), "no-name"},
		"final dot":         {hello(sni("api.example.com.")), "malformed"},
		"NUL":               {hello(sni("api.example.com\x00.evil.com")), "malformed"},
		"NUL at the end":    {hello(sni("api.example.com\x00")), "malformed"},
		"star":              {hello(sni("*.example.com")), "malformed"},
		"UTF-8":             {hello(sni("ä.example.com")), "malformed"},
		"with a port":       {hello(sni("api.example.com:443")), "malformed"},
		"hexadecimal":       {hello(sni("0x7f000001")), "malformed"},
		"empty name":        {hello(sni("")), "malformed"},
		"no name in list":   {hello(sni()), "malformed"},
		"two names":         {hello(sni("api.example.com", "evil.com")), "malformed"},
		"two lists":         {hello(sni("api.example.com"), sni("evil.com")), "malformed"},
		"the same twice":    {hello(sni("api.example.com"), sni("api.example.com")), "malformed"},
		"other type":        {hello(extension(extensionName, 0, 4, 1, 0, 1, 'a')), "malformed"},
		"list too long":     {hello(extension(extensionName, 0, 5, 0, 0, 1, 'a')), "malformed"},
		"list too short":    {hello(extension(extensionName, 0, 3, 0, 0, 1, 'a')), "malformed"},
		"name too long":     {hello(extension(extensionName, 0, 4, 0, 0, 2, 'a')), "malformed"},
		"empty extension":   {hello(extension(extensionName)), "malformed"},
		"cut extension":     {hello(sni("api.example.com")[:10]), "malformed"},
		"odd suites":        {append([]byte{1, 0, 0, 39, 3, 3}, append(make([]byte, 32), 0, 0, 1, 0x13, 1)...), "malformed"},
		"not a ClientHello": {append([]byte{2}, hello(sni("api.example.com"))[1:]...), "malformed"},
		"message follows":   {append(hello(sni("api.example.com")), 0), "malformed"},
		"huge message":      {[]byte{handshakeHello, 0xff, 0, 0}, "malformed"},
	} {
		for _, size := range []int{1, 3, 100, recordMax} {
			data := inRecords(c.hello, size)
			got, need, failure := parseHello(data)
			if failure != nil {
				got = string(failure.Rule)
			}
			// With small records, what is too much stands behind what was asked for.
			if got != c.want && !(size < 4 && name == "message follows" && got == "api.example.com") || need != 0 {
				t.Errorf("%s in records of %d: got %q, need %d", name, size, got, need)
			}
			if failure != nil {
				continue
			}
			if name, need, failure := parseHello(append(data, "early data"...)); name != got || need != 0 || failure != nil {
				t.Errorf("%s: with more behind it: %q %d %v", name, name, need, failure)
			}
		}
	}
}

func TestHelloAsksForWhatItNeeds(t *testing.T) {
	data := inRecords(hello(sni("api.example.com")), 10)
	for cut := 0; cut < len(data); cut++ {
		if name, need, failure := parseHello(data[:cut]); name != "" || need <= cut || need > len(data) || failure != nil {
			t.Fatalf("%d bytes: %q %d %v", cut, name, need, failure)
		}
	}
	for name, bad := range map[string][]byte{
		"other record":   append([]byte{23}, data[1:]...),
		"SSL 2":          {contentHandshake, 2, 0, 0, 1},
		"empty record":   {contentHandshake, 3, 1, 0, 0},
		"long record":    {contentHandshake, 3, 1, 0x40, 1},
		"alert between":  append(append([]byte(nil), data[:15]...), contentAlert, 3, 3, 0, 2, 1, 0),
		"too much":       inRecords(make([]byte, recordMax), recordMax),
		"too many":       inRecords(append([]byte{1, 0, 0x3f, 0xf0}, make([]byte, 5000)...), 1),
		"longer than it": {contentHandshake, 3, 1, 0x3f, 0xff},
	} {
		if _, need, failure := parseHello(bad); failure == nil || failure.Rule != RuleMalformed {
			t.Errorf("%s: need %d, %v", name, need, failure)
		}
	}
}

// FuzzHello compares with Go's own server: it must see the same name, or refuse.
func FuzzHello(f *testing.F) {
	f.Add(inRecords(hello(sni("api.example.com")), 20))
	f.Add(inRecords(hello(extension(5, 1), sni("a.b"), extension(0xfe0d, 0)), recordMax))
	f.Add(inRecords(clientHello(f, "api.example.com"), recordMax))
	seen := errors.New("seen")
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > headLimit {
			return
		}
		name, need, failure := parseHello(data)
		if (name != "") == (need != 0 || failure != nil) || need < 0 || need > 0 && need <= len(data) {
			t.Fatalf("%q %d %v", name, need, failure)
		}
		if name == "" {
			return
		}
		server := "nothing"
		_ = tls.Server(&spoken{bytes.NewReader(data)}, &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			server = info.ServerName
			return nil, seen
		}}).Handshake()
		if server != "nothing" && strings.ToLower(server) != name {
			t.Errorf("we see %q, Go sees %q", name, server)
		}
	})
}

// spoken is a client that has said all it will say.
type spoken struct{ io.Reader }

func (s *spoken) Write(data []byte) (int, error)   { return len(data), nil }
func (s *spoken) Close() error                     { return nil }
func (s *spoken) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *spoken) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *spoken) SetDeadline(time.Time) error      { return nil }
func (s *spoken) SetReadDeadline(time.Time) error  { return nil }
func (s *spoken) SetWriteDeadline(time.Time) error { return nil }
