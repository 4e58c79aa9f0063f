// Package logfile is a log on disk that never grows past its limit: the newest half is kept, the older half in a
// second file. It drops what it cannot write, because its writer must never wait for a full disk.
package logfile

import (
	"os"
	"syscall"
)

// File is one bounded log, NAME.log and NAME.log.1 in a directory.
type File struct {
	path string
	half int64
	size int64
	file *os.File
}

// New returns the log; nothing is opened before the first write.
func New(dir, name string, limit int64) *File {
	return &File{path: dir + "/" + name + ".log", half: limit / 2}
}

// Append adds p, in as many files as it needs. What fails is dropped and tried afresh with the next bytes.
func (f *File) Append(p []byte) {
	for len(p) > 0 {
		if f.file == nil && !f.open() {
			return
		}
		if f.size >= f.half {
			if !f.rotate() {
				return
			}
			continue
		}
		n := len(p)
		if room := f.half - f.size; int64(n) > room {
			n = int(room)
		}
		written, err := f.file.Write(p[:n])
		f.size += int64(written)
		if err != nil {
			return
		}
		p = p[n:]
	}
}

// open continues a log that is there; a symbolic link in its place is refused.
func (f *File) open() bool {
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return false
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		file.Close()
		return false
	}
	f.file, f.size = file, info.Size()
	return true
}

func (f *File) rotate() bool {
	f.Close()
	return os.Rename(f.path, f.path+".1") == nil && f.open()
}

// Close closes the file; a later Append opens it again.
func (f *File) Close() {
	if f.file != nil {
		f.file.Close()
		f.file = nil
	}
}
