package egress

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

const (
	// queryLimit is the longest question taken, in bytes.
	queryLimit = 1232
	// longLimit is the longest answer given by TransportLongUDP, in bytes: the guest's MTU allows a long datagram.
	longLimit = 16 * 1024
	// tcpLimit is the longest message of DNS by TCP (RFC 1035, 4.2.2).
	tcpLimit = 1<<16 - 1
	// resolverWait bounds the wait for one resolver; the next one is asked after it.
	resolverWait = 3 * time.Second
	// resolverRepeat is when a question by UDP is sent again.
	resolverRepeat = time.Second
	// questionWait bounds the wait for all of them.
	questionWait = 10 * time.Second
)

// ask asks the host's resolvers in order. One that cannot tell is passed over, as glibc does; its answer is given when
// no other one knows more. nil: none answered.
func (r *Resolver) ask(ctx context.Context, q *question, limit int) []byte {
	ctx, cancel := context.WithTimeout(ctx, questionWait)
	defer cancel()
	var second []byte
	for _, server := range r.rules.Policy().Resolvers() {
		answer := r.askOne(ctx, server.String(), q, limit)
		if answer == nil {
			continue
		}
		switch answer[3] & maskRcode {
		case rcodeServer, rcodeNotImp, rcodeRefuse:
			if second == nil {
				second = answer
			}
		default:
			return answer
		}
	}
	return second
}

func (r *Resolver) askOne(ctx context.Context, server string, q *question, limit int) []byte {
	ctx, cancel := context.WithTimeout(ctx, resolverWait)
	defer cancel()
	var random [2]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil
	}
	query := q.query(binary.BigEndian.Uint16(random[:]), ednsSize)
	answer := r.exchange(ctx, "udp", server, query)
	if answer != nil && answer[2]&flagTruncated != 0 && limit > ednsSize {
		if whole := r.exchange(ctx, "tcp", server, query); whole != nil && len(whole) <= limit {
			answer = whole
		}
	}
	return answer
}

// exchange sends one query to one server; nil when no matching answer came.
func (r *Resolver) exchange(ctx context.Context, network, server string, query []byte) []byte {
	connection, err := r.Dial(ctx, network, server)
	if err != nil {
		return nil
	}
	defer connection.Close()
	deadline, _ := ctx.Deadline()
	_ = connection.SetDeadline(deadline)
	// A context may end before its deadline.
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-ctx.Done():
			_ = connection.Close()
		case <-done:
		}
	}()
	if network == "tcp" {
		return exchangeTCP(connection, query)
	}
	return exchangeUDP(connection, query, deadline)
}

func exchangeUDP(connection net.Conn, query []byte, deadline time.Time) []byte {
	buffer := make([]byte, longLimit)
	for {
		repeat := time.Now().Add(resolverRepeat)
		if _, err := connection.Write(query); err != nil || !repeat.Before(deadline) {
			repeat = deadline
		}
		_ = connection.SetReadDeadline(repeat)
		for {
			n, err := connection.Read(buffer)
			if err == nil && isAnswerTo(buffer[:n], query) {
				return buffer[:n]
			}
			if errors.Is(err, os.ErrDeadlineExceeded) && repeat.Before(deadline) {
				break
			}
			if err != nil {
				return nil
			}
		}
	}
}

func exchangeTCP(connection net.Conn, query []byte) []byte {
	if err := writeMessage(connection, query); err != nil {
		return nil
	}
	answer, err := readMessage(connection, tcpLimit)
	if err != nil || !isAnswerTo(answer, query) {
		return nil
	}
	return answer
}

// writeMessage writes a message of DNS by TCP, in one piece.
func writeMessage(to io.Writer, message []byte) error {
	framed := make([]byte, 2, 2+len(message))
	binary.BigEndian.PutUint16(framed, uint16(len(message)))
	_, err := to.Write(append(framed, message...))
	return err
}

func readMessage(from io.Reader, limit int) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(length[:]))
	if size > limit {
		return nil, errors.New("the message is too long")
	}
	message := make([]byte, size)
	_, err := io.ReadFull(from, message)
	return message, err
}
