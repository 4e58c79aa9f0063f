package files

import (
	"strings"
	"syscall"
)

const (
	madeMode = 0777 // of missing parents, before the umask
	// maxJoined bounds the levels of directories that are in a tree and in the place that it comes to.
	maxJoined = 1024
)

// place is where a tree comes to.
type place struct {
	base int // descriptor of the innermost directory that is there
	// names lead from there to the tree: its missing parents and its own name. None: the tree is joined to base.
	names []string
}

// findPlace goes up from a path until there is a directory. Links that lead there are followed, as for every path; but
// one at the end is replaced by what is no directory.
func findPlace(path string, mode uint32) (*place, error) {
	p := &place{base: -1}
	var missing []string
	flags := directoryFlags
	if mode == syscall.S_IFDIR {
		flags &^= syscall.O_NOFOLLOW
	}
	for {
		trimmed := strings.TrimRight(path, "/")
		if trimmed == "" {
			trimmed = "/"
		}
		fd, err := openat(atCwd, trimmed, flags, 0)
		flags = directoryFlags &^ syscall.O_NOFOLLOW
		if err == nil {
			p.base = fd
			break
		}
		// The name itself may be that of a file; a parent may not.
		if trimmed == "/" || err != syscall.ENOENT && (err != syscall.ENOTDIR && err != syscall.ELOOP || len(missing) > 0) {
			return nil, err
		}
		slash := strings.LastIndexByte(trimmed, '/')
		name := trimmed[slash+1:]
		if isDots([]byte(name)) {
			return nil, err
		}
		missing = append(missing, name)
		path = trimmed[:slash+1]
	}
	for i := len(missing) - 1; i >= 0; i-- {
		p.names = append(p.names, missing[i])
	}
	return p, nil
}

func (p *place) close() { _ = syscall.Close(p.base) }

// check tells whether a tree with such a root can come here.
func (p *place) check(mode uint32) error {
	switch len(p.names) {
	case 0:
		if mode != syscall.S_IFDIR {
			return syscall.EISDIR
		}
		return nil
	case 1:
		_, err := replaceable(p.base, p.names[0], mode)
		return err
	}
	return nil
}

// take moves the tree here from its stage, making the parents that are missing.
func (p *place) take(stage int, mode uint32) error {
	if len(p.names) == 0 {
		return p.join(stage)
	}
	parents, last := p.names[:len(p.names)-1], p.names[len(p.names)-1]
	return inParents(p.base, parents, func(dir int) error {
		if _, err := replaceable(dir, last, mode); err != nil {
			return err
		}
		return renameat(stage, rootName, dir, last)
	})
}

// inParents does something in a directory that is made first, with those above it, and removes again what it has made
// if that fails. Others may make the same ones meanwhile: several trees can come to a place that is not there yet.
func inParents(dir int, names []string, work func(dir int) error) error {
	if len(names) == 0 {
		return work(dir)
	}
	made := syscall.Mkdirat(dir, names[0], madeMode)
	if made != nil && made != syscall.EEXIST {
		return made
	}
	inner, err := openat(dir, names[0], directoryFlags, 0)
	if err == nil {
		err = inParents(inner, names[1:], work)
		_ = syscall.Close(inner)
	}
	if err != nil && made == nil {
		_ = unlinkat(dir, names[0], atRemovedir)
	}
	return err
}

// join moves what is in the tree's root into the base, after it has made sure that all of it fits.
func (p *place) join(stage int) error {
	root, err := openat(stage, rootName, directoryFlags, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(root)
	for _, moving := range []bool{false, true} {
		if err := join(root, p.base, moving, 0); err != nil {
			return err
		}
	}
	return nil
}

// join goes through the names of a directory of the tree. What is a directory in both is joined in turn; all else is
// moved.
func join(from, to int, moving bool, depth int) error {
	if depth > maxJoined {
		return syscall.ENAMETOOLONG
	}
	d := newDirectory(from)
	defer d.release()
	for {
		if err := d.rewind(); err != nil {
			return err
		}
		moved, err := joinNames(d, to, moving, depth)
		// Reading a directory that changes may pass over a name, so it ends only with a look that finds nothing.
		if err != nil || moved == 0 {
			return err
		}
	}
}

func joinNames(d *directory, to int, moving bool, depth int) (moved int, err error) {
	for {
		entry, kind, err := d.next()
		if err != nil || len(entry) == 0 {
			return moved, err
		}
		name := string(entry)
		mode := uint32(kind) << 12
		both, err := replaceable(to, name, mode)
		switch {
		case err != nil:
		case both && mode == syscall.S_IFDIR:
			if err = joinBelow(d.fd, to, name, moving, depth+1); err == nil && moving {
				err = unlinkat(d.fd, name, atRemovedir)
			}
		case moving:
			err = renameat(d.fd, name, to, name)
		}
		if err != nil {
			return moved, err
		}
		if moving {
			moved++
		}
	}
}

func joinBelow(from, to int, name string, moving bool, depth int) error {
	inner, err := openat(from, name, directoryFlags, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(inner)
	outer, err := openat(to, name, directoryFlags, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(outer)
	var a, b syscall.Stat_t
	if err := syscall.Fstat(inner, &a); err != nil {
		return err
	}
	if err := syscall.Fstat(outer, &b); err != nil {
		return err
	}
	if a.Dev != b.Dev {
		return syscall.EXDEV // nothing can be moved there
	}
	return join(inner, outer, moving, depth)
}

// replaceable tells whether a name is taken, and fails if what has it may not give way to something of such a mode.
func replaceable(dir int, name string, mode uint32) (taken bool, err error) {
	var there syscall.Stat_t
	err = fstatat(dir, name, &there, atSymlinkNofoll)
	if err == syscall.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	switch there.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		if mode != syscall.S_IFDIR {
			return true, syscall.EISDIR
		}
		return true, nil
	case syscall.S_IFREG, syscall.S_IFLNK:
		if mode == syscall.S_IFDIR {
			return true, syscall.ENOTDIR
		}
		return true, nil
	}
	return true, syscall.EEXIST // a device, pipe or socket is somebody's, and a tree brings none
}
