package files

import (
	"strings"
	"syscall"
)

const (
	// privateMode keeps others out of what is not whole yet.
	privateMode = 0700
	// rootName is the name of the tree's root in its staging directory.
	rootName = "tree"
)

// stage is a directory in which a tree is built until it is whole. It holds the directories open that lead to where
// the tree grows, so that a path is never looked up from its beginning, and gives each its time when it is left.
type stage struct {
	base   int // descriptor of the directory that it is in
	name   string
	top    int    // its own descriptor
	kept   uint32 // the permission bits that survive the making of a file here: umask and default ACL take the others
	dir    string // path of the innermost open directory, from top
	levels []level
	// fresh is a directory made last, whose time is not set yet; it is in the innermost open one.
	fresh     string
	freshTime syscall.Timespec
}

// level is an open directory of the tree.
type level struct {
	fd    int // -1: closed, because it is too far up
	from  int // where its name begins in stage.dir
	mtime syscall.Timespec
}

var omit = syscall.Timespec{Nsec: utimeOmit}

func newStage(base int) (*stage, error) {
	name, err := temporaryName()
	if err != nil {
		return nil, err
	}
	if err := syscall.Mkdirat(base, name, permissionBits); err != nil {
		return nil, err
	}
	s := &stage{base: base, name: name, top: -1}
	var stat syscall.Stat_t
	if s.top, err = openat(base, name, directoryFlags, 0); err == nil {
		err = syscall.Fstat(s.top, &stat)
	}
	s.kept = stat.Mode & permissionBits
	if err == nil {
		err = syscall.Fchmod(s.top, privateMode)
	}
	if err != nil {
		s.discard()
		return nil, err
	}
	return s, nil
}

// discard removes the stage with all that is still in it.
func (s *stage) discard() {
	for _, l := range s.levels {
		if l.fd >= 0 {
			_ = syscall.Close(l.fd)
		}
	}
	s.levels = nil
	if s.top >= 0 {
		_ = syscall.Close(s.top)
	}
	if unlinkat(s.base, s.name, atRemovedir) != nil {
		_ = removeTree(s.base, s.name, nil)
	}
}

// within makes the directory that a path is in the innermost open one, and returns it with the path's last name.
func (s *stage) within(path string) (fd int, name string, err error) {
	dir := ""
	if slash := strings.LastIndexByte(path, '/'); slash >= 0 {
		dir, name = path[:slash], path[slash+1:]
	} else {
		name = path
	}
	if dir != s.dir {
		if err := s.move(dir); err != nil {
			return -1, "", err
		}
	} else if err := s.settleFresh(); err != nil {
		return -1, "", err
	}
	return s.inner(), name, nil
}

func (s *stage) inner() int {
	if len(s.levels) == 0 {
		return s.top
	}
	return s.levels[len(s.levels)-1].fd
}

// move goes to another directory: up as far as it must, then down.
func (s *stage) move(dir string) error {
	for len(s.levels) > 0 && !(strings.HasPrefix(dir, s.dir) && (len(dir) == len(s.dir) || dir[len(s.dir)] == '/')) {
		if err := s.leave(); err != nil {
			return err
		}
	}
	for len(s.dir) < len(dir) {
		from := len(s.dir)
		if from > 0 {
			from++
		}
		to := len(dir)
		if slash := strings.IndexByte(dir[from:], '/'); slash >= 0 {
			to = from + slash
		}
		if err := s.enter(dir[from:to]); err != nil {
			return err
		}
		s.levels[len(s.levels)-1].from = from
		s.dir = dir[:to]
	}
	return nil
}

// enter opens a directory in the innermost one.
func (s *stage) enter(name string) error {
	fd, err := openat(s.inner(), name, directoryFlags, 0)
	if err == syscall.ENOENT || err == syscall.ENOTDIR || err == syscall.ELOOP {
		return errTree
	}
	if err != nil {
		return err
	}
	l := level{fd: fd}
	if s.fresh == name {
		l.mtime, s.fresh = s.freshTime, ""
	} else {
		var stat syscall.Stat_t
		if err := syscall.Fstat(fd, &stat); err != nil {
			_ = syscall.Close(fd)
			return err
		}
		l.mtime = stat.Mtim
	}
	if err := s.settleFresh(); err != nil {
		_ = syscall.Close(fd)
		return err
	}
	s.levels = append(s.levels, l)
	if far := len(s.levels) - 1 - maxOpenDepth; far >= 0 {
		return s.shut(&s.levels[far])
	}
	return nil
}

// shut sets the time of a directory, now that nothing is to be made in it, and closes it.
func (s *stage) shut(l *level) error {
	if l.fd < 0 {
		return nil
	}
	err := utimensat(l.fd, "", omit, l.mtime, 0)
	_ = syscall.Close(l.fd)
	l.fd = -1
	return err
}

// leave closes the innermost directory.
func (s *stage) leave() error {
	if err := s.settleFresh(); err != nil {
		return err
	}
	last := len(s.levels) - 1
	if err := s.shut(&s.levels[last]); err != nil {
		return err
	}
	end := s.levels[last].from - 1
	if end < 0 {
		end = 0
	}
	s.levels, s.dir = s.levels[:last], s.dir[:end]
	if last > 0 && s.levels[last-1].fd < 0 {
		return s.reopen()
	}
	return nil
}

// reopen opens the innermost directory again, by all that lead to it.
func (s *stage) reopen() error {
	fd := s.top
	for _, name := range strings.Split(s.dir, "/") {
		next, err := openat(fd, name, directoryFlags, 0)
		if fd != s.top {
			_ = syscall.Close(fd)
		}
		if err != nil {
			return err
		}
		fd = next
	}
	s.levels[len(s.levels)-1].fd = fd
	return nil
}

// settleFresh sets the time of a directory in which nothing is to be made for now.
func (s *stage) settleFresh() error {
	if s.fresh == "" {
		return nil
	}
	name := s.fresh
	s.fresh = ""
	return utimensat(s.inner(), name, omit, s.freshTime, atSymlinkNofoll)
}

// complete sets the times that are still to be set.
func (s *stage) complete() error {
	if err := s.move(""); err != nil {
		return err
	}
	return s.settleFresh()
}

// makeDirectory, makeLink and makeFile: that a name is there already is the fault of the tree.
func (s *stage) makeDirectory(path string, mode uint32, mtime syscall.Timespec) error {
	dir, name, err := s.within(path)
	if err != nil {
		return err
	}
	if err := treeFault(syscall.Mkdirat(dir, name, mode)); err != nil {
		return err
	}
	s.fresh, s.freshTime = name, mtime
	if mode&^s.kept != 0 {
		return syscall.Fchmodat(dir, name, mode, 0)
	}
	return nil
}

func (s *stage) makeLink(path, target string, mtime syscall.Timespec) error {
	dir, name, err := s.within(path)
	if err != nil {
		return err
	}
	if err := treeFault(symlinkat(target, dir, name)); err != nil {
		return err
	}
	return utimensat(dir, name, omit, mtime, atSymlinkNofoll)
}

func (s *stage) makeFile(path string, mode uint32) (fd int, err error) {
	dir, name, err := s.within(path)
	if err != nil {
		return -1, err
	}
	fd, err = openat(dir, name, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_NOFOLLOW, mode)
	if err != nil {
		return -1, treeFault(err)
	}
	if mode&^s.kept != 0 {
		if err := syscall.Fchmod(fd, mode); err != nil {
			_ = syscall.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// mustBeFree makes sure that nothing has this path yet, and that its directory is there.
func (s *stage) mustBeFree(path string) error {
	dir, name, err := s.within(path)
	if err != nil {
		return err
	}
	var stat syscall.Stat_t
	switch err := fstatat(dir, name, &stat, atSymlinkNofoll); err {
	case nil:
		return errTree
	case syscall.ENOENT:
		return nil
	default:
		return err
	}
}

func treeFault(err error) error {
	if err == syscall.EEXIST {
		return errTree
	}
	return err
}
