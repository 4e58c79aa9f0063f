package hostfs

import (
	"syscall"

	"smolvm.dev/agent/internal/fuse"
)

// renameAllowed: RENAME_NOREPLACE, RENAME_EXCHANGE. A whiteout would be a device node.
const (
	renameNoreplace = 1
	renameExchange  = 2
	renameAllowed   = renameNoreplace | renameExchange
)

// make makes something with a name that is not taken, and gives the guest an entry for it.
func (r *Root) make(parent uint64, name string, do func(dir int) error) (fuse.Entry, error) {
	r.tree.names.RLock()
	defer r.tree.names.RUnlock()
	n, dir, err := r.at(parent)
	if err != nil {
		return fuse.Entry{}, err
	}
	defer syscall.Close(dir)
	if err := do(dir); err != nil {
		return fuse.Entry{}, err
	}
	return r.look(n, dir, name)
}

// Create implements fuse.FileSystem. A file is only ever made anew; one that is there is opened like any other.
func (r *Root) Create(parent uint64, name string, flags, mode uint32) (fuse.Entry, fuse.Opened, error) {
	e, o, err := r.createNew(parent, name, flags, mode)
	if err != syscall.EEXIST || flags&syscall.O_EXCL != 0 {
		return e, o, err
	}
	if e, err = r.Lookup(parent, name); err != nil {
		return e, o, err
	}
	if o, err = r.Open(e.Node, flags); err != nil {
		r.Forget(e.Node, 1)
	}
	return e, o, err
}

func (r *Root) createNew(parent uint64, name string, flags, mode uint32) (e fuse.Entry, o fuse.Opened, err error) {
	r.tree.names.RLock()
	defer r.tree.names.RUnlock()
	n, dir, err := r.at(parent)
	if err != nil {
		return e, o, err
	}
	defer syscall.Close(dir)
	fd, err := createAt(dir, name, int(flags)&openAllowed, mode)
	if err != nil {
		return e, o, err
	}
	stat, err := statOf(fd)
	if err == nil {
		e, err = r.enter(n, name, stat)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return e, o, err
	}
	made, err := r.tree.find(e.Node)
	if err != nil {
		_ = syscall.Close(fd)
		return e, o, err
	}
	if o, err = r.opened(made, fd); err != nil {
		r.Forget(e.Node, 1)
	}
	return e, o, err
}

// createAt makes a regular file; whatever has the name already stays as it is.
func createAt(dir int, name string, flags int, mode uint32) (int, error) {
	flags |= syscall.O_CREAT | syscall.O_EXCL | syscall.O_NOFOLLOW | syscall.O_CLOEXEC | openAlways
	for {
		fd, err := syscall.Openat(dir, name, flags, mode&permissionBits)
		if err != syscall.EINTR {
			return fd, err
		}
	}
}

// Mknod implements fuse.FileSystem.
func (r *Root) Mknod(parent uint64, name string, mode uint32) (fuse.Entry, error) {
	return r.make(parent, name, func(dir int) error {
		fd, err := createAt(dir, name, syscall.O_WRONLY, mode)
		if err == nil {
			_ = syscall.Close(fd)
		}
		return err
	})
}

// Mkdir implements fuse.FileSystem.
func (r *Root) Mkdir(parent uint64, name string, mode uint32) (fuse.Entry, error) {
	return r.make(parent, name, func(dir int) error { return syscall.Mkdirat(dir, name, mode&permissionBits) })
}

// Symlink implements fuse.FileSystem. The text may be anything: nothing here follows a link.
func (r *Root) Symlink(parent uint64, name, target string) (fuse.Entry, error) {
	return r.make(parent, name, func(dir int) error { return symlinkAt(target, dir, name) })
}

// Link implements fuse.FileSystem. The file is taken by its name in the directory, so it cannot be one outside.
func (r *Root) Link(id, parent uint64, name string) (fuse.Entry, error) {
	return r.make(parent, name, func(dir int) error {
		n, err := r.tree.find(id)
		if err != nil {
			return err
		}
		if n.parent == nil || n.kind == syscall.S_IFDIR {
			return syscall.EPERM
		}
		r.tree.mu.Lock()
		from, old, gone := n.parent, n.name, n.gone
		r.tree.mu.Unlock()
		if gone {
			return syscall.ENOENT
		}
		fd, err := r.resolve(from)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		// Neither may be on the way to another file system: linkat(2) sees to that (EXDEV).
		return linkAt(fd, old, dir, name)
	})
}

// Unlink implements fuse.FileSystem.
func (r *Root) Unlink(parent uint64, name string) error { return r.remove(parent, name, 0) }

// Rmdir implements fuse.FileSystem.
func (r *Root) Rmdir(parent uint64, name string) error { return r.remove(parent, name, atRemovedir) }

func (r *Root) remove(parent uint64, name string, flags int) error {
	r.tree.names.Lock()
	defer r.tree.names.Unlock()
	n, dir, err := r.at(parent)
	if err != nil {
		return err
	}
	defer syscall.Close(dir)
	if err := unlinkAt(dir, name, flags); err != nil {
		return err
	}
	r.tree.remove(n, name)
	return nil
}

// Rename implements fuse.FileSystem.
func (r *Root) Rename(from uint64, name string, to uint64, newName string, flags uint32) error {
	if flags&^uint32(renameAllowed) != 0 {
		return syscall.EINVAL
	}
	r.tree.names.Lock()
	defer r.tree.names.Unlock()
	n, dir, err := r.at(from)
	if err != nil {
		return err
	}
	defer syscall.Close(dir)
	target, newDir, err := r.at(to)
	if err != nil {
		return err
	}
	defer syscall.Close(newDir)
	// Both names may get longer; afterwards it would be too late to refuse that.
	reserved := costOf(name) + costOf(newName)
	if !r.tree.memory.take(reserved) {
		return syscall.ENOMEM
	}
	defer r.tree.memory.give(reserved)
	if err := renameAt(dir, name, newDir, newName, flags); err != nil {
		return err
	}
	r.tree.move(n, name, target, newName, flags&renameExchange != 0)
	return nil
}
