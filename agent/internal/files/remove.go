package files

import (
	"strings"
	"syscall"

	"smolvm.dev/agent/internal/session"
)

// maxOpenDepth bounds the directories that a removal, or the making of a tree, holds open.
const maxOpenDepth = 64

// remove is fs.rm.
func remove(r *request, x exchange) ([]byte, error) {
	trimmed := strings.TrimRight(r.path, "/")
	switch last := trimmed[strings.LastIndexByte(trimmed, '/')+1:]; last {
	case "":
		return nil, syscall.EBUSY // the root directory
	case ".", "..":
		return nil, syscall.EINVAL
	}
	err := unlinkat(atCwd, r.path, 0)
	if err == syscall.EISDIR && r.recursive {
		err = removeTree(atCwd, r.path, x.Cancelled())
	}
	if err == syscall.ENOENT && r.force {
		err = nil
	}
	return nil, err
}

// removal removes a directory with all below it. It works on descriptors alone, so that nobody who swaps a directory
// for a link meanwhile makes it remove something else.
type removal struct {
	top  int // descriptor of the uppermost directory
	stop <-chan struct{}
}

// removeTree removes what is there, be it a directory or not, until stop is closed.
func removeTree(parent int, name string, stop <-chan struct{}) error {
	r := &removal{top: -1, stop: stop}
	err := unlinkat(parent, name, 0)
	if err == syscall.EISDIR {
		err = r.directory(parent, name, 0)
	}
	return err
}

func (r *removal) directory(parent int, name string, depth int) error {
	fd, err := openat(parent, name, directoryFlags, 0)
	if err == syscall.ENOTDIR || err == syscall.ELOOP {
		return unlinkat(parent, name, 0) // it was one a moment ago
	}
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if depth == 0 {
		r.top = fd
	}
	d := newDirectory(fd)
	defer d.release()
	for {
		removed, err := r.contents(d, depth)
		if err != nil {
			return err
		}
		err = unlinkat(parent, name, atRemovedir)
		// Others may add to it all the time: as long as it goes forward, it goes on.
		if err != syscall.ENOTEMPTY && err != syscall.EEXIST || removed == 0 {
			return err
		}
		if err := d.rewind(); err != nil {
			return err
		}
	}
}

// contents empties a directory and tells how much there was.
func (r *removal) contents(d *directory, depth int) (removed int, err error) {
	for {
		select {
		case <-r.stop:
			return removed, session.ErrCancelled
		default:
		}
		entry, kind, err := d.next()
		if err != nil || len(entry) == 0 {
			return removed, err
		}
		name := string(entry)
		if kind != typeDirectory {
			err = unlinkat(d.fd, name, 0)
		}
		if kind == typeDirectory || err == syscall.EISDIR {
			err = r.below(d.fd, name, depth+1)
		}
		if err != nil && err != syscall.ENOENT {
			return removed, err
		}
		removed++
	}
}

// below removes a directory. One that is too deep is moved up instead, to be found there later.
func (r *removal) below(parent int, name string, depth int) error {
	if depth < maxOpenDepth {
		return r.directory(parent, name, depth)
	}
	upper, err := temporaryName()
	if err != nil {
		return err
	}
	return renameat(parent, name, r.top, upper)
}
