package hostfs

import (
	"strconv"
	"syscall"
	"unsafe"
)

// From <linux/openat2.h>, <linux/fcntl.h> and <asm/unistd.h>, for what package syscall lacks.
const (
	sysOpenat2 = 437 // the same on all architectures; Linux 5.6

	resolveNoXdev       = 0x01
	resolveNoMagiclinks = 0x02
	resolveNoSymlinks   = 0x04
	resolveBeneath      = 0x08

	oPath       = 0x200000
	atFdcwd     = -100
	atNofollow  = 0x100
	atRemovedir = 0x200
	atEmptyPath = 0x1000
	utimeNow    = 1<<30 - 1
	utimeOmit   = 1<<30 - 2
)

type openHow struct{ flags, mode, resolve uint64 }

// openat2 opens a path without ever following a link.
func openat2(dir int, path string, flags int, resolve uint64) (int, error) {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return -1, syscall.EINVAL
	}
	how := openHow{flags: uint64(flags | syscall.O_CLOEXEC), resolve: resolve | resolveNoSymlinks | resolveNoMagiclinks}
	for {
		fd, _, errno := syscall.Syscall6(sysOpenat2, uintptr(dir), uintptr(unsafe.Pointer(p)),
			uintptr(unsafe.Pointer(&how)), unsafe.Sizeof(how), 0, 0)
		switch errno {
		case 0:
			return int(fd), nil
		case syscall.EINTR, syscall.EAGAIN: // EAGAIN: something was renamed at the same time
		default:
			return -1, errno
		}
	}
}

// selfPath is the path by which this process reaches what a descriptor stands for.
func selfPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// reopen opens what an O_PATH descriptor stands for, and nothing that has taken its name meanwhile.
func reopen(fd, flags int) (int, error) {
	for {
		opened, err := syscall.Open(selfPath(fd), flags|syscall.O_CLOEXEC, 0)
		if err != syscall.EINTR {
			return opened, err
		}
	}
}

func statOf(fd int) (*syscall.Stat_t, error) {
	var stat syscall.Stat_t
	return &stat, syscall.Fstat(fd, &stat)
}

func pathPointer(name string) (unsafe.Pointer, error) {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return nil, syscall.EINVAL
	}
	return unsafe.Pointer(p), nil
}

func failed(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

func statAt(dir int, name string) (*syscall.Stat_t, error) {
	p, err := pathPointer(name)
	if err != nil {
		return nil, err
	}
	var stat syscall.Stat_t
	_, _, errno := syscall.Syscall6(sysNewfstatat, uintptr(dir), uintptr(p), uintptr(unsafe.Pointer(&stat)), atNofollow, 0, 0)
	return &stat, failed(errno)
}

// readLink reads the text of the link that an O_PATH descriptor stands for.
func readLink(fd int, into []byte) (int, error) {
	var empty byte
	n, _, errno := syscall.Syscall6(syscall.SYS_READLINKAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)),
		uintptr(unsafe.Pointer(&into[0])), uintptr(len(into)), 0, 0)
	return int(n), failed(errno)
}

func unlinkAt(dir int, name string, flags int) error {
	p, err := pathPointer(name)
	if err != nil {
		return err
	}
	_, _, errno := syscall.Syscall(syscall.SYS_UNLINKAT, uintptr(dir), uintptr(p), uintptr(flags))
	return failed(errno)
}

func symlinkAt(target string, dir int, name string) error {
	from, err := pathPointer(target)
	if err != nil {
		return err
	}
	to, err := pathPointer(name)
	if err != nil {
		return err
	}
	_, _, errno := syscall.Syscall(syscall.SYS_SYMLINKAT, uintptr(from), uintptr(dir), uintptr(to))
	return failed(errno)
}

// linkAt makes a second name for a first one; a link is not followed.
func linkAt(from int, name string, to int, newName string) error {
	p, err := pathPointer(name)
	if err != nil {
		return err
	}
	q, err := pathPointer(newName)
	if err != nil {
		return err
	}
	_, _, errno := syscall.Syscall6(syscall.SYS_LINKAT, uintptr(from), uintptr(p), uintptr(to), uintptr(q), 0, 0)
	return failed(errno)
}

func renameAt(from int, name string, to int, newName string, flags uint32) error {
	p, err := pathPointer(name)
	if err != nil {
		return err
	}
	q, err := pathPointer(newName)
	if err != nil {
		return err
	}
	_, _, errno := syscall.Syscall6(sysRenameat2, uintptr(from), uintptr(p), uintptr(to), uintptr(q), uintptr(flags), 0)
	return failed(errno)
}

// setTimes sets the times of what a descriptor stands for, also of an O_PATH one (Linux 5.8) and of a link.
func setTimes(fd int, times *[2]syscall.Timespec) error {
	var empty byte
	_, _, errno := syscall.Syscall6(syscall.SYS_UTIMENSAT, uintptr(fd), uintptr(unsafe.Pointer(&empty)),
		uintptr(unsafe.Pointer(times)), atEmptyPath, 0, 0)
	return failed(errno)
}
