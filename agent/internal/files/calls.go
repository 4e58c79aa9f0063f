package files

import (
	"strings"
	"syscall"

	"smolvm.dev/agent/internal/frame"
)

func stat(r *request) ([]byte, error) {
	flags := 0
	if r.noFollow {
		flags = atSymlinkNofoll
	}
	var s syscall.Stat_t
	if err := fstatat(atCwd, r.path, &s, flags); err != nil {
		return nil, err
	}
	reply := make([]byte, 0, 256)
	reply = frame.AppendU32(reply, tagStatMode, s.Mode)
	reply = frame.AppendU64(reply, tagSize, uint64(s.Size))
	reply = frame.AppendU64(reply, tagMtime, uint64(s.Mtim.Nano()))
	reply = frame.AppendU32(reply, tagUid, s.Uid)
	reply = frame.AppendU32(reply, tagGid, s.Gid)
	reply = frame.AppendU64(reply, tagInode, s.Ino)
	reply = frame.AppendU32(reply, tagLinks, uint32(s.Nlink))
	reply = frame.AppendU64(reply, tagAtime, uint64(s.Atim.Nano()))
	reply = frame.AppendU64(reply, tagCtime, uint64(s.Ctim.Nano()))
	reply = frame.AppendU64(reply, tagDevice, uint64(s.Dev))
	reply = frame.AppendU64(reply, tagBlocks, uint64(s.Blocks))
	reply = frame.AppendU32(reply, tagBlockSize, uint32(s.Blksize))
	return frame.AppendU64(reply, tagRdev, uint64(s.Rdev)), nil
}

const (
	defaultDirectoryMode = 0777
	// umask is that of a new directory, whatever else the caller says.
	umask = 022
)

func mkdir(r *request) ([]byte, error) {
	mode := uint32(defaultDirectoryMode)
	if r.mode != noMode {
		mode = r.mode & modeBits
	}
	mode &^= umask
	if !r.recursive {
		return nil, makeDirectory(r.path, mode)
	}
	first, err := makeAll(r.path, mode)
	if err != nil || first == "" {
		return nil, err
	}
	return frame.AppendText(nil, tagFound, first), nil
}

func makeDirectory(path string, mode uint32) error {
	return again(func() error { return syscall.Mkdirat(atCwd, path, mode) })
}

// makeAll makes a directory with its parents and returns the first one that was not there, "" if none.
func makeAll(path string, mode uint32) (string, error) {
	err := makeDirectory(path, mode)
	switch err {
	case nil:
		return path, nil
	case syscall.EEXIST:
		return "", mustBeDirectory(path, err)
	case syscall.ENOENT:
	default:
		return "", err
	}
	trimmed := strings.TrimRight(path, "/")
	parent := strings.TrimRight(trimmed[:strings.LastIndexByte(trimmed, '/')+1], "/")
	if parent == "" {
		return "", err
	}
	first, err := makeAll(parent, mode)
	if err != nil {
		return "", err
	}
	err = makeDirectory(path, mode)
	if err == syscall.EEXIST {
		err = mustBeDirectory(path, err)
	} else if err == nil && first == "" {
		first = path
	}
	return first, err
}

// mustBeDirectory gives the error unless there is a directory, or a link to one.
func mustBeDirectory(path string, otherwise error) error {
	var s syscall.Stat_t
	if err := fstatat(atCwd, path, &s, 0); err != nil {
		return err
	}
	if s.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return otherwise
	}
	return nil
}

func rename(r *request) ([]byte, error) { return nil, renameat(atCwd, r.path, atCwd, r.second) }

func chmod(r *request) ([]byte, error) {
	if r.mode == noMode {
		return nil, syscall.EINVAL
	}
	return nil, again(func() error { return syscall.Chmod(r.path, r.mode&modeBits) })
}

func symlink(r *request) ([]byte, error) { return nil, symlinkat(r.path, atCwd, r.second) }

func readlink(r *request) ([]byte, error) {
	var buffer [maxPath + 1]byte
	n, err := readlinkat(atCwd, r.path, buffer[:])
	if err != nil {
		return nil, err
	}
	return frame.AppendBytes(nil, tagFound, buffer[:n]), nil
}

func access(r *request) ([]byte, error) {
	return nil, again(func() error { return syscall.Access(r.path, r.wanted) })
}

func utimes(r *request) ([]byte, error) { return nil, utimensat(atCwd, r.path, r.atime, r.mtime, 0) }
