package egress

import (
	"context"
	"errors"
	"net"
	"time"
)

const (
	// dnsConnections bounds the connections of DNS by TCP that a guest holds.
	dnsConnections = 16
	// dnsIdle ends one on which nothing is asked.
	dnsIdle = 10 * time.Second
	// retryPause is the wait after a failure to accept or receive, such as a lack of descriptors.
	retryPause = 100 * time.Millisecond
)

// ServeUDP answers until the socket is closed; then it returns nil.
func (r *Resolver) ServeUDP(conn net.PacketConn) error {
	buffer := make([]byte, queryLimit+1)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			time.Sleep(retryPause)
			continue
		}
		// Too many: the guest asks again.
		_ = r.TryAnswer(buffer[:n], TransportUDP, func(answer []byte) { _, _ = conn.WriteTo(answer, from) })
	}
}

// ServeTCP answers until the listener is closed, on at most 16 connections at once; then it returns nil.
func (r *Resolver) ServeTCP(listener net.Listener) error {
	places := make(chan struct{}, dnsConnections)
	return acceptAll(listener, func(conn net.Conn) {
		select {
		case places <- struct{}{}:
			go func() {
				defer func() { <-places }()
				r.serveConnection(conn)
			}()
		default:
			_ = conn.Close()
		}
	})
}

func (r *Resolver) serveConnection(conn net.Conn) {
	defer conn.Close()
	for {
		_ = conn.SetDeadline(time.Now().Add(dnsIdle))
		query, err := readMessage(conn, queryLimit)
		if err != nil {
			return
		}
		answer := r.Answer(context.Background(), query, TransportTCP)
		if answer == nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(dnsIdle))
		if writeMessage(conn, answer) != nil {
			return
		}
	}
}

// acceptAll hands each connection to take, which must not wait. It returns nil when the listener is closed.
func acceptAll(listener net.Listener, take func(net.Conn)) error {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			time.Sleep(retryPause)
			continue
		}
		take(conn)
	}
}
