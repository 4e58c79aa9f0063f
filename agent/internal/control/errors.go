package control

import (
	"errors"
	"syscall"
)

// invalid is the code of a request that is wrong, and of an error that tells no code.
const invalid = "EINVAL"

// Error is a failure with a code of its own. Other errors get the name of the errno that they wrap, or "EINVAL".
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Message }

// errnoNames are what a library would tell apart. The rest is "EIO".
var errnoNames = map[syscall.Errno]string{
	syscall.EACCES:        "EACCES",
	syscall.EADDRINUSE:    "EADDRINUSE",
	syscall.EADDRNOTAVAIL: "EADDRNOTAVAIL",
	syscall.EAFNOSUPPORT:  "EAFNOSUPPORT",
	syscall.EBUSY:         "EBUSY",
	syscall.EEXIST:        "EEXIST",
	syscall.EINVAL:        invalid,
	syscall.EMFILE:        "EMFILE",
	syscall.ENFILE:        "ENFILE",
	syscall.ENOENT:        "ENOENT",
	syscall.ENOSPC:        "ENOSPC",
	syscall.EPERM:         "EPERM",
	syscall.ESRCH:         "ESRCH",
	syscall.ETIMEDOUT:     "ETIMEDOUT",
}

func codeOf(err error) string {
	var own *Error
	if errors.As(err, &own) {
		return own.Code
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return invalid
	}
	if name, ok := errnoNames[errno]; ok {
		return name
	}
	return "EIO"
}
