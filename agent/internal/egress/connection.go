package egress

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// firstRead is enough for most first messages, in bytes.
const firstRead = 2 << 10

// connection is one that the proxy carries.
type connection struct {
	proxy    *Proxy
	client   net.Conn
	original netip.AddrPort

	protocol Protocol
	read     []byte // what the client has said so far
	name     string
	request  *request // of HTTP

	mu      sync.Mutex
	server  net.Conn // nil until there is one
	address netip.Addr

	active   atomic.Int64 // when something was carried last, in ns of the clock of time.Since(begun)
	begun    time.Time
	answered atomic.Bool // the response of HTTP has ended
}

// readName reads until it knows what the client wants.
func (c *connection) readName() *refusal {
	_ = c.client.SetDeadline(time.Now().Add(c.proxy.headWait))
	buffer := make([]byte, firstRead)
	for need := 1; ; {
		for len(c.read) < need {
			n, err := c.client.Read(buffer)
			c.read = append(c.read, buffer[:n]...)
			if err == nil || len(c.read) >= need {
				continue
			}
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				return noName("nothing was sent that tells it")
			}
			return &refusal{silent: true} // It went away.
		}
		var failure *refusal
		if c.read[0] == contentHandshake {
			c.protocol = ProtocolTLS
			c.name, need, failure = parseHello(c.read)
		} else {
			need, failure = c.readHead()
		}
		if failure != nil {
			return failure
		}
		if need == 0 {
			_ = c.client.SetDeadline(time.Time{})
			return nil
		}
	}
}

// readHead looks whether the head of an HTTP request is there. need is 0 when it is.
func (c *connection) readHead() (need int, failure *refusal) {
	if line := bytes.IndexByte(c.read, '\n'); line >= 0 && c.protocol != ProtocolHTTP {
		if _, _, _, ok := requestLine(string(bytes.TrimSuffix(c.read[:line], []byte("\r")))); !ok {
			return 0, noName("what was sent is neither TLS nor HTTP")
		}
		c.protocol = ProtocolHTTP
	} else if line < 0 && !isToken(string(c.read[:1])) {
		return 0, noName("what was sent is neither TLS nor HTTP")
	}
	end := headEnd(c.read)
	if end < 0 && len(c.read) < headLimit {
		return len(c.read) + 1, nil
	}
	if end < 0 || end > headLimit {
		return 0, malformed("the head of the request is too long")
	}
	c.request, failure = parseHead(c.read[:end], c.original.Port())
	if failure == nil {
		c.name = c.request.name
	}
	return 0, failure
}

// connect resolves the name, and connects to where it leads.
func (c *connection) connect() *refusal {
	port := c.original.Port()
	if decision := c.proxy.rules.DecideName(c.name, port); decision.Action == Refuse {
		return &refusal{Decision: decision}
	}
	addresses, failure := c.proxy.find(c.name, port)
	if failure != nil {
		return failure
	}
	server, address, err := c.proxy.dial(addresses, port)
	if err != nil {
		return &refusal{detail: err.Error()}
	}
	c.mu.Lock()
	c.server, c.address = server, address
	c.mu.Unlock()
	// After it is known to CloseRefused: the rules may have changed since they were asked.
	if decision := c.decide(); decision.Action == Refuse {
		_ = server.Close()
		return &refusal{Decision: decision}
	}
	return nil
}

// refusedNow tells whether the rules no longer allow a connection that has been made.
func (c *connection) refusedNow() bool {
	c.mu.Lock()
	made := c.server != nil
	c.mu.Unlock()
	return made && c.decide().Action == Refuse
}

// decide asks the rules again.
func (c *connection) decide() Decision {
	if decision := c.proxy.rules.DecideName(c.name, c.original.Port()); decision.Action == Refuse {
		return decision
	}
	return c.proxy.rules.DecideAnswer(c.address, c.original.Port())
}

// refuse records what was refused, then tells the client: who has been told finds the record.
func (c *connection) refuse(r *refusal) {
	if r.silent {
		_ = c.client.Close()
		return
	}
	what := c.original.String()
	if c.name != "" {
		what = nameEntry(c.name, c.original.Port())
	}
	text := "cannot reach " + what + ": " + r.detail
	if r.Rule != RuleNone {
		if r.Rule == RuleNoName || r.Rule == RuleNotAllowed {
			// An entry for the address would keep the connection away from here.
			r.Allow = addressEntry(c.original.Addr(), c.original.Port())
		}
		text = r.text(what, r.detail)
		c.note(r)
	}
	switch {
	case c.protocol == ProtocolHTTP:
		farewell(c.client, httpRefusal(r.Rule, text))
	case c.protocol == ProtocolTLS && r.Rule != RuleNone:
		farewell(c.client, tlsRefusal())
	default:
		reset(c.client)
	}
}

func (c *connection) note(r *refusal) {
	c.proxy.denials.Note(Denial{Protocol: c.protocol, Address: c.original.Addr(), Port: c.original.Port(), Name: c.name,
		Rule: r.Rule, Allow: r.Allow})
}

// end resets both sides: neither may take what was cut for the whole.
func (c *connection) end() {
	reset(c.client)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server != nil {
		reset(c.server)
	}
}

// close is for both sides having ended.
func (c *connection) close() {
	_ = c.client.Close()
	_ = c.server.Close()
}
