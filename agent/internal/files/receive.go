package files

import (
	"syscall"

	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/session"
)

// receiver builds a tree as its records come.
type receiver struct {
	tree     treeReader
	stage    *stage
	entries  uint64
	rootMode uint32 // S_IFMT of the root
	file     openFile
}

// openFile is the file whose content comes next.
type openFile struct {
	fd      int // -1: none
	size    int64
	written int64 // end of what was written last
	mtime   syscall.Timespec
}

// receive is fs.receive.
func receive(r *request, x exchange) ([]byte, error) {
	buffer := inputs.Get().(*[inputSize]byte)
	defer inputs.Put(buffer)
	rx := &receiver{tree: treeReader{source: x, buffer: buffer}, file: openFile{fd: -1}}
	var record treeRecord
	if err := rx.tree.next(&record); err != nil {
		return nil, err
	}
	switch record.kind {
	case recordDirectory:
		rx.rootMode = syscall.S_IFDIR
	case recordFile:
		rx.rootMode = syscall.S_IFREG
	case recordLink:
		rx.rootMode = syscall.S_IFLNK
	}
	if rx.rootMode == 0 || len(record.path) > 0 {
		return nil, errTree
	}
	place, err := findPlace(r.path, rx.rootMode)
	if err != nil {
		return nil, err
	}
	defer place.close()
	// What cannot end well is refused before all of it is sent.
	if err := place.check(rx.rootMode); err != nil {
		return nil, err
	}
	if rx.stage, err = newStage(place.base); err != nil {
		return nil, err
	}
	defer rx.stage.discard()
	if err := rx.build(&record); err != nil {
		return nil, err
	}
	if isCancelled(x) {
		return nil, session.ErrCancelled
	}
	if err := place.take(rx.stage.top, rx.rootMode); err != nil {
		return nil, err
	}
	return frame.AppendU64(nil, tagEntries, rx.entries), nil
}

// build takes all records, the first of which is given.
func (rx *receiver) build(r *treeRecord) error {
	defer rx.dropFile()
	for {
		if r.kind == recordContent {
			if err := rx.content(r); err != nil {
				return err
			}
		} else {
			if err := rx.endFile(); err != nil {
				return err
			}
			if r.kind == recordEnd {
				if err := rx.stage.complete(); err != nil {
					return err
				}
				return rx.tree.finish(r)
			}
			if err := rx.entry(r); err != nil {
				return err
			}
		}
		if err := rx.tree.next(r); err != nil {
			return err
		}
	}
}

func (rx *receiver) entry(r *treeRecord) error {
	path := rootName
	if len(r.path) > 0 {
		path = rootName + "/" + string(r.path)
	}
	mtime := syscall.NsecToTimespec(r.mtime)
	rx.entries++
	switch r.kind {
	case recordDirectory:
		return rx.stage.makeDirectory(path, r.mode, mtime)
	case recordLink:
		return rx.stage.makeLink(path, string(r.target), mtime)
	case recordFile:
		fd, err := rx.stage.makeFile(path, r.mode)
		rx.file = openFile{fd: fd, size: r.size, mtime: mtime}
		return err
	}
	rx.entries--
	return rx.stage.mustBeFree(path)
}

// content writes a record of content. Its bytes come as they come, so it is written piece by piece.
func (rx *receiver) content(r *treeRecord) error {
	f := &rx.file
	if f.fd < 0 || r.offset < f.written || r.offset+int64(r.length) > f.size {
		return errTree
	}
	at := r.offset
	for left := r.length; left > 0; {
		piece, err := rx.tree.content(left)
		if err != nil {
			return err
		}
		left -= len(piece)
		for len(piece) > 0 {
			n := 0
			err := again(func() (err error) {
				n, err = syscall.Pwrite(f.fd, piece, at)
				return err
			})
			if err != nil {
				return err
			}
			if n == 0 {
				return syscall.EIO
			}
			piece = piece[n:]
			at += int64(n)
		}
	}
	f.written = at
	return nil
}

// endFile gives the open file, if there is one, its size and time.
func (rx *receiver) endFile() error {
	f := &rx.file
	if f.fd < 0 {
		return nil
	}
	defer rx.dropFile()
	if f.size != f.written {
		if err := again(func() error { return syscall.Ftruncate(f.fd, f.size) }); err != nil {
			return err
		}
	}
	return utimensat(f.fd, "", omit, f.mtime, 0)
}

func (rx *receiver) dropFile() {
	if rx.file.fd >= 0 {
		_ = syscall.Close(rx.file.fd)
		rx.file.fd = -1
	}
}
