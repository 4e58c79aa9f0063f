package files

import (
	"bytes"
	"encoding/binary"
	"sync"
	"syscall"

	"smolvm.dev/agent/internal/frame"
)

const (
	// chunkSize is what goes into one frame of an exchange, in bytes; see maxChunk in package session.
	chunkSize = 32<<10 - frame.HeaderSize
	// entriesSize is the buffer for a directory's entries, in bytes: some hundred of them.
	entriesSize = 16 << 10
	// entryHead is what comes before the name in a linux_dirent64 (getdents64(2)), in bytes.
	entryHead = 19
	// longestEntry is an entry with a name of 255 bytes, as fs.readdir sends it; a FUSE file system may have 1024.
	longestEntry = 3 + 1024
)

var (
	chunks  = sync.Pool{New: func() interface{} { return new([chunkSize]byte) }}
	entries = sync.Pool{New: func() interface{} { return new([entriesSize]byte) }}
)

// directory reads the names in an open directory, in the order of the file system.
type directory struct {
	fd     int
	buffer *[entriesSize]byte
	left   []byte
}

func newDirectory(fd int) *directory {
	return &directory{fd: fd, buffer: entries.Get().(*[entriesSize]byte)}
}

// release gives the buffer back; the descriptor is the caller's.
func (d *directory) release() {
	entries.Put(d.buffer)
	d.buffer, d.left = nil, nil
}

func (d *directory) rewind() error {
	d.left = nil
	_, err := syscall.Seek(d.fd, 0, 0)
	return err
}

// next returns a name and its type, which stays valid until the call after this one; an empty name is the end.
func (d *directory) next() (name []byte, kind uint8, err error) {
	for {
		if len(d.left) == 0 {
			n := 0
			err := again(func() (err error) {
				n, err = syscall.ReadDirent(d.fd, d.buffer[:])
				return err
			})
			if err == syscall.ENOENT {
				return nil, 0, nil // it was removed while it was read
			}
			if err != nil || n <= 0 {
				return nil, 0, err
			}
			d.left = d.buffer[:n]
		}
		size := int(binary.LittleEndian.Uint16(d.left[16:]))
		entry := d.left[:size]
		d.left = d.left[size:]
		name, kind = entry[entryHead:], entry[entryHead-1]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		if len(name) == 0 || name[0] == '.' && (len(name) == 1 || len(name) == 2 && name[1] == '.') {
			continue
		}
		if kind == typeUnknown {
			var s syscall.Stat_t
			if err := fstatat(d.fd, string(name), &s, atSymlinkNofoll); err == nil {
				kind = typeOf(s.Mode)
			}
		}
		return name, kind, nil
	}
}

// typeOf is the DT_* of a mode (IFTODT in dirent.h).
func typeOf(mode uint32) uint8 { return uint8(mode & syscall.S_IFMT >> 12) }

// readDirectory is fs.readdir.
func readDirectory(r *request, x exchange) ([]byte, error) {
	fd, err := openat(atCwd, r.path, directoryFlags&^syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	d := newDirectory(fd)
	defer d.release()
	chunk := chunks.Get().(*[chunkSize]byte)
	defer chunks.Put(chunk)
	out := chunk[:0]
	for {
		name, kind, err := d.next()
		if err != nil {
			return nil, err
		}
		if len(name) == 0 || len(out) > chunkSize-longestEntry {
			if len(out) > 0 {
				if _, err := x.Write(out); err != nil {
					return nil, err
				}
			}
			out = out[:0]
		}
		if len(name) == 0 {
			return nil, nil
		}
		out = append(out, kind, byte(len(name)>>8), byte(len(name)))
		out = append(out, name...)
	}
}
