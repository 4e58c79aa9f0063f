package fuse

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

const (
	// concurrency is how many requests are worked on at once; each holds buffers of up to twice MaxMessage.
	concurrency = 8
	// background and congestion are how many requests that nobody waits for the guest may have on the way.
	background = 32
	congestion = 24
	// maxReadahead is in bytes.
	maxReadahead = 1 << 20
	pageSize     = 4096
	// openKeepCache is FOPEN_KEEP_CACHE.
	openKeepCache = 2
	// getattrHandle is FUSE_GETATTR_FH.
	getattrHandle = 1
	// fsyncDataOnly is FUSE_FSYNC_FDATASYNC.
	fsyncDataOnly = 1
	// openWrites are the flags of open(2) with which a file can change.
	openWrites = syscall.O_WRONLY | syscall.O_RDWR | syscall.O_TRUNC
)

// ErrProtocol is a message that no kernel sends.
var ErrProtocol = errors.New("not the FUSE protocol")

// Server serves one connection of a kernel.
type Server struct {
	FS FileSystem
	// ReadOnly refuses whatever would change something, whatever the guest's kernel believes.
	ReadOnly bool

	out    io.Writer
	write  sync.Mutex
	failed error
	ready  bool // INIT was answered
}

var messages = sync.Pool{New: func() interface{} { return new([MaxMessage]byte) }}

// Serve answers requests until reading ends or a message is not of the protocol. Requests that are being worked on
// are finished first.
func (s *Server) Serve(in io.Reader, out io.Writer) error {
	s.out = out
	slots := make(chan struct{}, concurrency)
	defer func() {
		for i := 0; i < concurrency; i++ {
			slots <- struct{}{}
		}
	}()
	for {
		slots <- struct{}{}
		buffer := messages.Get().(*[MaxMessage]byte)
		done := func() {
			messages.Put(buffer)
			<-slots
		}
		h, body, err := receive(in, buffer)
		if err != nil {
			done()
			return err
		}
		switch h.op {
		case opForget, opBatchForget:
			err = s.forget(h, body)
			done()
		case opInit:
			err = s.init(h, body)
			done()
		default:
			if !s.ready {
				done()
				return ErrProtocol
			}
			go func() {
				defer done()
				s.answer(h, body)
			}()
		}
		if err != nil {
			return err
		}
	}
}

func receive(in io.Reader, buffer *[MaxMessage]byte) (h header, body []byte, err error) {
	if _, err = io.ReadFull(in, buffer[:RequestHeaderSize]); err != nil {
		return h, nil, err
	}
	h = parseHeader(buffer[:])
	if h.length < RequestHeaderSize || h.length > MaxMessage {
		return h, nil, ErrProtocol
	}
	body = buffer[RequestHeaderSize:h.length]
	_, err = io.ReadFull(in, body)
	return h, body, err
}

// forget: these two get no answer.
func (s *Server) forget(h header, body []byte) error {
	a := arguments{p: body}
	if h.op == opForget {
		n := a.u64()
		if a.short {
			return ErrProtocol
		}
		s.FS.Forget(h.node, n)
		return nil
	}
	count := a.u32()
	a.skip(4)
	for ; count > 0; count-- {
		node, n := a.u64(), a.u64()
		if a.short {
			return ErrProtocol
		}
		s.FS.Forget(node, n)
	}
	return nil
}

func (s *Server) init(h header, body []byte) error {
	a := arguments{p: body}
	major, minor, readahead, flags := a.u32(), a.u32(), a.u32(), a.u32()
	if a.short || s.ready || major < protocolMajor || (major == protocolMajor && minor < protocolMinorMin) {
		s.send(h.unique, syscall.EPROTO, make([]byte, AnswerHeaderSize))
		return ErrProtocol
	}
	p := make([]byte, AnswerHeaderSize, 128)
	if major > protocolMajor {
		// The kernel asks again in our version.
		return s.send(h.unique, 0, appendU32(appendU32(p, protocolMajor), protocolMinor))
	}
	s.ready = true
	if minor > protocolMinor {
		minor = protocolMinor
	}
	if readahead > maxReadahead {
		readahead = maxReadahead
	}
	for _, v := range [...]uint32{protocolMajor, minor, readahead, flags & initWanted,
		background | congestion<<16, MaxTransfer, 1, MaxTransfer / pageSize, 0, 0, 0, 0, 0, 0, 0, 0} {
		p = appendU32(p, v)
	}
	return s.send(h.unique, 0, p)
}

// answer works on one request.
func (s *Server) answer(h header, body []byte) {
	buffer := messages.Get().(*[MaxMessage]byte)
	defer messages.Put(buffer)
	p, err := s.perform(h, &arguments{p: body}, buffer[:AnswerHeaderSize])
	errno := syscall.Errno(0)
	if err != nil {
		p = buffer[:AnswerHeaderSize]
		if !errors.As(err, &errno) || errno == 0 || errno >= maxErrno {
			errno = syscall.EIO
		}
	}
	_ = s.send(h.unique, errno, p)
}

// maxErrno: the kernel takes no error above 511 from a server (fuse_dev_do_write).
const maxErrno = 512

func (s *Server) send(unique uint64, errno syscall.Errno, p []byte) error {
	putAnswerHeader(p, unique, errno)
	return s.put(p)
}

// expire makes the guest ask anew for the attributes of a node.
func (s *Server) expire(node uint64) {
	const noContent = ^uint64(0) // an offset below zero: what is cached of the content stays
	p := appendU64(appendU64(appendU64(make([]byte, AnswerHeaderSize), node), noContent), 0)
	native.PutUint32(p, uint32(len(p)))
	native.PutUint32(p[4:], notifyInvalidInode)
	_ = s.put(p)
}

// notifyInvalidInode is FUSE_NOTIFY_INVAL_INODE: a message that answers nothing has its code in place of an error.
const notifyInvalidInode = 2

func (s *Server) put(p []byte) error {
	s.write.Lock()
	defer s.write.Unlock()
	if s.failed == nil {
		// A message cut short would put all that follows out of step.
		_, s.failed = s.out.Write(p)
	}
	return s.failed
}
