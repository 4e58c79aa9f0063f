package tapguard

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// acceptPause is the wait after a connection could not be accepted, for want of descriptors or memory.
const acceptPause = 50 * time.Millisecond

// Addresses say where one guest is served.
type Addresses struct {
	// Gateway is the host's address on the TAP device, Guest the address of its only guest.
	Gateway, Guest netip.Addr
	DNSPort        uint16
	ProxyPort      uint16
	// Group is where the packet filter logs what it refuses.
	Group uint16
}

// Sockets is everything that privileges are needed for.
type Sockets struct {
	packets net.PacketConn
	dns     *guestListener
	proxy   *guestListener
	log     *Log
}

// Open makes the sockets. They take what comes, and nothing is answered yet.
func Open(a Addresses) (*Sockets, error) {
	s := &Sockets{}
	if err := s.open(a); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sockets) open(a Addresses) error {
	dns, proxy := netip.AddrPortFrom(a.Gateway, a.DNSPort), netip.AddrPortFrom(a.Gateway, a.ProxyPort)
	packets, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(dns))
	if err != nil {
		return err
	}
	s.packets = guestPackets{packets, a.Guest}
	if s.dns, err = listenFor(a.Guest, dns); err != nil {
		return err
	}
	if s.proxy, err = listenFor(a.Guest, proxy); err != nil {
		return err
	}
	if s.log, err = OpenLog(a.Group); err != nil {
		return fmt.Errorf("cannot receive what is logged to group %d: %w", a.Group, err)
	}
	return nil
}

// Close closes them all. Then nobody serves the guest, and what would need it fails.
func (s *Sockets) Close() {
	if s.packets != nil {
		_ = s.packets.Close()
	}
	if s.dns != nil {
		_ = s.dns.Close()
	}
	if s.proxy != nil {
		_ = s.proxy.Close()
	}
	if s.log != nil {
		_ = s.log.Close()
	}
}

// guestPackets leaves out what others than the guest send.
type guestPackets struct {
	*net.UDPConn
	guest netip.Addr
}

func (g guestPackets) ReadFrom(buffer []byte) (int, net.Addr, error) {
	for {
		n, from, err := g.UDPConn.ReadFrom(buffer)
		if err != nil || isFrom(from, g.guest) {
			return n, from, err
		}
	}
}

// guestListener takes connections of the guest, and resets all others.
type guestListener struct {
	*net.TCPListener
	guest   netip.Addr
	address netip.AddrPort
}

func listenFor(guest netip.Addr, address netip.AddrPort) (*guestListener, error) {
	listener, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(address)) // Go sets SO_REUSEADDR.
	if err != nil {
		return nil, err
	}
	return &guestListener{listener, guest, address}, nil
}

// Accept fails only when the listener is closed.
func (l *guestListener) Accept() (net.Conn, error) {
	for {
		connection, err := l.TCPListener.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil, err
		case err != nil:
			time.Sleep(acceptPause)
		case isFrom(connection.RemoteAddr(), l.guest):
			return connection, nil
		default:
			reset(connection)
		}
	}
}

// originalOf is where a connection was going that the packet filter has redirected to the listener. It fails for one
// that was not redirected.
func (l *guestListener) originalOf(connection net.Conn) (netip.AddrPort, error) {
	tcp, ok := connection.(*net.TCPConn)
	if !ok {
		return netip.AddrPort{}, syscall.ENOTSOCK
	}
	original, err := originalDestination(tcp)
	if err == nil && original == l.address {
		err = errors.New("the guest connected to the proxy itself")
	}
	return original, err
}

func reset(connection *net.TCPConn) {
	_ = connection.SetLinger(0)
	_ = connection.Close()
}

func isFrom(address net.Addr, guest netip.Addr) bool {
	switch a := address.(type) {
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap() == guest
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap() == guest
	}
	return false
}
