package files

import (
	"errors"
	"strings"
	"syscall"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/session"
)

// errTree is a tree that breaks the rules of docs/guest-protocol.md.
const errTree = syscall.EBADMSG

// names has what calls on files give (the ERRORS of section 2 of the manual).
var names = map[syscall.Errno]string{
	syscall.E2BIG: "E2BIG", syscall.EACCES: "EACCES", syscall.EAGAIN: "EAGAIN", syscall.EBADF: "EBADF",
	syscall.EBADMSG: "EBADMSG", syscall.EBUSY: "EBUSY", syscall.ECANCELED: "ECANCELED",
	syscall.ECONNABORTED: "ECONNABORTED", syscall.ECONNREFUSED: "ECONNREFUSED", syscall.EDQUOT: "EDQUOT",
	syscall.EEXIST: "EEXIST", syscall.EFAULT: "EFAULT", syscall.EFBIG: "EFBIG", syscall.EHOSTDOWN: "EHOSTDOWN",
	syscall.EILSEQ: "EILSEQ", syscall.EINTR: "EINTR", syscall.EINVAL: "EINVAL", syscall.EIO: "EIO",
	syscall.EISDIR: "EISDIR", syscall.ELOOP: "ELOOP", syscall.EMEDIUMTYPE: "EMEDIUMTYPE",
	syscall.EMFILE: "EMFILE", syscall.EMLINK: "EMLINK", syscall.ENAMETOOLONG: "ENAMETOOLONG",
	syscall.ENFILE: "ENFILE", syscall.ENODATA: "ENODATA", syscall.ENODEV: "ENODEV", syscall.ENOENT: "ENOENT",
	syscall.ENOKEY: "ENOKEY", syscall.ENOLCK: "ENOLCK", syscall.ENOLINK: "ENOLINK",
	syscall.ENOMEDIUM: "ENOMEDIUM", syscall.ENOMEM: "ENOMEM", syscall.ENOSPC: "ENOSPC",
	syscall.ENOSYS: "ENOSYS", syscall.ENOTCONN: "ENOTCONN", syscall.ENOTDIR: "ENOTDIR",
	syscall.ENOTEMPTY: "ENOTEMPTY", syscall.ENOTSUP: "EOPNOTSUPP", syscall.ENOTTY: "ENOTTY",
	syscall.ENXIO: "ENXIO", syscall.EOVERFLOW: "EOVERFLOW", syscall.EPERM: "EPERM", syscall.EPIPE: "EPIPE",
	syscall.ERANGE: "ERANGE", syscall.EREMOTEIO: "EREMOTEIO", syscall.EROFS: "EROFS", syscall.ESPIPE: "ESPIPE",
	syscall.ESRCH: "ESRCH", syscall.ESTALE: "ESTALE", syscall.ETIMEDOUT: "ETIMEDOUT",
	syscall.ETXTBSY: "ETXTBSY", syscall.EUCLEAN: "EUCLEAN", syscall.EUSERS: "EUSERS", syscall.EXDEV: "EXDEV",
}

// failed is the answer for an error: errno's name, and a sentence such as `Cannot read "/x": is a directory`.
func failed(doing, path string, err error) session.Result {
	code, reason := "EIO", err.Error()
	if err == errTree {
		reason = "the tree breaks the rules of the protocol"
	}
	var errno syscall.Errno
	switch {
	case err == session.ErrCancelled:
		code = "ECANCELED"
	case errors.As(err, &errno) && names[errno] != "":
		code = names[errno]
	}
	return session.Result{Failed: &command.Failure{Code: code,
		Message: "Cannot " + doing + " \"" + strings.ToValidUTF8(path, "\ufffd") + "\": " + reason}}
}
