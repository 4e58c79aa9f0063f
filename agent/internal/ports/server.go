// Package ports forwards ports of the host to a guest's: it listens, has the agent connect to the guest's own server for
// each connection, and carries the bytes. What comes from the guest is only ever data.
package ports

import (
	"errors"
	"net"
	"net/netip"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/control"
	"smolvm.dev/agent/internal/laneclient"
)

const (
	// MaxConnections is how many connections a VM has at a time; more are reset.
	MaxConnections = laneclient.MaxCalls
	// maxListeners is how many ports of the host lead to a VM.
	maxListeners = 256
	// acceptPause is the wait after a failure that may pass, such as too many open files.
	acceptPause = 50 * time.Millisecond
)

// caller is what is needed of a laneclient.Client.
type caller interface {
	Call(operation string, fields []byte) (*laneclient.Call, error)
}

// Forward is a port of the host that leads to one of the guest.
type Forward struct {
	HostAddress string `json:"hostAddress"`
	HostPort    int    `json:"hostPort"`
	GuestPort   int    `json:"guestPort"`
}

// Server is all forwards of one VM.
type Server struct {
	guest  caller
	places chan struct{} // one for each connection

	mu        sync.Mutex
	listeners map[netip.AddrPort]*listener
	closed    bool
}

// New makes a server for the guest at the other end of a connection.
func New(guest caller) *Server {
	return &Server{guest: guest, places: make(chan struct{}, MaxConnections),
		listeners: make(map[netip.AddrPort]*listener)}
}

// Add forwards what a socket that listens already accepts. The socket is the server's from then on, or closed.
func (s *Server) Add(socket *net.TCPListener, guestPort int) error {
	place := placeOf(socket)
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	switch {
	case s.closed:
		err = &control.Error{Code: "ESHUTDOWN", Message: "the guest is gone"}
	case s.listeners[place] != nil:
		err = &control.Error{Code: "EADDRINUSE", Message: place.String() + " is forwarded already"}
	case len(s.listeners) >= maxListeners:
		err = &control.Error{Code: "EMFILE", Message: strconv.Itoa(maxListeners) + " ports are forwarded already"}
	}
	if err != nil {
		_ = socket.Close()
		return err
	}
	l := &listener{server: s, socket: socket, guestPort: guestPort, connections: make(map[*connection]struct{})}
	s.listeners[place] = l
	go l.accept()
	return nil
}

// Listen forwards exactly this address and port of the host, port 0 being any that is free, and returns the port.
func (s *Server) Listen(address netip.Addr, port, guestPort int) (int, error) {
	// The family in the name keeps an IPv6 socket from taking IPv4 too.
	family := "tcp6"
	if address = address.Unmap(); address.Is4() {
		family = "tcp4"
	}
	socket, err := net.ListenTCP(family, net.TCPAddrFromAddrPort(netip.AddrPortFrom(address, uint16(port))))
	if err != nil {
		return 0, err
	}
	port = int(placeOf(socket).Port())
	return port, s.Add(socket, guestPort)
}

// Close ends a forward and its connections.
func (s *Server) Close(address netip.Addr, port int) error {
	place := netip.AddrPortFrom(address.Unmap(), uint16(port))
	s.mu.Lock()
	l := s.listeners[place]
	delete(s.listeners, place)
	s.mu.Unlock()
	if l == nil {
		return &control.Error{Code: "ENOENT", Message: place.String() + " is not forwarded"}
	}
	l.close()
	return nil
}

// CloseAll ends all forwards, for good. Connections are reset: what ends without the guest's word was cut short.
func (s *Server) CloseAll() {
	s.mu.Lock()
	listeners := s.listeners
	s.listeners, s.closed = nil, true
	s.mu.Unlock()
	for _, l := range listeners {
		l.close()
	}
}

// List returns the forwards by address and port.
func (s *Server) List() []Forward {
	s.mu.Lock()
	places := make([]netip.AddrPort, 0, len(s.listeners))
	guestPorts := make(map[netip.AddrPort]int)
	for place, l := range s.listeners {
		places = append(places, place)
		guestPorts[place] = l.guestPort
	}
	s.mu.Unlock()
	sort.Slice(places, func(a, b int) bool {
		if order := places[a].Addr().Compare(places[b].Addr()); order != 0 {
			return order < 0
		}
		return places[a].Port() < places[b].Port()
	})
	list := make([]Forward, len(places))
	for i, place := range places {
		list[i] = Forward{place.Addr().String(), int(place.Port()), guestPorts[place]}
	}
	return list
}

func placeOf(socket *net.TCPListener) netip.AddrPort {
	place := socket.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(place.Addr().Unmap(), place.Port())
}

// listener is one port of the host.
type listener struct {
	server    *Server
	socket    *net.TCPListener
	guestPort int

	mu          sync.Mutex
	connections map[*connection]struct{} // nil once it is closed
}

func (l *listener) accept() {
	for {
		client, err := l.socket.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if !errors.Is(err, syscall.ECONNABORTED) {
				time.Sleep(acceptPause)
			}
			continue
		}
		select {
		case l.server.places <- struct{}{}:
			go func() {
				defer func() { <-l.server.places }()
				l.serve(&connection{client: client})
			}()
		default:
			reset(client)
		}
	}
}

func (l *listener) serve(c *connection) {
	l.mu.Lock()
	if l.connections == nil {
		l.mu.Unlock()
		reset(c.client)
		return
	}
	l.connections[c] = struct{}{}
	l.mu.Unlock()
	c.carry(l.server.guest, l.guestPort)
	l.mu.Lock()
	delete(l.connections, c)
	l.mu.Unlock()
}

func (l *listener) close() {
	_ = l.socket.Close()
	l.mu.Lock()
	connections := l.connections
	l.connections = nil
	l.mu.Unlock()
	for c := range connections {
		c.kill()
	}
}
