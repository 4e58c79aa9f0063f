package files

import (
	"encoding/binary"
	"io"
	"syscall"

	"smolvm.dev/agent/internal/frame"
)

func (s *sender) file(dir int, name string) error {
	fd, err := openat(dir, name, fileFlags, 0)
	if err == syscall.EPERM {
		fd, err = openat(dir, name, fileFlags&^syscall.O_NOATIME, 0) // a file system that knows no root
	}
	if err != nil {
		return s.changed(err)
	}
	defer syscall.Close(fd)
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return err
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return s.leftOut(typeOf(stat.Mode))
	}
	if stat.Size > smallFile || stat.Blocks*512 < stat.Size && hasHole(fd, stat.Size) {
		return s.large(fd, &stat)
	}
	return s.small(fd, &stat)
}

// small sends a file in one piece, with the size that it turns out to have.
func (s *sender) small(fd int, stat *syscall.Stat_t) error {
	most := int(stat.Size)
	if most == 0 {
		most = probeSize
	}
	start, err := s.head(recordFile, fixedFields+most)
	if err != nil {
		return err
	}
	s.attributes(stat)
	s.out = frame.AppendU64(s.out, treeSize, 0)
	size := s.out[len(s.out)-8:]
	s.close(start)
	start = s.open(recordContent)
	s.out = append(s.out, make([]byte, contentHead)...)
	content := s.out[len(s.out) : len(s.out)+most]
	n, err := readFull(fd, content, 0)
	if stat.Size == 0 && err == syscall.EAGAIN {
		err = nil // a file of /proc that would have to be waited for
	}
	if err == nil && stat.Size == 0 && n == len(content) {
		return s.unsized(fd, content, size)
	}
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint64(size, uint64(n))
	if n == 0 {
		s.out = s.out[:start-recordHead]
		s.records--
		return nil
	}
	s.out = s.out[:len(s.out)+n]
	s.close(start)
	return nil
}

// unsized sends a file that does not know its size. The record of its content is begun, its first part is read.
func (s *sender) unsized(fd int, first, size []byte) error {
	all := append(make([]byte, 0, chunkSize), first...)
	for {
		if len(all) == cap(all) {
			if len(all) >= maxUnsized {
				return syscall.EFBIG
			}
			all = append(all, 0)[:len(all)]
		}
		n, err := readFull(fd, all[len(all):cap(all)], int64(len(all)))
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		all = all[:len(all)+n]
	}
	binary.BigEndian.PutUint64(size, uint64(len(all)))
	s.out = s.out[:len(s.out)-recordHead-contentHead]
	s.records--
	for at := 0; at < len(all); at += maxContent {
		end := at + maxContent
		if end > len(all) {
			end = len(all)
		}
		head := contentHeader(int64(at), end-at)
		s.records++
		if _, err := s.x.Write(append(s.out, head[:]...)); err != nil {
			return err
		}
		s.out = s.out[:0]
		if _, err := s.x.Write(all[at:end]); err != nil {
			return err
		}
	}
	return nil
}

func contentHeader(offset int64, length int) (head [recordHead + contentHead]byte) {
	head[0] = recordContent
	binary.BigEndian.PutUint32(head[1:], uint32(contentHead+length))
	binary.BigEndian.PutUint64(head[recordHead:], uint64(offset))
	return head
}

// readFull reads until the buffer is full or the file ends.
func readFull(fd int, p []byte, offset int64) (int, error) {
	read := 0
	for read < len(p) {
		n := 0
		err := again(func() (err error) {
			n, err = syscall.Pread(fd, p[read:], offset+int64(read))
			return err
		})
		if err != nil {
			return read, err
		}
		if n == 0 {
			break
		}
		read += n
	}
	return read, nil
}

// large sends a file extent by extent. Its content goes from the file to the frames without a stop in between.
func (s *sender) large(fd int, stat *syscall.Stat_t) error {
	start, err := s.head(recordFile, 0)
	if err != nil {
		return err
	}
	s.attributes(stat)
	s.out = frame.AppendU64(s.out, treeSize, uint64(stat.Size))
	s.close(start)
	c := &contents{sender: s, fd: fd, size: stat.Size, head: s.out}
	_, err = s.x.ReadFrom(c)
	s.out = s.out[:0]
	return err
}

// contents reads as the records of a file's content, after what comes before them.
type contents struct {
	sender       *sender
	fd           int
	size         int64 // as it was said: a file that shrinks ends with a hole, what it grows is cut off
	at, end      int64 // of the extent
	left         int   // of the record
	head         []byte
	header       [recordHead + contentHead]byte
	cut, unknown bool // the file has shrunk; the file system does not tell of holes
}

func (c *contents) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		switch {
		case len(c.head) > 0:
			copied := copy(p[n:], c.head)
			c.head = c.head[copied:]
			n += copied
		case c.left > 0:
			piece := p[n:]
			if len(piece) > c.left {
				piece = piece[:c.left]
			}
			read, err := readFull(c.fd, piece, c.at)
			if err != nil {
				return 0, err
			}
			if read < len(piece) {
				// The record's length is said already.
				c.cut = true
				for i := range piece[read:] {
					piece[read+i] = 0
				}
			}
			c.at += int64(len(piece))
			c.left -= len(piece)
			n += len(piece)
		default:
			more, err := c.next()
			if err != nil {
				return 0, err
			}
			if !more {
				return n, io.EOF
			}
		}
	}
	return n, nil
}

// next begins the next record, if there is any.
func (c *contents) next() (bool, error) {
	if c.cut {
		return false, nil
	}
	if c.at >= c.end {
		var err error
		if c.at, c.end, err = c.extent(c.end); err != nil || c.at >= c.end {
			return false, err
		}
	}
	c.left = maxContent
	if c.end-c.at < maxContent {
		c.left = int(c.end - c.at)
	}
	c.header = contentHeader(c.at, c.left)
	c.head = c.header[:]
	c.sender.records++
	return true, nil
}

// extent finds the next data at or after an offset; nothing if there is none.
func (c *contents) extent(from int64) (start, end int64, err error) {
	if from >= c.size || c.unknown {
		return c.size, c.size, nil
	}
	start, err = syscall.Seek(c.fd, from, seekData)
	if err == nil {
		end, err = syscall.Seek(c.fd, start, seekHole)
	}
	switch err {
	case nil:
	case syscall.ENXIO: // only a hole up to the end
		return c.size, c.size, nil
	case syscall.EINVAL:
		c.unknown = true
		return from, c.size, nil
	default:
		return 0, 0, err
	}
	if end > c.size {
		end = c.size
	}
	return start, end, nil
}

// hasHole tells whether the file system knows of a hole in a file.
func hasHole(fd int, size int64) bool {
	end, err := syscall.Seek(fd, 0, seekHole)
	return err == nil && end < size || err == syscall.ENXIO
}
