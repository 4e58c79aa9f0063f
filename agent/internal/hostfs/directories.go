package hostfs

import (
	"encoding/binary"
	"sync"
	"syscall"

	"smolvm.dev/agent/internal/fuse"
)

const (
	// listBytes is how much of a directory is read at once.
	listBytes = 32 << 10
	// unknownInode stands for that of `..`, which may be outside.
	unknownInode = 0xffffffff
	direntHeader = 19 // of struct linux_dirent64
	entryUnknown = 0  // DT_UNKNOWN
)

// listing is a directory that is being read.
type listing struct {
	memory *Budget // pays for buffer
	mu     sync.Mutex
	next   uint64 // where reading goes on behind what is pending
	at     uint64 // the offset of the first pending entry
	buffer []byte
	ahead  []byte // pending entries in buffer
}

// Opendir implements fuse.FileSystem.
func (r *Root) Opendir(id uint64) (uint64, error) {
	n, place, err := r.reach(id)
	if err != nil {
		return 0, err
	}
	defer syscall.Close(place)
	fd, err := reopen(place, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK)
	if err != nil {
		return 0, err
	}
	return r.handles.add(r.tree, &handle{node: n, fd: fd, list: &listing{memory: r.tree.memory}})
}

// Releasedir implements fuse.FileSystem.
func (r *Root) Releasedir(id uint64) { r.handles.release(r.tree, id, true) }

// Readdir implements fuse.FileSystem. Offsets are the host file system's own.
func (r *Root) Readdir(id, offset uint64, list *fuse.DirectoryList) error {
	h, err := r.handles.use(id, true)
	if err != nil {
		return err
	}
	defer r.handles.done(h)
	l := h.list
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset != l.at {
		if int64(offset) < 0 {
			return syscall.EINVAL
		}
		if _, err := syscall.Seek(h.fd, int64(offset), 0); err != nil {
			return err
		}
		l.ahead, l.at = nil, offset
	}
	for {
		if len(l.ahead) == 0 {
			if more, err := l.fill(h.fd); !more {
				return err
			}
		}
		name, inode, behind, kind, size := parseEntry(l.ahead)
		if size == 0 {
			l.ahead = nil
			return syscall.EIO
		}
		if !list.Fits(name) {
			return nil
		}
		r.addEntry(h, list, dirEntry{name, inode, behind, kind})
		l.ahead = l.ahead[size:]
		l.at = behind
	}
}

func (l *listing) fill(fd int) (more bool, err error) {
	if l.buffer == nil {
		if !l.memory.take(listBytes) {
			return false, syscall.ENOMEM
		}
		l.buffer = make([]byte, listBytes)
	}
	for {
		n, err := syscall.ReadDirent(fd, l.buffer)
		if err == syscall.EINTR {
			continue
		}
		l.ahead = l.buffer[:max0(n)]
		if n <= 0 {
			l.free() // Many directories may stay open that have been read.
		}
		return n > 0, err
	}
}

// free gives the buffer back. Nobody else may use the listing.
func (l *listing) free() {
	if l.buffer != nil {
		l.buffer, l.ahead = nil, nil
		l.memory.give(listBytes)
	}
}

type dirEntry struct {
	name          string
	inode, offset uint64
	kind          uint8
}

// parseEntry reads a struct linux_dirent64; its size is 0 where there is none.
func parseEntry(p []byte) (name string, inode, offset uint64, kind uint8, size int) {
	if len(p) < direntHeader {
		return
	}
	size = int(binary.LittleEndian.Uint16(p[16:]))
	if size < direntHeader || size > len(p) {
		return "", 0, 0, 0, 0
	}
	text := p[direntHeader:size]
	for i, b := range text {
		if b == 0 {
			text = text[:i]
			break
		}
	}
	return string(text), binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:]), p[18], size
}

func (r *Root) addEntry(h *handle, list *fuse.DirectoryList, e dirEntry) {
	if e.name == "." || e.name == ".." {
		if e.name == ".." {
			e.inode = unknownInode
		}
		list.Add(e.name, e.inode, e.offset, e.kind, nil)
		return
	}
	if fuse.CheckName(e.name) != nil {
		return // of no use to the guest, which could not ask for it
	}
	if !list.Plus {
		list.Add(e.name, e.inode, e.offset, e.kind, nil)
		return
	}
	entry := r.entryOf(h, e.name)
	list.Add(e.name, e.inode, e.offset, e.kind, entry)
}

// entryOf is nil where the guest had better ask itself.
func (r *Root) entryOf(h *handle, name string) *fuse.Entry {
	r.tree.names.RLock()
	defer r.tree.names.RUnlock()
	r.tree.mu.Lock()
	gone := h.node.gone
	r.tree.mu.Unlock()
	if gone {
		return nil
	}
	stat, err := statAt(h.fd, name)
	if err != nil {
		return nil
	}
	r.tree.mu.Lock()
	device := h.node.device
	r.tree.mu.Unlock()
	if stat.Dev != device {
		return nil // another file system is mounted there
	}
	entry, err := r.enter(h.node, name, stat)
	if err != nil {
		return nil
	}
	return &entry
}
