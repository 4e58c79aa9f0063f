package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// headLimit is how much is read before the name is known, in bytes.
	headLimit = 16 << 10
	// headWait bounds the time for it.
	headWait = 10 * time.Second
	// idleWait ends a connection that carries nothing.
	idleWait = 15 * time.Minute
	// dialWait bounds the connecting, to all addresses together.
	dialWait = 10 * time.Second
	// dialAddresses is how many addresses of a name are tried.
	dialAddresses = 4
	// connectionsAtOnce bounds what a guest holds of descriptors and memory.
	connectionsAtOnce = 512
)

// Proxy carries connections that are allowed by name. It reads the name that the guest's program tells (TLS or HTTP),
// resolves it itself, and connects to that: where the guest wanted to go counts for nothing but its port.
type Proxy struct {
	rules   *Rules
	denials *Denials
	// Dial and Lookup reach the outside; a test may exchange them before the first use.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Lookup func(ctx context.Context, name string) ([]netip.Addr, error)

	headWait, idleWait time.Duration // shorter in tests

	mu          sync.Mutex
	connections map[*connection]struct{}
}

// NewProxy makes one that asks the resolver.
func NewProxy(rules *Rules, resolver *Resolver, denials *Denials) *Proxy {
	p := &Proxy{rules: rules, denials: denials, Dial: (&net.Dialer{}).DialContext, Lookup: resolver.Lookup,
		headWait: headWait, idleWait: idleWait, connections: map[*connection]struct{}{}}
	rules.OnChange(p.CloseRefused)
	return p
}

// ServeListener serves each connection until the listener is closed; then it returns nil. original tells where a
// connection went; nil stands for its local address.
func (p *Proxy) ServeListener(listener net.Listener, original func(net.Conn) (netip.AddrPort, error)) error {
	if original == nil {
		original = func(conn net.Conn) (netip.AddrPort, error) { return netip.ParseAddrPort(conn.LocalAddr().String()) }
	}
	return acceptAll(listener, func(conn net.Conn) {
		to, err := original(conn)
		if err != nil {
			reset(conn)
			return
		}
		go p.Serve(conn, to)
	})
}

// Serve carries one connection, and returns when both sides have ended. It closes conn. original is where the guest's
// program connected to. More than 512 connections at once are reset.
func (p *Proxy) Serve(conn net.Conn, original netip.AddrPort) {
	c := &connection{proxy: p, client: conn, original: netip.AddrPortFrom(original.Addr().Unmap(), original.Port()),
		protocol: ProtocolTCP}
	if !p.add(c) {
		reset(conn)
		return
	}
	defer p.remove(c)
	failure := c.readName()
	if failure == nil {
		failure = c.connect()
	}
	if failure != nil {
		c.refuse(failure)
		return
	}
	c.carry()
}

// CloseRefused ends the connections that the rules refuse now. NewProxy has made it a hook of the rules.
func (p *Proxy) CloseRefused() {
	p.mu.Lock()
	var all []*connection
	for c := range p.connections {
		all = append(all, c)
	}
	p.mu.Unlock()
	for _, c := range all {
		if c.refusedNow() {
			c.end()
		}
	}
}

func (p *Proxy) add(c *connection) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.connections) >= connectionsAtOnce {
		return false
	}
	p.connections[c] = struct{}{}
	return true
}

func (p *Proxy) remove(c *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.connections, c)
}

// find returns addresses of a name that the rules allow.
func (p *Proxy) find(name string, port uint16) ([]netip.Addr, *refusal) {
	ctx, cancel := context.WithTimeout(context.Background(), questionWait)
	defer cancel()
	all, err := p.Lookup(ctx, name)
	if err != nil || len(all) == 0 {
		return nil, &refusal{Decision: Decision{Rule: RuleUnresolved}}
	}
	var good []netip.Addr
	var bad *refusal
	for _, address := range all {
		decision := p.rules.DecideAnswer(address, port)
		if decision.Action == Direct {
			good = append(good, address)
		} else if bad == nil {
			bad = &refusal{Decision: decision}
		}
	}
	if len(good) == 0 {
		return nil, bad
	}
	return good, nil
}

// dial tries some of the addresses, each for a fair part of the time.
func (p *Proxy) dial(addresses []netip.Addr, port uint16) (net.Conn, netip.Addr, error) {
	if len(addresses) > dialAddresses {
		addresses = addresses[:dialAddresses]
	}
	err := errors.New("no address")
	deadline := time.Now().Add(dialWait)
	for i, address := range addresses {
		var conn net.Conn
		ctx, cancel := context.WithTimeout(context.Background(), time.Until(deadline)/time.Duration(len(addresses)-i))
		conn, err = p.Dial(ctx, "tcp", netip.AddrPortFrom(address, port).String())
		cancel()
		if err == nil {
			return conn, address, nil
		}
	}
	return nil, netip.Addr{}, fmt.Errorf("cannot connect: %w", err)
}
