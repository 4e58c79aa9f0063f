package egress

import (
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// lingerWait and lingerBytes bound the reading after a refusal: closing with unread bytes would reset the
	// connection, and the guest's program would lose the refusal.
	lingerWait  = time.Second
	lingerBytes = 256 << 10
)

// refusal says why a connection is not carried.
type refusal struct {
	Decision
	detail  string // more than the rule says; may be ""
	silent  bool   // nothing to record, such as a client that went away
	address string // of the server that could not be reached; it has no rule then
}

func malformed(detail string) *refusal {
	return &refusal{Decision: Decision{Rule: RuleMalformed}, detail: detail}
}

func noName(detail string) *refusal {
	return &refusal{Decision: Decision{Rule: RuleNoName}, detail: detail}
}

// text tells a person in the guest what was refused, why, and what would allow it. what is a name, or an address and
// port.
func (d Decision) text(what, detail string) string {
	var why string
	switch d.Rule {
	case RuleOff:
		why = "the network of this VM is off"
	case RuleNameNotAllowed, RuleNotAllowed:
		why = "the network policy of this VM does not allow it"
	case RuleNoName:
		why = "the network policy of this VM allows this port by name only"
	case RulePrivateAnswer:
		why = "the name leads to addresses out of bounds for this VM"
	case RuleUnresolved:
		why = "the host finds no address of it"
	case RuleMalformed:
		why = "what was sent is malformed"
	default:
		why = "no VM reaches it"
	}
	if detail != "" {
		why += ", and " + detail
	}
	text := fmt.Sprintf("%s is refused: %s (rule %q)", what, why, d.Rule)
	if d.Allow != "" {
		text += fmt.Sprintf("; the entry %q would allow it", d.Allow)
	}
	return text
}

// httpRefusal is a whole response.
func httpRefusal(rule Rule, text string) []byte {
	status := "403 Forbidden"
	switch rule {
	case RuleMalformed:
		status = "400 Bad Request"
	case RuleUnresolved, RuleNone:
		status = "502 Bad Gateway"
	}
	body := "SmolVM: " + text + "\n"
	return []byte(fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"+
		"Cache-Control: no-store\r\nConnection: close\r\n\r\n%s", status, len(body), body))
}

// tlsRefusal is a fatal alert.
func tlsRefusal() []byte {
	return []byte{contentAlert, tlsMajor, tlsMinor, 0, 2, alertLevelFatal, alertAccessDenied}
}

// farewell sends the last words of a connection and closes it so that they arrive.
func farewell(conn net.Conn, words []byte) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(lingerWait))
	if len(words) > 0 {
		if _, err := conn.Write(words); err != nil {
			return
		}
	}
	if closeWrite(conn) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, conn, lingerBytes)
}

// reset ends a connection at once, as a closed port would.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return conn.Close()
}
