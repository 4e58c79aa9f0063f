package guest

import (
	"encoding/binary"
	"syscall"
)

// netlink speaks the little of rtnetlink that is needed; package net would double the binary.
type netlink struct {
	fd       int
	sequence uint32
	buffer   []byte
}

const netlinkBuffer = 32 << 10

func openNetlink() (*netlink, error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return &netlink{fd: fd, buffer: make([]byte, netlinkBuffer)}, nil
}

// request builds the body of a message: a fixed part, then attributes.
type request struct{ body []byte }

func (r *request) attribute(kind uint16, value []byte) {
	var head [4]byte
	binary.LittleEndian.PutUint16(head[:], uint16(4+len(value)))
	binary.LittleEndian.PutUint16(head[2:], kind)
	r.body = append(append(r.body, head[:]...), value...)
	for len(r.body)%4 != 0 {
		r.body = append(r.body, 0)
	}
}

func (r *request) attributeU32(kind uint16, value uint32) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], value)
	r.attribute(kind, b[:])
}

// do sends a message and waits for its acknowledgement.
func (n *netlink) do(kind, flags uint16, r *request) error {
	return n.exchange(kind, flags|syscall.NLM_F_ACK, r, nil)
}

// dump asks for a list and visits each of its messages.
func (n *netlink) dump(kind uint16, r *request, visit func(body []byte)) error {
	return n.exchange(kind, syscall.NLM_F_DUMP, r, visit)
}

func (n *netlink) exchange(kind, flags uint16, r *request, visit func(body []byte)) error {
	n.sequence++
	message := make([]byte, syscall.NLMSG_HDRLEN, syscall.NLMSG_HDRLEN+len(r.body))
	binary.LittleEndian.PutUint32(message, uint32(syscall.NLMSG_HDRLEN+len(r.body)))
	binary.LittleEndian.PutUint16(message[4:], kind)
	binary.LittleEndian.PutUint16(message[6:], flags|syscall.NLM_F_REQUEST)
	binary.LittleEndian.PutUint32(message[8:], n.sequence)
	message = append(message, r.body...)
	if err := syscall.Sendto(n.fd, message, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return err
	}
	for {
		got, _, err := syscall.Recvfrom(n.fd, n.buffer, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if done, err := n.answer(n.buffer[:got], visit); done || err != nil {
			return err
		}
	}
}

func (n *netlink) answer(p []byte, visit func(body []byte)) (done bool, err error) {
	for len(p) >= syscall.NLMSG_HDRLEN {
		size := int(binary.LittleEndian.Uint32(p))
		if size < syscall.NLMSG_HDRLEN || size > len(p) {
			return true, syscall.EPROTO
		}
		body := p[syscall.NLMSG_HDRLEN:size]
		if binary.LittleEndian.Uint32(p[8:]) == n.sequence {
			switch binary.LittleEndian.Uint16(p[4:]) {
			case syscall.NLMSG_DONE:
				return true, nil
			case syscall.NLMSG_ERROR:
				if len(body) < 4 {
					return true, syscall.EPROTO
				}
				if code := int32(binary.LittleEndian.Uint32(body)); code != 0 {
					return true, syscall.Errno(-code)
				}
				return true, nil
			default:
				if visit != nil {
					visit(body)
				}
			}
		}
		size = (size + 3) &^ 3
		if size > len(p) {
			break
		}
		p = p[size:]
	}
	return false, nil
}
