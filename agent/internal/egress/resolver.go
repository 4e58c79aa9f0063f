package egress

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

const (
	// questionsAtOnce bounds the host's sockets that a guest can hold by asking.
	questionsAtOnce = 64
	// lookupsAtOnce bounds those that the proxy holds, so that a guest's questions do not stand in its way.
	lookupsAtOnce = 64
)

// Transport is how a question came, and so how long its answer may be.
type Transport uint8

const (
	TransportUDP     Transport = iota // cut to what the question says; the guest can ask again by TCP
	TransportTCP                      // up to 64 KiB
	TransportLongUDP                  // up to 16 KiB in one datagram: for a guest that cannot ask by TCP
)

// Resolver answers DNS questions by asking the host's resolvers, which may well be on the host's loopback: only
// questions that it wrote itself go out, only to them, and no other port is ever touched.
type Resolver struct {
	rules     *Rules
	denials   *Denials
	questions chan struct{}
	lookups   chan struct{}
	// Dial connects to a resolver; a test may exchange it before the first use.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// NewResolver asks the resolvers of the policy in force.
func NewResolver(rules *Rules, denials *Denials) *Resolver {
	return &Resolver{rules: rules, denials: denials, Dial: (&net.Dialer{}).DialContext,
		questions: make(chan struct{}, questionsAtOnce), lookups: make(chan struct{}, lookupsAtOnce)}
}

// Answer returns the answer to a guest's question; nil only for what is no question at all, or when the context ends
// before one of 64 places is free.
func (r *Resolver) Answer(ctx context.Context, query []byte, transport Transport) []byte {
	q, own := r.judge(query)
	if q == nil || own != nil {
		return own
	}
	select {
	case r.questions <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-r.questions }()
	return r.relay(ctx, q, transport)
}

// TryAnswer is for who must not wait: false when 64 questions are under way. It copies query. reply may be called
// before TryAnswer returns or later, in another goroutine; not at all for what is no question.
func (r *Resolver) TryAnswer(query []byte, transport Transport, reply func(answer []byte)) bool {
	q, own := r.judge(query)
	if own != nil {
		reply(own)
	}
	if q == nil || own != nil {
		return true
	}
	select {
	case r.questions <- struct{}{}:
	default:
		return false
	}
	go func() {
		defer func() { <-r.questions }()
		reply(r.relay(context.Background(), q, transport))
	}()
	return true
}

// Lookup returns the IPv4 addresses of a name, which is asked whatever the policy says.
func (r *Resolver) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	if !isName(name) {
		return nil, fmt.Errorf("%q is no name", name)
	}
	select {
	case r.lookups <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-r.lookups }()
	answer := r.ask(ctx, addressQuestion(name), tcpLimit)
	if answer == nil {
		return nil, errors.New("no resolver of the host answered")
	}
	var addresses []netip.Addr
	for _, address := range answerAddresses(answer) {
		addresses = append(addresses, netip.AddrFrom4(address))
	}
	if addresses == nil {
		return nil, fmt.Errorf("the host's resolver knows no IPv4 address of it (rcode %d)", answer[3]&maskRcode)
	}
	return addresses, nil
}

// judge returns the question, and the answer when the host's resolvers are not needed for it.
func (r *Resolver) judge(query []byte) (q *question, own []byte) {
	q, rcode, ok := parseQuestion(query)
	if !ok {
		return nil, nil
	}
	if rcode != rcodeOK {
		return q, q.reply(rcode, 0, "")
	}
	if decision := r.rules.DecideQuestion(q.name); decision.Action == Refuse {
		if !isName(q.name) {
			decision.Allow = ""
		}
		r.denials.Note(Denial{Protocol: ProtocolDNS, Name: q.name, Rule: decision.Rule, Allow: decision.Allow})
		return q, q.reply(rcodeRefuse, errorProhibited, decision.text(q.name, ""))
	}
	switch q.kind {
	case typeAAAA: // IPv6 is off. An address that leads nowhere would only cost time.
		return q, q.reply(rcodeOK, 0, "")
	case typeSVCB, typeHTTPS, typeANY:
		// They would bring the keys that hide the name of a connection, and other places to find it at.
		if r.rules.Policy().Mode() == ModeAllow {
			return q, q.reply(rcodeOK, 0, "")
		}
	}
	return q, nil
}

// relay gives the answer of the host's resolvers.
func (r *Resolver) relay(ctx context.Context, q *question, transport Transport) []byte {
	limit := plainSize
	switch transport {
	case TransportTCP:
		limit = tcpLimit
	case TransportLongUDP:
		limit = longLimit
	default:
		if q.edns && q.size > plainSize {
			limit = ednsSize
			if q.size < ednsSize {
				limit = int(q.size)
			}
		}
	}
	answer := r.ask(ctx, q, limit)
	if answer == nil {
		return q.reply(rcodeServer, errorNetwork, "none of the host's resolvers answered")
	}
	if len(answer) > limit {
		return q.truncated()
	}
	binary.BigEndian.PutUint16(answer, q.id)
	return answer
}
