package fuse

import "syscall"

// FileSystem does what the requests ask for. Names were checked with CheckName; node ids, handles, offsets and flags
// come from the guest as they are. Errors are syscall.Errno; anything else counts as EIO. Methods run at the same time.
type FileSystem interface {
	Lookup(parent uint64, name string) (Entry, error)
	// Forget takes back n of the times that an entry for the node was given.
	Forget(node, n uint64)
	Getattr(node uint64, handle *uint64) (Attributes, error)
	Readlink(node uint64) (string, error)
	Open(node uint64, flags uint32) (Opened, error)
	Read(handle uint64, p []byte, offset int64) (int, error)
	Seek(handle uint64, offset int64, whence uint32) (int64, error)
	Release(handle uint64)
	Opendir(node uint64) (uint64, error)
	// Readdir adds entries from the offset on, until the list has no more room.
	Readdir(handle, offset uint64, list *DirectoryList) error
	Releasedir(handle uint64)
	Statfs() (Statfs, error)

	// What follows is never called for a file system that is read-only.

	Setattr(node uint64, change *Change) (Attributes, error)
	Create(parent uint64, name string, flags, mode uint32) (Entry, Opened, error)
	// Mknod makes a regular file.
	Mknod(parent uint64, name string, mode uint32) (Entry, error)
	Mkdir(parent uint64, name string, mode uint32) (Entry, error)
	Symlink(parent uint64, name, target string) (Entry, error)
	Link(node, parent uint64, name string) (Entry, error)
	Unlink(parent uint64, name string) error
	Rmdir(parent uint64, name string) error
	Rename(from uint64, name string, to uint64, newName string, flags uint32) error
	Write(handle uint64, p []byte, offset int64) (int, error)
	Fsync(handle uint64, dataOnly bool) error
	Fallocate(handle uint64, mode uint32, offset, length int64) error
}

// Opened is a file that was opened.
type Opened struct {
	Handle uint64
	// KeepCache: what the guest has cached of the file is still right.
	KeepCache bool
}

// Change is what a SETATTR asks for; nil means that it stays as it is.
type Change struct {
	Handle       *uint64
	Mode         *uint32
	UID, GID     *uint32
	Size         *uint64
	Atime, Mtime *Time
}

// Time is a moment, or the moment in which it is set.
type Time struct {
	Now bool
	At  syscall.Timespec
}

// Statfs describes a whole file system.
type Statfs struct {
	Blocks, Free, Available, Files, FreeFiles uint64
	BlockSize, NameLength, FragmentSize       uint32
}

// Bits of setattr_in.valid.
const (
	setMode     = 1 << 0
	setUID      = 1 << 1
	setGID      = 1 << 2
	setSize     = 1 << 3
	setAtime    = 1 << 4
	setMtime    = 1 << 5
	setHandle   = 1 << 6
	setAtimeNow = 1 << 7
	setMtimeNow = 1 << 8
)

// parseChange reads setattr_in.
func parseChange(a *arguments) *Change {
	valid := a.u32()
	a.skip(4)
	handle, size := a.u64(), a.u64()
	a.skip(8) // lock owner
	atime, mtime := a.u64(), a.u64()
	a.skip(8) // ctime is the host's business
	atimeNsec, mtimeNsec := a.u32(), a.u32()
	a.skip(4)
	mode := a.u32()
	a.skip(4)
	uid, gid := a.u32(), a.u32()
	a.skip(4)
	c := &Change{}
	if valid&setHandle != 0 {
		c.Handle = &handle
	}
	if valid&setMode != 0 {
		c.Mode = &mode
	}
	if valid&setUID != 0 {
		c.UID = &uid
	}
	if valid&setGID != 0 {
		c.GID = &gid
	}
	if valid&setSize != 0 {
		c.Size = &size
	}
	if valid&(setAtime|setAtimeNow) != 0 {
		c.Atime = &Time{Now: valid&setAtimeNow != 0, At: syscall.Timespec{Sec: int64(atime), Nsec: int64(atimeNsec)}}
	}
	if valid&(setMtime|setMtimeNow) != 0 {
		c.Mtime = &Time{Now: valid&setMtimeNow != 0, At: syscall.Timespec{Sec: int64(mtime), Nsec: int64(mtimeNsec)}}
	}
	return c
}

// DirectoryList collects the entries of one answer.
type DirectoryList struct {
	// Plus: entries come with their nodes.
	Plus  bool
	p     []byte
	limit int
}

const direntSize = 24

// Fits reports room for one more entry.
func (l *DirectoryList) Fits(name string) bool {
	size := align(direntSize + len(name))
	if l.Plus {
		size += entrySize
	}
	return len(l.p)+size <= l.limit
}

// Add appends an entry, which must fit. The offset is where the next READDIR goes on behind it.
func (l *DirectoryList) Add(name string, inode, offset uint64, kind uint8, e *Entry) {
	if l.Plus {
		if e == nil {
			e = &Entry{}
		}
		l.p = appendEntry(l.p, e)
	}
	start := len(l.p)
	l.p = appendU64(l.p, inode)
	l.p = appendU64(l.p, offset)
	l.p = appendU32(l.p, uint32(len(name)))
	l.p = appendU32(l.p, uint32(kind))
	l.p = append(l.p, name...)
	for len(l.p) < start+align(direntSize+len(name)) {
		l.p = append(l.p, 0)
	}
}

func align(n int) int { return (n + 7) &^ 7 }
