package hostfs

import (
	"syscall"
	"time"

	"smolvm.dev/agent/internal/fuse"
)

const (
	// openAllowed are the flags of open(2) that mean something here; all others of the guest are dropped.
	openAllowed = syscall.O_ACCMODE | syscall.O_APPEND | syscall.O_TRUNC | syscall.O_SYNC | syscall.O_DSYNC
	// openAlways: whatever it turns out to be, opening it must not wait.
	openAlways = syscall.O_NONBLOCK | syscall.O_NOCTTY
	// fallocateAllowed: FALLOC_FL_KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE.
	fallocateAllowed = 0x01 | 0x02 | 0x10
	seekData         = 3
	seekHole         = 4
	// settled is for how long a file must not have changed before its times can tell that it has: two changes within
	// one tick of the host's clock look alike.
	settled = time.Second
)

// openRegular opens what an O_PATH descriptor stands for if it is a regular file: no pipe, device or socket of the host
// is ever opened. One with a setuid or setgid bit is not to be written to: whoever runs it trusts what it holds.
func openRegular(fd, flags int) (int, error) {
	stat, err := statOf(fd)
	if err != nil {
		return -1, err
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return -1, syscall.EACCES
	}
	writes := flags&syscall.O_ACCMODE != syscall.O_RDONLY || flags&syscall.O_TRUNC != 0
	if writes && stat.Mode&(syscall.S_ISUID|syscall.S_ISGID) != 0 {
		return -1, syscall.EPERM
	}
	if !writes {
		// Reading should leave no trace. Only the owner may ask for that.
		if opened, err := reopen(fd, flags|openAlways|syscall.O_NOATIME); err != syscall.EPERM {
			return opened, err
		}
	}
	return reopen(fd, flags|openAlways)
}

// Open implements fuse.FileSystem.
func (r *Root) Open(id uint64, flags uint32) (fuse.Opened, error) {
	n, place, err := r.reach(id)
	if err != nil {
		return fuse.Opened{}, err
	}
	defer syscall.Close(place)
	fd, err := openRegular(place, int(flags)&openAllowed)
	if err != nil {
		return fuse.Opened{}, err
	}
	return r.opened(n, fd)
}

// opened makes a handle of a descriptor.
func (r *Root) opened(n *node, fd int) (fuse.Opened, error) {
	stat, err := statOf(fd)
	if err != nil {
		_ = syscall.Close(fd)
		return fuse.Opened{}, err
	}
	now := stamp{inode: stat.Ino, size: uint64(stat.Size), mtime: stat.Mtim, ctime: stat.Ctim}
	if time.Since(time.Unix(stat.Ctim.Unix())) < settled {
		now = stamp{}
	}
	r.tree.mu.Lock()
	keep := n.seen != nil && *n.seen == now && now != (stamp{})
	n.seen = &now
	r.tree.mu.Unlock()
	id, err := r.handles.add(r.tree, &handle{node: n, fd: fd})
	return fuse.Opened{Handle: id, KeepCache: keep}, err
}

// Read implements fuse.FileSystem. Less than asked for is the end of the file.
func (r *Root) Read(id uint64, p []byte, offset int64) (int, error) {
	h, err := r.handles.use(id, false)
	if err != nil {
		return 0, err
	}
	defer r.handles.done(h)
	done := 0
	for done < len(p) {
		n, err := syscall.Pread(h.fd, p[done:], offset+int64(done))
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil && done == 0:
			return 0, err
		case err != nil || n <= 0:
			return done, nil
		}
		done += n
	}
	return done, nil
}

// Write implements fuse.FileSystem.
func (r *Root) Write(id uint64, p []byte, offset int64) (int, error) {
	h, err := r.handles.use(id, false)
	if err != nil {
		return 0, err
	}
	defer r.handles.done(h)
	done := 0
	for done < len(p) {
		n, err := syscall.Pwrite(h.fd, p[done:], offset+int64(done))
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil && done == 0:
			return 0, err
		case err != nil || n <= 0:
			return done, nil
		}
		done += n
	}
	return done, nil
}

// Seek implements fuse.FileSystem; the guest's kernel asks only for data and holes.
func (r *Root) Seek(id uint64, offset int64, whence uint32) (int64, error) {
	if whence != seekData && whence != seekHole {
		return 0, syscall.EINVAL
	}
	h, err := r.handles.use(id, false)
	if err != nil {
		return 0, err
	}
	defer r.handles.done(h)
	return syscall.Seek(h.fd, offset, int(whence))
}

// Fsync implements fuse.FileSystem, for files and directories.
func (r *Root) Fsync(id uint64, dataOnly bool) error {
	h, err := r.handles.use(id, false)
	if err != nil {
		h, err = r.handles.use(id, true)
	}
	if err != nil {
		return err
	}
	defer r.handles.done(h)
	if dataOnly {
		return syscall.Fdatasync(h.fd)
	}
	return syscall.Fsync(h.fd)
}

// Fallocate implements fuse.FileSystem.
func (r *Root) Fallocate(id uint64, mode uint32, offset, length int64) error {
	if mode&^uint32(fallocateAllowed) != 0 {
		return syscall.EOPNOTSUPP
	}
	h, err := r.handles.use(id, false)
	if err != nil {
		return err
	}
	defer r.handles.done(h)
	return syscall.Fallocate(h.fd, mode, offset, length)
}

// Release implements fuse.FileSystem.
func (r *Root) Release(id uint64) { r.handles.release(r.tree, id, false) }

// Setattr implements fuse.FileSystem.
func (r *Root) Setattr(id uint64, change *fuse.Change) (fuse.Attributes, error) {
	if change.Handle != nil {
		if h, err := r.handles.use(*change.Handle, false); err == nil {
			defer r.handles.done(h)
			if err := r.apply(h.fd, change, func(size int64) error { return syscall.Ftruncate(h.fd, size) }); err != nil {
				return fuse.Attributes{}, err
			}
			stat, err := statOf(h.fd)
			return r.attributes(stat), err
		}
	}
	n, fd, err := r.reach(id)
	if err != nil {
		return fuse.Attributes{}, err
	}
	defer syscall.Close(fd)
	if err := r.apply(fd, change, func(size int64) error { return truncate(fd, size) }); err != nil {
		return fuse.Attributes{}, err
	}
	return r.attributesOf(n, fd)
}

func truncate(place int, size int64) error {
	fd, err := openRegular(place, syscall.O_WRONLY)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return syscall.Ftruncate(fd, size)
}

// apply changes what a descriptor stands for. All that can be refused is looked at first.
func (r *Root) apply(fd int, change *fuse.Change, resize func(int64) error) error {
	stat, err := statOf(fd)
	if err != nil {
		return err
	}
	uid, gid := r.owner(stat)
	if change.UID != nil && *change.UID != uid || change.GID != nil && *change.GID != gid {
		return syscall.EPERM
	}
	kind := stat.Mode & syscall.S_IFMT
	if mode := change.Mode; mode != nil {
		switch {
		case kind != syscall.S_IFREG && kind != syscall.S_IFDIR:
			return syscall.EOPNOTSUPP
		case *mode&^uint32(permissionBits|syscall.S_IFMT) != 0:
			return syscall.EPERM
		}
	}
	if size := change.Size; size != nil {
		if int64(*size) < 0 {
			return syscall.EFBIG
		}
		if err := resize(int64(*size)); err != nil {
			return err
		}
	}
	if change.Mode != nil {
		if err := syscall.Chmod(selfPath(fd), *change.Mode&permissionBits); err != nil {
			return err
		}
	}
	return r.applyTimes(fd, change)
}

func (r *Root) applyTimes(fd int, change *fuse.Change) error {
	if change.Atime == nil && change.Mtime == nil {
		return nil
	}
	times := [2]syscall.Timespec{}
	for i, t := range [2]*fuse.Time{change.Atime, change.Mtime} {
		switch {
		case t == nil:
			times[i].Nsec = utimeOmit
		case t.Now:
			times[i].Nsec = utimeNow
		case t.At.Nsec < 0 || t.At.Nsec >= 1e9:
			return syscall.EINVAL
		default:
			times[i] = t.At
		}
	}
	return setTimes(fd, &times)
}
