package egress

import (
	"bytes"
	"strconv"
	"strings"
)

// contentDigits bounds the digits of a Content-Length.
const contentDigits = 18

// request is what the proxy needs of the head of an HTTP/1 request.
type request struct {
	name    string // in lower case
	head    []byte // what goes to the server: the same, but for the fields about this connection
	chunked bool
	length  int64 // of a body that is not chunked
}

// requestLine tells whether a first line, without its end, is one of HTTP at all.
func requestLine(line string) (method, target, version string, ok bool) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || !isToken(parts[0]) || !strings.HasPrefix(parts[2], "HTTP/") {
		return "", "", "", false
	}
	return parts[0], parts[1], parts[2], true
}

// parseHead reads a whole head, up to and with its empty line. It is strict: whatever two programs could read in two
// ways is refused (RFC 9112, 11.2). port is where the connection goes.
func parseHead(head []byte, port uint16) (*request, *refusal) {
	lines := strings.Split(strings.TrimSuffix(string(head), "\r\n\r\n"), "\r\n")
	method, target, version, ok := requestLine(lines[0])
	if !ok || !isTarget(target) {
		return nil, malformed("the request line is not one of HTTP/1")
	}
	if version == "HTTP/2.0" {
		return nil, noName("HTTP/2 without TLS tells none that can be checked")
	}
	if version != "HTTP/1.1" && version != "HTTP/1.0" {
		return nil, malformed("this version of HTTP is not known")
	}
	fields, failure := readFields(lines[1:])
	if failure != nil {
		return nil, failure
	}
	if method == "CONNECT" || fields.upgrade {
		return nil, &refusal{Decision: Decision{Rule: RuleNotAllowed}, detail: "CONNECT and Upgrade are never passed on"}
	}
	if !fields.hasHost || fields.host == "" {
		return nil, noName("the request has no Host")
	}
	r := &request{}
	if r.name, failure = hostName(fields.host, port); failure != nil {
		return nil, failure
	}
	if !targetFits(target, fields.host, method) {
		return nil, malformed("the request line names another host than the Host field")
	}
	if failure := r.readLength(fields, version); failure != nil {
		return nil, failure
	}
	r.head = append([]byte(lines[0]+"\r\n"), fields.kept...)
	r.head = append(r.head, "Connection: close\r\n\r\n"...)
	return r, nil
}

type headFields struct {
	host    string
	length  string
	coding  string
	upgrade bool
	kept    []byte

	hasHost, hasLength, hasCoding bool
}

func readFields(lines []string) (*headFields, *refusal) {
	f := &headFields{}
	once := func(has *bool, to *string, value string) bool {
		again := *has
		*has, *to = true, value
		return !again
	}
	for _, line := range lines {
		name, value, found := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		// A name that begins with a space is what was once the rest of the line before.
		if !found || !isToken(name) || !isFieldValue(value) {
			return nil, malformed("a field of the request is malformed")
		}
		keep, ok := true, true
		switch strings.ToLower(name) {
		case "host":
			ok = once(&f.hasHost, &f.host, value)
		case "content-length":
			ok = once(&f.hasLength, &f.length, value)
		case "transfer-encoding":
			ok = once(&f.hasCoding, &f.coding, value)
		case "upgrade":
			f.upgrade = true
		case "connection", "keep-alive", "proxy-connection":
			keep = false
		}
		if !ok {
			return nil, malformed("a field of the request stands there twice")
		}
		if keep {
			f.kept = append(append(f.kept, line...), '\r', '\n')
		}
	}
	return f, nil
}

// readLength decides where the body ends. Each pair of fields that contradict one another has been used to hide a
// second request in a first one's body.
func (r *request) readLength(f *headFields, version string) *refusal {
	switch {
	case f.hasLength && f.hasCoding:
		return malformed("the request has both a Content-Length and a Transfer-Encoding")
	case f.hasCoding:
		if version == "HTTP/1.0" || !strings.EqualFold(f.coding, "chunked") {
			return malformed("the Transfer-Encoding is not \"chunked\"")
		}
		r.chunked = true
	case f.hasLength:
		length, err := strconv.ParseUint(f.length, 10, 63)
		if err != nil || len(f.length) > contentDigits || strings.Trim(f.length, "0123456789") != "" {
			return malformed("the Content-Length is not a number")
		}
		r.length = int64(length)
	}
	return nil
}

// hostName takes the value of a Host field. A port in it must be the connection's.
func hostName(host string, port uint16) (string, *refusal) {
	if name, text, found := strings.Cut(host, ":"); found && !isAddressLiteral(host) {
		if text != strconv.Itoa(int(port)) {
			return "", malformed("the Host field has another port than the connection")
		}
		host = name
	}
	return checkedName(host)
}

// targetFits takes a path, "*" of OPTIONS, or a whole URL of the same host.
func targetFits(target, host, method string) bool {
	if strings.HasPrefix(target, "/") || target == "*" && method == "OPTIONS" {
		return true
	}
	const scheme = "http://"
	if len(target) < len(scheme) || !strings.EqualFold(target[:len(scheme)], scheme) {
		return false
	}
	authority := target[len(scheme):]
	if end := strings.IndexAny(authority, "/?#\\"); end >= 0 {
		authority = authority[:end]
	}
	return strings.EqualFold(authority, host)
}

func isTarget(target string) bool {
	for i := 0; i < len(target); i++ {
		if target[i] <= ' ' || target[i] >= 0x7f {
			return false
		}
	}
	return target != ""
}

// isToken is "token" of RFC 9110, 5.6.2.
func isToken(text string) bool {
	for i := 0; i < len(text); i++ {
		c := text[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') &&
			strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return text != ""
}

func isFieldValue(text string) bool {
	for i := 0; i < len(text); i++ {
		if text[i] < ' ' && text[i] != '\t' || text[i] == 0x7f {
			return false
		}
	}
	return true
}

// headEnd returns the length of a head with its empty line; -1 when it is not there yet.
func headEnd(data []byte) int {
	if at := bytes.Index(data, []byte("\r\n\r\n")); at >= 0 {
		return at + 4
	}
	return -1
}
