package files

import (
	"encoding/binary"
	"syscall"

	"smolvm.dev/agent/internal/frame"
)

const (
	// smallFile is the most bytes of a file that goes into one frame with others.
	smallFile = 16 << 10
	// fixedFields is more than the fields of a record take but for its path and target, in bytes.
	fixedFields = 64
	// fileFlags open a file to be read: not what a link points at, waiting for nobody, and without a write to its inode.
	fileFlags = syscall.O_RDONLY | syscall.O_NOFOLLOW | syscall.O_NOATIME | alwaysFlags
	// probeSize is what is read of a file whose size is said to be 0, to see whether it is, in bytes.
	probeSize = 256
	// maxUnsized bounds a file whose size is said to be 0 but which has content, such as those of /proc, in bytes.
	maxUnsized = 8 << 20
)

// sender writes a tree to an exchange. Records gather in out until it is full.
type sender struct {
	x       exchange
	out     []byte
	path    []byte // of what is being sent
	records uint64
	target  [maxPath + 1]byte
}

// send is fs.send.
func send(r *request, x exchange) ([]byte, error) {
	chunk := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(chunk)
	s := &sender{x: x, out: chunk[:0]}
	var root syscall.Stat_t
	if err := fstatat(atCwd, r.path, &root, atSymlinkNofoll); err != nil {
		return nil, err
	}
	if err := s.entry(atCwd, r.path, typeOf(root.Mode)); err != nil {
		return nil, err
	}
	if s.records == 0 {
		return nil, syscall.ENOENT // it was removed a moment ago
	}
	if err := s.room(fixedFields); err != nil {
		return nil, err
	}
	count := s.records
	start := s.open(recordEnd)
	s.out = frame.AppendU64(s.out, treeRecords, count)
	s.close(start)
	return nil, s.flush()
}

func (s *sender) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	_, err := s.x.Write(s.out)
	s.out = s.out[:0]
	return err
}

// room makes sure that n more bytes fit.
func (s *sender) room(n int) error {
	if cap(s.out)-len(s.out) >= n {
		return nil
	}
	return s.flush()
}

// open begins a record; close, with what open returned, ends it.
func (s *sender) open(kind uint8) int {
	s.records++
	s.out = append(s.out, kind, 0, 0, 0, 0)
	return len(s.out)
}

func (s *sender) close(start int) {
	binary.BigEndian.PutUint32(s.out[start-4:], uint32(len(s.out)-start))
}

// head begins a record that says what there is at the current path.
func (s *sender) head(kind uint8, more int) (int, error) {
	if err := s.room(fixedFields + len(s.path) + more); err != nil {
		return 0, err
	}
	start := s.open(kind)
	s.out = frame.AppendBytes(s.out, treePath, s.path)
	return start, nil
}

func (s *sender) attributes(stat *syscall.Stat_t) {
	s.out = frame.AppendU32(s.out, treeMode, stat.Mode&permissionBits)
	s.out = frame.AppendU64(s.out, treeMtime, uint64(stat.Mtim.Nano()))
}

func (s *sender) leftOut(kind uint8) error {
	start, err := s.head(recordLeftOut, 0)
	if err == nil {
		s.out = frame.AppendBytes(s.out, treeType, []byte{kind})
		s.close(start)
	}
	return err
}

// entry sends what has this name. Others may change it at any time.
func (s *sender) entry(dir int, name string, kind uint8) error {
	switch kind {
	case typeDirectory:
		return s.directory(dir, name)
	case typeFile:
		return s.file(dir, name)
	case typeLink:
		return s.link(dir, name)
	}
	return s.leftOut(kind)
}

// changed takes an error of opening what had this name a moment ago: what is gone by now is passed over.
func (s *sender) changed(err error) error {
	switch err {
	case syscall.ENOENT:
		return nil
	case syscall.ELOOP, syscall.ENOTDIR, syscall.ENXIO, syscall.EINVAL: // a link, no directory, a socket, no link
		return s.leftOut(typeUnknown)
	}
	return err
}

func (s *sender) link(dir int, name string) error {
	n, err := readlinkat(dir, name, s.target[:])
	if err != nil {
		return s.changed(err)
	}
	target := s.target[:n]
	if !staysInside(s.path, target) {
		return s.leftOut(typeLink)
	}
	var stat syscall.Stat_t
	if err := fstatat(dir, name, &stat, atSymlinkNofoll); err != nil {
		return s.changed(err)
	}
	start, err := s.head(recordLink, n)
	if err != nil {
		return err
	}
	s.out = frame.AppendU64(s.out, treeMtime, uint64(stat.Mtim.Nano()))
	s.out = frame.AppendBytes(s.out, treeTarget, target)
	s.close(start)
	return nil
}

func (s *sender) directory(parent int, name string) error {
	fd, err := openat(parent, name, directoryFlags, 0)
	if err != nil {
		return s.changed(err)
	}
	defer syscall.Close(fd)
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return err
	}
	start, err := s.head(recordDirectory, 0)
	if err != nil {
		return err
	}
	s.attributes(&stat)
	s.close(start)
	d := newDirectory(fd)
	defer d.release()
	above := len(s.path)
	for {
		entry, kind, err := d.next()
		if err != nil || len(entry) == 0 {
			return err
		}
		if above > 0 {
			s.path = append(s.path, '/')
		}
		s.path = append(s.path, entry...)
		if len(s.path) > maxPath || len(entry) > maxName {
			return syscall.ENAMETOOLONG
		}
		if err := s.entry(fd, string(entry), kind); err != nil {
			return err
		}
		s.path = s.path[:above]
	}
}
