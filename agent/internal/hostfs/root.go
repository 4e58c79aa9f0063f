// Package hostfs serves one directory of the host to a guest that is not trusted. Nothing outside of the directory is
// ever opened: every path is made of names that the guest cannot choose freely, and is resolved by the kernel below
// the directory's descriptor, without links, without `..` and without other file systems (openat2(2)).
package hostfs

import (
	"os"
	"syscall"

	"smolvm.dev/agent/internal/fuse"
)

const (
	// shortValid is for how long the guest may believe what it knows, in seconds: others change the directory too.
	shortValid = 1
	// longValid is for names in a directory that is below an overlay, which cannot bear names that go stale: that a
	// file is gone shows when it is looked at, within shortValid.
	longValid = 1 << 30
	// nobody owns what the user of this process does not own.
	nobody = 65534
	// permissionBits are those of a mode that the guest sees and may set: no setuid, setgid or sticky bit.
	permissionBits = 0o777
)

// below is how everything is resolved.
const below = resolveBeneath | resolveNoXdev

// Root is a directory that is served. It implements fuse.FileSystem.
type Root struct {
	fd       int // O_PATH: it stays the same directory, whatever becomes of its path
	writable bool
	uid, gid uint32
	tree     *tree
	handles  *handles
}

var _ fuse.FileSystem = (*Root)(nil)

// OpenRoot opens the directory, whose path must be absolute and without links: whoever could make it a link could have
// another one served. Of memory, in bytes, it takes what the names and directory listings cost that the guest makes it
// keep, and of handles one for each open file.
func OpenRoot(path string, writable bool, memory, handles *Budget) (*Root, error) {
	if path == "" || path[0] != '/' {
		return nil, syscall.EINVAL
	}
	fd, err := openat2(atFdcwd, path, oPath|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	stat, err := statOf(fd)
	if err == nil {
		// What is needed of it all the time: that it can be read.
		var probe int
		if probe, err = reopen(fd, syscall.O_RDONLY|syscall.O_DIRECTORY); err == nil {
			_ = syscall.Close(probe)
		}
	}
	if err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return &Root{fd: fd, writable: writable, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()),
		tree: newTree(memory, stat.Dev, stat.Ino), handles: newHandles(handles)}, nil
}

// Close closes all that is open. Nothing may be served any more.
func (r *Root) Close() {
	r.handles.closeAll(r.tree)
	_ = syscall.Close(r.fd)
}

// resolve opens what a node's path leads to now, without reading or writing it. The caller holds tree.names.
func (r *Root) resolve(n *node) (int, error) {
	path, err := r.tree.path(n)
	if err != nil {
		return -1, err
	}
	return openat2(r.fd, path, oPath|syscall.O_NOFOLLOW, below)
}

// at opens a directory to do something with a name in it. The caller holds tree.names, until it is done.
func (r *Root) at(id uint64) (*node, int, error) {
	n, err := r.tree.find(id)
	if err != nil {
		return nil, -1, err
	}
	if n.kind != syscall.S_IFDIR {
		return nil, -1, syscall.ENOTDIR
	}
	path, err := r.tree.path(n)
	if err != nil {
		return nil, -1, err
	}
	fd, err := openat2(r.fd, path, oPath|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, below)
	return n, fd, err
}

// reach opens a node by its path, or by an open file where it has no name any more.
func (r *Root) reach(id uint64) (*node, int, error) {
	r.tree.names.RLock()
	defer r.tree.names.RUnlock()
	n, err := r.tree.find(id)
	if err != nil {
		return nil, -1, err
	}
	fd, err := r.resolve(n)
	if err == syscall.ESTALE || err == syscall.ENOENT {
		if h := r.handles.useOf(r.tree, n); h != nil {
			defer r.handles.done(h)
			fd, err = reopen(h.fd, oPath)
		}
	}
	if err != nil {
		return nil, -1, err
	}
	return n, fd, nil
}

// look gives the guest an entry for what a name means now.
func (r *Root) look(parent *node, dir int, name string) (fuse.Entry, error) {
	fd, err := openat2(dir, name, oPath|syscall.O_NOFOLLOW, below)
	if err != nil {
		return fuse.Entry{}, err
	}
	defer syscall.Close(fd)
	stat, err := statOf(fd)
	if err != nil {
		return fuse.Entry{}, err
	}
	return r.enter(parent, name, stat)
}

func (r *Root) enter(parent *node, name string, stat *syscall.Stat_t) (fuse.Entry, error) {
	n, err := r.tree.meet(parent, name, stat, !r.writable)
	if err != nil {
		return fuse.Entry{}, err
	}
	valid := uint64(shortValid)
	if !r.writable {
		valid = longValid
	}
	return fuse.Entry{Node: n.id, ValidSeconds: valid, Attributes: r.attributes(stat)}, nil
}

func (r *Root) attributes(stat *syscall.Stat_t) fuse.Attributes {
	a := fuse.Attributes{Inode: stat.Ino, Size: uint64(stat.Size), Blocks: uint64(stat.Blocks), Atime: stat.Atim,
		Mtime: stat.Mtim, Ctime: stat.Ctim, Mode: stat.Mode & (syscall.S_IFMT | permissionBits), Links: uint32(stat.Nlink),
		Device: encodeDevice(uint64(stat.Rdev)), BlockSize: uint32(stat.Blksize), ValidSeconds: shortValid}
	a.UID, a.GID = r.owner(stat)
	if r.writable && stat.Nlink > 1 && stat.Mode&syscall.S_IFMT == syscall.S_IFREG {
		// Each name is a node of its own: what the guest writes by one of them must show by the others at once.
		a.ValidSeconds = 0
	}
	return a
}

// owner shows the guest's root as the owner of what the user owns.
func (r *Root) owner(stat *syscall.Stat_t) (uid, gid uint32) {
	uid, gid = nobody, nobody
	if stat.Uid == r.uid {
		uid = 0
	}
	if stat.Gid == r.gid {
		gid = 0
	}
	return uid, gid
}

// encodeDevice turns glibc's device number into the kernel's (new_encode_dev).
func encodeDevice(device uint64) uint32 {
	major := device>>8&0xfff | device>>32&^0xfff
	minor := device&0xff | device>>12&^0xff
	return uint32(minor&0xff | major<<8 | minor&^0xff<<12)
}

// Lookup implements fuse.FileSystem.
func (r *Root) Lookup(parent uint64, name string) (fuse.Entry, error) {
	r.tree.names.RLock()
	defer r.tree.names.RUnlock()
	n, dir, err := r.at(parent)
	if err != nil {
		return fuse.Entry{}, err
	}
	defer syscall.Close(dir)
	return r.look(n, dir, name)
}

// Forget implements fuse.FileSystem.
func (r *Root) Forget(node, n uint64) { r.tree.forget(node, n) }

// Getattr implements fuse.FileSystem.
func (r *Root) Getattr(id uint64, open *uint64) (fuse.Attributes, error) {
	if open != nil {
		if h, err := r.handles.use(*open, false); err == nil {
			defer r.handles.done(h)
			stat, err := statOf(h.fd)
			return r.attributes(stat), err
		}
	}
	n, fd, err := r.reach(id)
	if err != nil {
		return fuse.Attributes{}, err
	}
	defer syscall.Close(fd)
	return r.attributesOf(n, fd)
}

func (r *Root) attributesOf(n *node, fd int) (fuse.Attributes, error) {
	stat, err := statOf(fd)
	if err == nil && stat.Mode&syscall.S_IFMT != n.kind {
		err = syscall.ESTALE // the guest's kernel looks the name up again
	}
	return r.attributes(stat), err
}

// Readlink implements fuse.FileSystem: the guest's kernel follows a link, in the guest.
func (r *Root) Readlink(id uint64) (string, error) {
	_, fd, err := r.reach(id)
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	text := make([]byte, fuse.MaxPath+1)
	n, err := readLink(fd, text)
	if err == syscall.ENOENT {
		err = syscall.EINVAL // it is no link
	}
	return string(text[:max0(n)]), err
}

func max0(n int) int {
	if n < 0 {
		return 0
	}
	return n
}

// Statfs implements fuse.FileSystem.
func (r *Root) Statfs() (fuse.Statfs, error) {
	var s syscall.Statfs_t
	err := syscall.Fstatfs(r.fd, &s)
	return fuse.Statfs{Blocks: s.Blocks, Free: s.Bfree, Available: s.Bavail, Files: s.Files, FreeFiles: s.Ffree,
		BlockSize: uint32(s.Bsize), NameLength: uint32(s.Namelen), FragmentSize: uint32(s.Frsize)}, err
}
