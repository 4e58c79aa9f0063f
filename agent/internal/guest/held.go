package guest

import (
	"errors"
	"os"
	"syscall"
)

// maxHeld is the largest file, in bytes, that is taken over from an image or read back.
const maxHeld = 4 << 20

var (
	errTooLarge   = errors.New("file is too large")
	errNotRegular = errors.New("not a regular file")
)

// heldFile is a file in memory that was opened before anything of the guest's ran. Whatever the guest does to its
// name later: writing reaches this file and no other.
type heldFile struct {
	fd int
	// last is what the agent knows it to hold; anything else was written by the guest.
	last string
}

// newHeldFile makes a file that must not be there yet. It never follows a link.
func newHeldFile(path, content string, mode uint32) (*heldFile, error) {
	fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_CREAT|syscall.O_EXCL|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, mode)
	if err != nil {
		return nil, err
	}
	held := &heldFile{fd: fd}
	if err = syscall.Fchmod(fd, mode); err == nil { // whatever the umask
		err = held.write(content)
	}
	if err != nil {
		_ = syscall.Close(fd)
		_ = os.Remove(path)
		return nil, err
	}
	return held, nil
}

// write replaces the content in place, so that every name, mapping and watch of the file sees it. The same content is
// left alone.
func (h *heldFile) write(content string) error {
	old := make([]byte, len(content)+1) // one more tells a longer file
	n, err := syscall.Pread(h.fd, old, 0)
	if err != nil {
		return err
	}
	if n == len(content) && string(old[:n]) == content {
		h.last = content
		return nil
	}
	if err := h.overwrite(content); err != nil {
		return err
	}
	if n > len(content) {
		return syscall.Ftruncate(h.fd, int64(len(content)))
	}
	return nil
}

// overwrite writes in one piece from the start of the file and leaves what is behind it.
func (h *heldFile) overwrite(content string) error {
	written, err := syscall.Pwrite(h.fd, []byte(content), 0)
	if err == nil && written != len(content) {
		err = syscall.ENOSPC
	}
	if err == nil {
		h.last = content
	}
	return err
}

func (h *heldFile) read() (string, error) { return readAll(h.fd) }

func readAll(fd int) (string, error) {
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return "", err
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return "", errNotRegular
	}
	if stat.Size > maxHeld {
		return "", errTooLarge
	}
	content := make([]byte, stat.Size)
	n, err := syscall.Pread(fd, content, 0)
	if err != nil {
		return "", err
	}
	return string(content[:n]), nil
}

// readRegular reads a file that the guest may have made. It never waits, as opening a pipe would.
func readRegular(path string, follow bool) (string, error) {
	flags := syscall.O_RDONLY | syscall.O_CLOEXEC | syscall.O_NONBLOCK
	if !follow {
		flags |= syscall.O_NOFOLLOW
	}
	fd, err := syscall.Open(path, flags, 0)
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	return readAll(fd)
}
