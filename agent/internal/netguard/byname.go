package netguard

import (
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"

	"smolvm.dev/agent/internal/egress"
)

// dnsWaiting is how many DNS connections may wait to be served.
const dnsWaiting = 16

// prepare makes everything ready for a policy that may come into force: its ports are listened on.
func (s *Switch) prepare(policy *egress.Policy) error {
	ports := policy.NamePorts()
	if len(ports) == 0 && !s.config.HasNames {
		return nil
	}
	s.mutex.Lock()
	before := s.ports
	wanted := map[uint16]bool{dnsPort: true}
	for port := range before {
		wanted[port] = true
	}
	for _, port := range ports {
		wanted[port] = true
	}
	s.ports = wanted
	var err error
	if s.room != nil {
		err = s.listen(s.room)
	}
	s.mutex.Unlock()
	if err == nil {
		err = s.toNames.up()
	}
	if err == nil {
		s.guard.SetNames(true)
		return nil
	}
	s.mutex.Lock()
	s.ports = before
	s.mutex.Unlock()
	return err
}

// tidy gives back what the policy in force does not need. While everything is open, connections that began by name may
// go on.
func (s *Switch) tidy(policy *egress.Policy) {
	ports := policy.NamePorts()
	if policy.Mode() == egress.ModeOpen {
		return
	}
	if len(ports) == 0 && !s.config.HasNames {
		s.guard.SetNames(false)
		s.toNames.down()
		s.end(s.guard.EndLane(ToNames))
		s.mutex.Lock()
		s.ports = map[uint16]bool{}
		s.mutex.Unlock()
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.ports = map[uint16]bool{dnsPort: true}
	for _, port := range ports {
		s.ports[port] = true
	}
	if s.room != nil {
		s.room.keep(s.ports)
	}
}

// startNames makes a namespace, listens in it, and runs passt there.
func (s *Switch) startNames() (*link, error) {
	path, err := exec.LookPath(s.config.Passt[0]) // The helper has no PATH.
	if err == nil {
		path, err = filepath.Abs(path) // And runs elsewhere.
	}
	if err != nil {
		return nil, err
	}
	argv := append([]string{path}, s.config.Passt[1:]...)
	r, err := openRoom(append(argv, namesInterface...), s.config.Log)
	if err != nil {
		return nil, err
	}
	passt, err := r.passt()
	if err == nil {
		s.mutex.Lock()
		if err = s.listen(r); err == nil {
			s.room = r
		}
		s.mutex.Unlock()
	}
	if err != nil {
		if passt != nil {
			passt.Close()
		}
		s.leave(r)
		return nil, err
	}
	go func() {
		<-r.helper.ended
		passt.Close() // Without the helper no port could be added: all of it begins anew.
	}()
	l := &link{Conn: passt, stop: func() { passt.Close(); s.leave(r) }}
	return l, s.awaitReady(l)
}

func (s *Switch) leave(r *room) {
	s.mutex.Lock()
	if s.room == r {
		s.room = nil
	}
	s.mutex.Unlock()
	r.close()
}

// listen opens every port that is wanted.
func (s *Switch) listen(r *room) error {
	for port := range s.ports {
		serve := func(listener net.Listener) { _ = s.proxy.ServeListener(listener, nil) }
		if port == dnsPort {
			serve = s.serveDNSPort
		}
		if err := r.open(port, serve); err != nil {
			return err
		}
	}
	return nil
}

// serveDNSPort tells those who ask our DNS from those who want a named host's port 53.
func (s *Switch) serveDNSPort(listener net.Listener) {
	dns := &queue{Listener: listener, waiting: make(chan net.Conn, dnsWaiting), closed: make(chan struct{})}
	go func() { _ = s.resolver.ServeTCP(dns) }()
	_ = s.proxy.ServeListener(&sorter{Listener: listener, dns: dns, address: toAddr(s.guard.dns)}, nil)
	close(dns.closed)
}

// sorter accepts all but the connections to one address, which it puts into a queue.
type sorter struct {
	net.Listener
	dns     *queue
	address netip.Addr
}

func (l *sorter) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		local, ok := conn.LocalAddr().(*net.TCPAddr)
		if !ok || local.AddrPort().Addr().Unmap() != l.address {
			return conn, nil
		}
		select {
		case l.dns.waiting <- conn:
		default:
			conn.Close()
		}
	}
}

// queue is a listener for connections that another one has accepted.
type queue struct {
	net.Listener
	waiting chan net.Conn
	closed  chan struct{}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case conn := <-q.waiting:
		return conn, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}
