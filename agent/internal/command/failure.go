package command

import "syscall"

// Failure is why a command could not be started: an errno name and a sentence for people.
type Failure struct {
	Code, Message string
}

func (f *Failure) Error() string { return f.Code + ": " + f.Message }

var errnoNames = map[syscall.Errno]string{
	syscall.E2BIG: "E2BIG", syscall.EACCES: "EACCES", syscall.EAGAIN: "EAGAIN", syscall.EBUSY: "EBUSY",
	syscall.EINVAL: "EINVAL", syscall.EIO: "EIO", syscall.EISDIR: "EISDIR", syscall.ELIBBAD: "ELIBBAD",
	syscall.ELOOP: "ELOOP", syscall.EMFILE: "EMFILE", syscall.ENAMETOOLONG: "ENAMETOOLONG",
	syscall.ENFILE: "ENFILE", syscall.ENOENT: "ENOENT", syscall.ENOEXEC: "ENOEXEC", syscall.ENOMEM: "ENOMEM",
	syscall.ENOSPC: "ENOSPC", syscall.ENOTDIR: "ENOTDIR", syscall.EPERM: "EPERM", syscall.EROFS: "EROFS",
	syscall.ESHUTDOWN: "ESHUTDOWN", syscall.ETXTBSY: "ETXTBSY", syscall.ENODEV: "ENODEV",
	syscall.ECANCELED: "ECANCELED", syscall.ECONNREFUSED: "ECONNREFUSED", syscall.ECONNRESET: "ECONNRESET",
	syscall.ETIMEDOUT: "ETIMEDOUT", syscall.EADDRNOTAVAIL: "EADDRNOTAVAIL", syscall.ENETUNREACH: "ENETUNREACH",
	syscall.EHOSTUNREACH: "EHOSTUNREACH", syscall.ENOBUFS: "ENOBUFS",
}

// ErrnoName returns the name of an error number, such as ENOENT; EIO for what is none.
func ErrnoName(err error) string {
	if errno, ok := err.(syscall.Errno); ok {
		if name := errnoNames[errno]; name != "" {
			return name
		}
	}
	return "EIO"
}

func failure(err error, message string) *Failure {
	return &Failure{Code: ErrnoName(err), Message: message + ": " + err.Error()}
}
