package egress

import (
	"encoding/binary"
	"strings"
)

// Numbers of RFC 8446 (TLS 1.3) and RFC 6066 (server_name).
const (
	recordHeader       = 5
	recordMax          = 1 << 14
	contentHandshake   = 22
	handshakeHeader    = 4
	handshakeHello     = 1
	helloRandom        = 2 + 32 // version and random
	extensionName      = 0
	nameTypeHost       = 0
	alertAccessDenied  = 49
	alertLevelFatal    = 2
	contentAlert       = 21
	tlsMajor, tlsMinor = 3, 3
)

// parseHello looks for the name in what a TLS client says first. need is how many bytes it takes to know more; 0 when
// all is known. The bytes are at most headLimit.
func parseHello(data []byte) (name string, need int, failure *refusal) {
	var message []byte
	for at := 0; ; {
		if len(data) < at+recordHeader {
			return "", at + recordHeader, nil
		}
		length := int(binary.BigEndian.Uint16(data[at+3:]))
		if data[at] != contentHandshake || data[at+1] != tlsMajor || length == 0 || length > recordMax {
			return "", 0, malformed("the TLS handshake has a bad record")
		}
		end := at + recordHeader + length
		if end > headLimit {
			return "", 0, malformed("the first message of TLS is too long")
		}
		if len(data) < end {
			return "", end, nil
		}
		message = append(message, data[at+recordHeader:end]...)
		at = end
		if message[0] != handshakeHello {
			return "", 0, malformed("the first message of TLS is not a ClientHello")
		}
		if len(message) < handshakeHeader {
			continue
		}
		whole := handshakeHeader + int(binary.BigEndian.Uint32(message)&0xffffff)
		if whole > headLimit {
			return "", 0, malformed("the first message of TLS is too long")
		}
		if len(message) < whole {
			continue
		}
		if len(message) > whole { // Nothing may follow before the server has answered.
			return "", 0, malformed("something follows the ClientHello")
		}
		name, failure = helloName(message[handshakeHeader:])
		return name, 0, failure
	}
}

// helloName returns the name of a whole ClientHello, in lower case.
func helloName(body []byte) (string, *refusal) {
	c := cursor{data: body}
	c.take(helloRandom)
	session := c.vector(1)
	suites := c.vector(2)
	compression := c.vector(1)
	if c.bad || len(session) > 32 || len(suites) == 0 || len(suites)%2 != 0 || len(compression) == 0 {
		return "", malformed("the ClientHello is malformed")
	}
	if len(c.data) == 0 {
		return "", noName("its ClientHello has no server name")
	}
	extensions := cursor{data: c.vector(2)}
	if c.bad || len(c.data) != 0 {
		return "", malformed("the ClientHello is malformed")
	}
	var name string
	for found := false; len(extensions.data) > 0; {
		kind := extensions.take(2)
		value := extensions.vector(2)
		if extensions.bad {
			return "", malformed("the ClientHello has a malformed extension")
		}
		if kind[0] != 0 || kind[1] != extensionName {
			continue
		}
		text, ok := serverName(value)
		if !ok || found {
			return "", malformed("the ClientHello has a malformed server name")
		}
		name, found = text, true
	}
	if name == "" {
		return "", noName("its ClientHello has no server name")
	}
	return checkedName(name)
}

// serverName accepts one name of a host and nothing else: who knows which of two a server would take.
func serverName(value []byte) (string, bool) {
	c := cursor{data: value}
	list := cursor{data: c.vector(2)}
	kind := list.take(1)
	name := list.vector(2)
	if c.bad || list.bad || len(c.data) != 0 || len(list.data) != 0 || kind[0] != nameTypeHost || len(name) == 0 {
		return "", false
	}
	return string(name), true
}

// checkedName takes what a client gave as name, and returns it in lower case.
func checkedName(name string) (string, *refusal) {
	if isAddressLiteral(name) {
		return "", noName("it names an address, not a name")
	}
	if !isName(name) {
		return "", malformed("what it tells as its name is no name of a host")
	}
	return strings.ToLower(name), nil
}

// isAddressLiteral is generous: it only chooses the words of a refusal.
func isAddressLiteral(name string) bool {
	return name != "" && (name[0] == '[' || strings.Trim(name, "0123456789.") == "" || strings.Count(name, ":") > 1)
}

// cursor reads fields one after the other. One that is cut is nil, as are all after it, and bad is set.
type cursor struct {
	data []byte
	bad  bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || n > len(c.data) {
		c.bad, c.data = true, nil
		return nil
	}
	taken := c.data[:n]
	c.data = c.data[n:]
	return taken
}

// vector takes a length of so many bytes, and what it counts.
func (c *cursor) vector(lengthBytes int) []byte {
	length := 0
	for _, b := range c.take(lengthBytes) {
		length = length<<8 | int(b)
	}
	return c.take(length)
}
