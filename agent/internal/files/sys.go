package files

import (
	"syscall"
	"unsafe"
)

// Constants of the kernel that package syscall lacks (include/uapi/linux/fcntl.h, fs.h, stat.h, dirent.h, poll.h).
const (
	atCwd           = -0x64
	atSymlinkNofoll = 0x100
	atRemovedir     = 0x200
	utimeOmit       = 0x3ffffffe
	seekData        = 3
	seekHole        = 4
	pollIn          = 1
	pollHup         = 0x10

	typeUnknown   = 0
	typeDirectory = 4
	typeFile      = 8
	typeLink      = 10
)

// maxPath is the most bytes that the kernel takes as a path or a link's target (PATH_MAX without the NUL).
const maxPath = 4095

// directoryFlags open a directory and nothing else: not what a link points at, and never waiting.
const directoryFlags = syscall.O_RDONLY | syscall.O_DIRECTORY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC

// again does a call over while a signal interrupts it.
func again(call func() error) error {
	for {
		if err := call(); err != syscall.EINTR {
			return err
		}
	}
}

func openat(dir int, name string, flags int, mode uint32) (fd int, err error) {
	err = again(func() (err error) {
		fd, err = syscall.Openat(dir, name, flags|syscall.O_CLOEXEC, mode)
		return err
	})
	return fd, err
}

func pointers(a, b string) (*byte, *byte, error) {
	first, err := syscall.BytePtrFromString(a)
	if err != nil {
		return nil, nil, err
	}
	second, err := syscall.BytePtrFromString(b)
	return first, second, err
}

func result(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

func fstatat(dir int, name string, stat *syscall.Stat_t, flags int) error {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	return again(func() error {
		_, _, errno := syscall.Syscall6(sysFstatat, uintptr(dir), uintptr(unsafe.Pointer(p)),
			uintptr(unsafe.Pointer(stat)), uintptr(flags), 0, 0)
		return result(errno)
	})
}

func unlinkat(dir int, name string, flags int) error {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return err
	}
	return again(func() error {
		_, _, errno := syscall.Syscall(syscall.SYS_UNLINKAT, uintptr(dir), uintptr(unsafe.Pointer(p)), uintptr(flags))
		return result(errno)
	})
}

func renameat(fromDir int, from string, toDir int, to string) error {
	p, q, err := pointers(from, to)
	if err != nil {
		return err
	}
	return again(func() error {
		_, _, errno := syscall.Syscall6(syscall.SYS_RENAMEAT, uintptr(fromDir), uintptr(unsafe.Pointer(p)),
			uintptr(toDir), uintptr(unsafe.Pointer(q)), 0, 0)
		return result(errno)
	})
}

func symlinkat(target string, dir int, name string) error {
	p, q, err := pointers(target, name)
	if err != nil {
		return err
	}
	return again(func() error {
		_, _, errno := syscall.Syscall(syscall.SYS_SYMLINKAT, uintptr(unsafe.Pointer(p)), uintptr(dir),
			uintptr(unsafe.Pointer(q)))
		return result(errno)
	})
}

// readlinkat reads a link's target into the buffer, which has room for maxPath and one more.
func readlinkat(dir int, name string, buffer []byte) (int, error) {
	p, err := syscall.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	n := uintptr(0)
	err = again(func() error {
		var errno syscall.Errno
		n, _, errno = syscall.Syscall6(syscall.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(p)),
			uintptr(unsafe.Pointer(&buffer[0])), uintptr(len(buffer)), 0, 0)
		return result(errno)
	})
	return int(n), err
}

// utimensat sets the times of a name in a directory; of the descriptor itself where the name is empty.
func utimensat(dir int, name string, atime, mtime syscall.Timespec, flags int) error {
	var p *byte
	if name != "" {
		var err error
		if p, err = syscall.BytePtrFromString(name); err != nil {
			return err
		}
	}
	times := [2]syscall.Timespec{atime, mtime}
	return again(func() error {
		_, _, errno := syscall.Syscall6(syscall.SYS_UTIMENSAT, uintptr(dir), uintptr(unsafe.Pointer(p)),
			uintptr(unsafe.Pointer(&times)), uintptr(flags), 0, 0)
		return result(errno)
	})
}

// hungUp tells whether a pipe's last writer has gone. A pipe that never had one since it was opened has not hung up.
func hungUp(fd int) bool {
	poll := struct {
		fd              int32
		events, revents int16
	}{fd: int32(fd), events: pollIn}
	var now syscall.Timespec
	_, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1,
		uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return errno == 0 && poll.revents&(pollHup|pollIn) == pollHup // what it still holds comes first
}

const hexDigits = "0123456789abcdef"

// temporaryName makes a name that nothing else has: `.smolvm-` and 8 random hexadecimal digits.
func temporaryName() (string, error) {
	var random [4]byte
	err := again(func() error {
		_, _, errno := syscall.Syscall(sysGetrandom, uintptr(unsafe.Pointer(&random)), uintptr(len(random)), 0)
		return result(errno)
	})
	if err != nil {
		return "", err
	}
	name := []byte(".smolvm-")
	for _, b := range random {
		name = append(name, hexDigits[b>>4], hexDigits[b&15])
	}
	return string(name), nil
}
