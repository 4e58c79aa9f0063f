package files

import (
	"bytes"
	"syscall"

	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/session"
)

// Tags of the fields of a request and of its reply.
const (
	tagPath       = 10
	tagSecond     = 11
	tagNoFollow   = 12
	tagMode       = 14
	tagRecursive  = 15
	tagFound      = 16
	tagForce      = 17
	tagWanted     = 18
	tagOffset     = 19
	tagStatMode   = 20
	tagSize       = 21
	tagMtime      = 22
	tagUid        = 23
	tagGid        = 24
	tagInode      = 25
	tagLinks      = 26
	tagAtime      = 27
	tagCtime      = 28
	tagDevice     = 29
	tagBlocks     = 30
	tagBlockSize  = 31
	tagRdev       = 32
	tagLength     = 33
	tagFlags      = 34
	tagWritten    = tagSize
	tagEntries    = tagSize
	noMode        = ^uint32(0)
	everything    = ^uint64(0)
	modeBits      = 07777
	maxFileOffset = 1<<63 - 1
)

// request has the fields of every operation; each uses its own.
type request struct {
	path, second               string
	noFollow, recursive, force bool
	mode                       uint32 // noMode: not given
	wanted, flags              uint32
	offset, length             uint64 // everything: no length given
	atime, mtime               syscall.Timespec
}

// parse copies what it keeps.
func parse(payload []byte) (*request, error) {
	unset := syscall.Timespec{Nsec: utimeOmit}
	r := &request{mode: noMode, length: everything, atime: unset, mtime: unset}
	err := frame.Each(payload, func(f frame.Field) (err error) {
		switch f.Tag {
		case tagPath:
			r.path = string(f.Value)
		case tagSecond:
			r.second = string(f.Value)
		case tagNoFollow:
			r.noFollow, err = f.Flag()
		case tagMode:
			r.mode, err = f.U32()
		case tagRecursive:
			r.recursive, err = f.Flag()
		case tagForce:
			r.force, err = f.Flag()
		case tagWanted:
			r.wanted, err = f.U32()
		case tagOffset:
			r.offset, err = f.U64()
		case tagLength:
			r.length, err = f.U64()
		case tagFlags:
			r.flags, err = f.U32()
		case tagAtime:
			r.atime, err = timeOf(f)
		case tagMtime:
			r.mtime, err = timeOf(f)
		}
		return err
	})
	return r, err
}

func timeOf(f frame.Field) (syscall.Timespec, error) {
	nanoseconds, err := f.U64()
	return syscall.NsecToTimespec(int64(nanoseconds)), err
}

// run does the work and makes its answer.
func (r *request) run(name string, work func() ([]byte, error)) session.Result {
	err := r.check(name)
	var reply []byte
	if err == nil {
		reply, err = work()
	}
	if err != nil {
		return failed(doing[name], r.path, err)
	}
	return session.Result{Reply: reply}
}

// doing completes "Cannot ...".
var doing = map[string]string{
	"stat": "stat", "mkdir": "make directory", "rename": "rename", "chmod": "change the mode of",
	"symlink": "make a link to", "readlink": "read link", "access": "access", "utimes": "set the times of",
	"readdir": "read directory", "rm": "remove", "read": "read", "write": "write", "send": "send",
	"receive": "receive",
}

// check refuses paths that the contract does not allow. A link's target may be anything that is a path.
func (r *request) check(name string) error {
	if name == "symlink" {
		if len(r.path) > maxPath {
			return syscall.ENAMETOOLONG
		}
		if bytes.IndexByte([]byte(r.path), 0) >= 0 {
			return syscall.EINVAL
		}
	} else if err := checkPath(r.path); err != nil {
		return err
	}
	if name == "symlink" || name == "rename" {
		return checkPath(r.second)
	}
	return nil
}

func checkPath(path string) error {
	if len(path) == 0 || path[0] != '/' || bytes.IndexByte([]byte(path), 0) >= 0 {
		return syscall.EINVAL
	}
	if len(path) > maxPath {
		return syscall.ENAMETOOLONG
	}
	return nil
}
