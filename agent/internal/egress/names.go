package egress

import (
	"errors"
	"strings"
)

const (
	// nameLimit and labelLimit are in bytes (RFC 1035, 2.3.4), without the final dot.
	nameLimit  = 253
	labelLimit = 63
	// anyPort stands for every port at once; no entry has it.
	anyPort = 0
)

type namePort struct {
	name string
	port uint16
}

// names are the entries of a policy that have a name.
type names struct {
	exact     map[namePort]struct{}
	wildcards map[namePort]struct{} // without "*."
	ports     map[uint16]struct{}
}

func (n *names) add(text string, port uint16) error {
	if n.ports == nil {
		n.exact, n.wildcards, n.ports = map[namePort]struct{}{}, map[namePort]struct{}{}, map[uint16]struct{}{}
	}
	to, name := n.exact, text
	if strings.HasPrefix(text, "*.") {
		to, name = n.wildcards, text[2:]
	}
	if !isName(name) || name != strings.ToLower(name) {
		return errors.New("not a name in lower case")
	}
	to[namePort{name, port}] = struct{}{}
	to[namePort{name, anyPort}] = struct{}{}
	n.ports[port] = struct{}{}
	return nil
}

// allow takes a name in lower case. "*.example.org" covers every name below example.org, and not example.org.
func (n *names) allow(name string, port uint16) bool {
	if !isName(name) {
		return false
	}
	if _, ok := n.exact[namePort{name, port}]; ok {
		return true
	}
	for rest := name; ; {
		_, after, found := strings.Cut(rest, ".")
		if !found {
			return false
		}
		if _, ok := n.wildcards[namePort{after, port}]; ok {
			return true
		}
		rest = after
	}
}

// isName accepts the name of a host, without a final dot, and nothing that a program could take for an address: a last
// label of digits ("1.2.3", 127.1) or of hexadecimal ("0x7f000001").
func isName(name string) bool {
	if len(name) == 0 || len(name) > nameLimit {
		return false
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if len(label) == 0 || len(label) > labelLimit {
			return false
		}
		for i := 0; i < len(label); i++ {
			if !isNameByte(label[i]) {
				return false
			}
		}
	}
	return !isNumber(labels[len(labels)-1])
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// isNumber is "ends in a number" of the URL standard, for one label.
func isNumber(label string) bool {
	digits := "0123456789"
	if len(label) >= 2 && label[0] == '0' && label[1]|0x20 == 'x' {
		label, digits = label[2:], "0123456789abcdefABCDEF"
	}
	return strings.Trim(label, digits) == ""
}

func (n *names) hasPort(port uint16) bool {
	_, ok := n.ports[port]
	return ok
}
