// Package netlink asks the kernel by netlink, and hears what it tells to groups: as much of it as the packet filter,
// connection tracking and the switch of a device need.
package netlink

import (
	"encoding/binary"
	"errors"
	"syscall"
	"time"
)

const (
	attributeHeader = 4 // struct nlattr
	attributeMask   = 0x3fff
	// Nested marks an attribute that holds others (NLA_F_NESTED).
	Nested          = 0x8000
	errorNumber     = 4    // what an answer of the kernel begins with, in bytes
	dumpInterrupted = 0x10 // NLM_F_DUMP_INTR: what was listed changed meanwhile
	soRcvbufForce   = 33   // SO_RCVBUFFORCE
	// receiveBytes is the longest message taken: the kernel gives no more than this at once.
	receiveBytes = 64 << 10
	// answerLimit is how long the kernel may take to answer.
	answerLimit = 2 * time.Second
)

// ErrInterrupted says that what was listed changed meanwhile: ask again.
var ErrInterrupted = errors.New("it changed while it was read")

var errShort = errors.New("short message from the kernel")

// Native is the byte order of netlink's own fields: that of amd64 and arm64, the architectures this is built for.
var Native = binary.LittleEndian

// Socket is one to the kernel.
type Socket struct {
	fd     int
	next   uint32
	buffer []byte
}

// Open makes a socket that hears these groups (a mask).
func Open(protocol int, groups uint32) (*Socket, error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, err
	}
	limit := syscall.NsecToTimeval(int64(answerLimit))
	_ = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit)
	address := &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK, Groups: groups}
	if err := syscall.Bind(fd, address); err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return &Socket{fd: fd, buffer: make([]byte, receiveBytes)}, nil
}

// Descriptor becomes readable when there is something to Receive.
func (s *Socket) Descriptor() int { return s.fd }

// Hold sets how much may wait to be received, in bytes, where CAP_NET_ADMIN is held.
func (s *Socket) Hold(bytes int) {
	_ = syscall.SetsockoptInt(s.fd, syscall.SOL_SOCKET, soRcvbufForce, bytes)
}

// Close lets go of it.
func (s *Socket) Close() error { return syscall.Close(s.fd) }

// Send sends whole messages.
func (s *Socket) Send(messages []byte) error {
	return syscall.Sendto(s.fd, messages, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK})
}

// Pending returns what waits; none when nothing does. It is valid until the next call. syscall.ENOBUFS says that some was
// lost.
func (s *Socket) Pending() ([]syscall.NetlinkMessage, error) {
	messages, err := s.receive(syscall.MSG_DONTWAIT)
	if err == syscall.EAGAIN {
		return nil, nil
	}
	return messages, err
}

func (s *Socket) receive(flags int) ([]syscall.NetlinkMessage, error) {
	for {
		n, from, err := syscall.Recvfrom(s.fd, s.buffer, flags)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if IsKernel(from) {
			return syscall.ParseNetlinkMessage(s.buffer[:n])
		}
	}
}

// Ask sends one request and hands each message of the answer to take, which may be nil.
func (s *Socket) Ask(kind, flags uint16, body []byte, take func(syscall.NetlinkMessage)) error {
	s.next++
	request := Message(kind, flags|syscall.NLM_F_REQUEST|syscall.NLM_F_ACK, s.next, body)
	if err := s.Send(request); err != nil {
		return err
	}
	var interrupted error
	for {
		messages, err := s.receive(0)
		if err != nil {
			return err
		}
		for _, message := range messages {
			if message.Header.Seq != s.next {
				continue // Of an earlier request, whose answer took too long.
			}
			if message.Header.Flags&dumpInterrupted != 0 {
				interrupted = ErrInterrupted
			}
			if done, err := Answer(message); done {
				if err == nil {
					err = interrupted
				}
				return err
			}
			if take != nil {
				take(message)
			}
		}
	}
}

// Answer tells whether a message is the end of an answer, and what it says.
func Answer(message syscall.NetlinkMessage) (done bool, err error) {
	if message.Header.Type != syscall.NLMSG_ERROR && message.Header.Type != syscall.NLMSG_DONE {
		return false, nil
	}
	if len(message.Data) < errorNumber {
		return true, errShort
	}
	if number := int32(Native.Uint32(message.Data)); number != 0 {
		return true, syscall.Errno(-number)
	}
	return true, nil
}

// IsKernel tells whether the kernel is the sender: everybody may send to a netlink socket.
func IsKernel(from syscall.Sockaddr) bool {
	sender, ok := from.(*syscall.SockaddrNetlink)
	return ok && sender.Pid == 0
}

// Message puts a header before a body.
func Message(kind, flags uint16, sequence uint32, body []byte) []byte {
	message := make([]byte, syscall.SizeofNlMsghdr, syscall.SizeofNlMsghdr+len(body))
	Native.PutUint32(message, uint32(syscall.SizeofNlMsghdr+len(body)))
	Native.PutUint16(message[4:], kind)
	Native.PutUint16(message[6:], flags)
	Native.PutUint32(message[8:], sequence)
	return append(message, body...)
}

// AppendAttribute appends one, padded.
func AppendAttribute(to []byte, kind uint16, value []byte) []byte {
	var header [attributeHeader]byte
	Native.PutUint16(header[:], uint16(attributeHeader+len(value)))
	Native.PutUint16(header[2:], kind)
	to = append(append(to, header[:]...), value...)
	return append(to, make([]byte, aligned(len(value))-len(value))...)
}

// Attributes hands each of a row of attributes to take, without flags in its kind. What does not parse is left out.
func Attributes(data []byte, take func(kind uint16, value []byte)) {
	for len(data) >= attributeHeader {
		size := int(Native.Uint16(data))
		if size < attributeHeader || size > len(data) {
			return
		}
		take(Native.Uint16(data[2:])&attributeMask, data[attributeHeader:size])
		if size = aligned(size); size > len(data) {
			return
		}
		data = data[size:]
	}
}

// Attribute finds the first of a kind; nil when there is none.
func Attribute(data []byte, wanted uint16) (found []byte) {
	Attributes(data, func(kind uint16, value []byte) {
		if kind == wanted && found == nil {
			found = value
		}
	})
	return found
}

// Text reads a text up to its NUL.
func Text(value []byte) string {
	for i, c := range value {
		if c == 0 {
			return string(value[:i])
		}
	}
	return string(value)
}

// aligned rounds up to netlink's alignment.
func aligned(size int) int { return (size + syscall.NLMSG_ALIGNTO - 1) &^ (syscall.NLMSG_ALIGNTO - 1) }
