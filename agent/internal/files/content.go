package files

import (
	"io"
	"os"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/session"
)

// Flags of fs.write.
const (
	flagAppend = 1 << iota
	flagMustNotExist
	flagMustExist
	flagKeepContent
)

const defaultFileMode = 0666

// alwaysFlags: no descriptor is inherited by a command, no terminal becomes the agent's own, and neither opening nor
// reading a pipe or device holds a thread.
const alwaysFlags = syscall.O_CLOEXEC | syscall.O_NOCTTY | syscall.O_NONBLOCK

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// content is an open file of any kind whose reading and writing ends with its exchange.
type content struct {
	fd   int
	fifo bool
	file *os.File        // of what may have to be waited for: a pipe, a terminal, some devices; else nil
	raw  syscall.RawConn // of file
	done chan struct{}
}

func openContent(x exchange, path string, flags int, mode uint32) (*content, error) {
	fd, err := openat(atCwd, path, flags|alwaysFlags, mode)
	if err != nil {
		return nil, err
	}
	c := &content{fd: fd}
	var s syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		c.close()
		return nil, err
	}
	switch s.Mode & syscall.S_IFMT {
	case syscall.S_IFREG, syscall.S_IFDIR, syscall.S_IFBLK:
		return c, nil
	case syscall.S_IFIFO:
		c.fifo = true
	}
	c.file = os.NewFile(uintptr(fd), path)
	if c.file.SetDeadline(time.Time{}) != nil {
		return c, nil // nothing to wait for: it is always ready
	}
	if c.raw, err = c.file.SyscallConn(); err != nil {
		c.close()
		return nil, err
	}
	c.done = make(chan struct{})
	go func() {
		select {
		case <-x.Cancelled():
			_ = c.file.SetDeadline(past)
		case <-c.done:
		}
	}()
	return c, nil
}

func (c *content) close() {
	if c.done != nil {
		close(c.done)
	}
	if c.file != nil {
		_ = c.file.Close()
		return
	}
	_ = syscall.Close(c.fd)
}

func (c *content) seek(offset uint64) error {
	if offset == 0 {
		return nil
	}
	if offset > maxFileOffset {
		return syscall.EINVAL
	}
	_, err := syscall.Seek(c.fd, int64(offset), io.SeekStart)
	return err
}

func (c *content) Read(p []byte) (n int, err error) {
	if c.raw == nil {
		err = again(func() (err error) {
			n, err = syscall.Read(c.fd, p)
			return err
		})
	} else {
		waitErr := c.raw.Read(func(fd uintptr) bool {
			err = again(func() (err error) {
				n, err = syscall.Read(int(fd), p)
				return err
			})
			// A pipe that nobody has opened for writing yet reads as if it had ended.
			return err != syscall.EAGAIN && (err != nil || n != 0 || !c.fifo || hungUp(int(fd)))
		})
		if waitErr != nil {
			return 0, session.ErrCancelled
		}
	}
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (c *content) Write(p []byte) (int, error) {
	for written := 0; written < len(p); {
		n, err := c.writeOnce(p[written:])
		if err != nil {
			return written, err
		}
		if n == 0 {
			return written, syscall.EIO
		}
		written += n
	}
	return len(p), nil
}

func (c *content) writeOnce(p []byte) (n int, err error) {
	write := func(fd uintptr) bool {
		err = again(func() (err error) {
			n, err = syscall.Write(int(fd), p)
			return err
		})
		return err != syscall.EAGAIN
	}
	if c.raw == nil {
		write(uintptr(c.fd))
	} else if c.raw.Write(write) != nil {
		return 0, session.ErrCancelled
	}
	return n, err
}

// limited ends a content after so many bytes; unlike io.LimitedReader it takes all that fit a u64.
type limited struct {
	from io.Reader
	left uint64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	if uint64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.from.Read(p)
	l.left -= uint64(n)
	return n, err
}

// read is fs.read.
func read(r *request, x exchange) ([]byte, error) {
	c, err := openContent(x, r.path, syscall.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.seek(r.offset); err != nil {
		return nil, err
	}
	_, err = x.ReadFrom(&limited{from: c, left: r.length})
	return nil, err
}

// write is fs.write.
func write(r *request, x exchange) ([]byte, error) {
	flags := syscall.O_WRONLY
	if r.flags&flagAppend != 0 {
		flags |= syscall.O_APPEND
	}
	if r.flags&flagMustExist == 0 {
		flags |= syscall.O_CREAT
	}
	if r.flags&flagMustNotExist != 0 {
		flags |= syscall.O_CREAT | syscall.O_EXCL
	}
	if r.flags&flagKeepContent == 0 && r.flags&flagAppend == 0 {
		flags |= syscall.O_TRUNC
	}
	mode := uint32(defaultFileMode)
	if r.mode != noMode {
		mode = r.mode & modeBits
	}
	c, err := openContent(x, r.path, flags, mode)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if r.flags&flagAppend == 0 {
		if err := c.seek(r.offset); err != nil {
			return nil, err
		}
	}
	buffer := inputs.Get().(*[inputSize]byte)
	defer inputs.Put(buffer)
	written := uint64(0)
	for {
		n, readErr := x.Read(buffer[:])
		if n > 0 {
			if _, err := c.Write(buffer[:n]); err != nil {
				return nil, err
			}
			written += uint64(n)
		}
		if readErr == io.EOF {
			return frame.AppendU64(nil, tagWritten, written), nil
		}
		if readErr != nil {
			return nil, readErr
		}
	}
}
