package fuse

import (
	"math"
	"syscall"
)

// perform does what one request asks for; p has room for the answer's header, and gets what follows it.
func (s *Server) perform(h header, a *arguments, p []byte) ([]byte, error) {
	if s.ReadOnly && h.op.changes() {
		return nil, syscall.EROFS
	}
	switch h.op {
	case opLookup:
		name, err := named(a)
		if err != nil {
			return nil, err
		}
		return entry(p)(s.FS.Lookup(h.node, name))
	case opGetattr:
		return s.getattr(h, a, p)
	case opReadlink:
		target, err := s.FS.Readlink(h.node)
		if len(target) > MaxPath {
			return nil, syscall.ENAMETOOLONG
		}
		return append(p, target...), err
	case opOpen:
		return s.open(h, a, p)
	case opRead:
		return s.read(a, p)
	case opLseek:
		return s.seek(a, p)
	case opRelease, opReleasedir:
		return s.release(h, a, p)
	case opOpendir:
		handle, err := s.FS.Opendir(h.node)
		return appendU64(appendU64(p, handle), 0), err
	case opReaddir, opReaddirplus:
		return s.readdir(h, a, p)
	case opStatfs:
		return s.statfs(p)
	case opDestroy:
		return p, nil
	}
	if h.op.changes() || h.op == opFsync || h.op == opFsyncdir {
		return s.change(h, a, p)
	}
	// Among these: FLUSH (nothing is held back), ACCESS (the guest's kernel decides), INTERRUPT (nothing takes long),
	// extended attributes, locks (the guest's kernel has its own). It asks once and remembers.
	return nil, syscall.ENOSYS
}

// changes says that a request would alter something. OPEN depends on its flags.
func (op opcode) changes() bool {
	switch op {
	case opSetattr, opSymlink, opMknod, opMkdir, opUnlink, opRmdir, opRename, opRename2, opLink, opWrite, opCreate,
		opFallocate, opSetxattr, opRemovexattr, opCopyRange, opTmpfile:
		return true
	}
	return false
}

// named reads the name that a request ends with.
func named(a *arguments) (string, error) {
	name := a.text()
	if a.short {
		return "", syscall.EINVAL
	}
	return name, CheckName(name)
}

// entry makes an answer of what a method gave.
func entry(p []byte) func(Entry, error) ([]byte, error) {
	return func(e Entry, err error) ([]byte, error) { return appendEntry(p, &e), err }
}

func attributes(p []byte) func(Attributes, error) ([]byte, error) {
	return func(v Attributes, err error) ([]byte, error) {
		p = appendU64(p, uint64(v.ValidSeconds))
		return appendAttributes(appendU64(p, 0), &v), err
	}
}

func opened(p []byte, o Opened) []byte {
	flags := uint32(0)
	if o.KeepCache {
		flags = openKeepCache
	}
	return appendU32(appendU32(appendU64(p, o.Handle), flags), 0)
}

func (s *Server) getattr(h header, a *arguments, p []byte) ([]byte, error) {
	flags := a.u32()
	a.skip(4)
	handle := a.u64()
	if a.short {
		return nil, syscall.EINVAL
	}
	if flags&getattrHandle == 0 {
		return attributes(p)(s.FS.Getattr(h.node, nil))
	}
	return attributes(p)(s.FS.Getattr(h.node, &handle))
}

func (s *Server) open(h header, a *arguments, p []byte) ([]byte, error) {
	flags := a.u32()
	switch {
	case a.short:
		return nil, syscall.EINVAL
	case s.ReadOnly && flags&openWrites != 0:
		return nil, syscall.EROFS
	}
	o, err := s.FS.Open(h.node, flags)
	return opened(p, o), err
}

// offset refuses what is none for the host's system calls.
func offset(v uint64) (int64, error) {
	if v > math.MaxInt64 {
		return 0, syscall.EINVAL
	}
	return int64(v), nil
}

func (s *Server) read(a *arguments, p []byte) ([]byte, error) {
	handle, at, size := a.u64(), a.u64(), a.u32()
	from, err := offset(at)
	if a.short || err != nil {
		return nil, syscall.EINVAL
	}
	if size > MaxTransfer {
		size = MaxTransfer
	}
	n, err := s.FS.Read(handle, p[AnswerHeaderSize:AnswerHeaderSize+int(size)], from)
	if err != nil {
		return nil, err
	}
	return p[:AnswerHeaderSize+n], nil
}

func (s *Server) seek(a *arguments, p []byte) ([]byte, error) {
	handle, at, whence := a.u64(), a.u64(), a.u32()
	from, err := offset(at)
	if a.short || err != nil {
		return nil, syscall.EINVAL
	}
	to, err := s.FS.Seek(handle, from, whence)
	return appendU64(p, uint64(to)), err
}

func (s *Server) release(h header, a *arguments, p []byte) ([]byte, error) {
	handle := a.u64()
	switch {
	case a.short:
		return nil, syscall.EINVAL
	case h.op == opRelease:
		s.FS.Release(handle)
	default:
		s.FS.Releasedir(handle)
	}
	return p, nil
}

func (s *Server) readdir(h header, a *arguments, p []byte) ([]byte, error) {
	handle, from, size := a.u64(), a.u64(), a.u32()
	if a.short {
		return nil, syscall.EINVAL
	}
	if size > MaxTransfer {
		size = MaxTransfer
	}
	list := &DirectoryList{Plus: h.op == opReaddirplus, p: p, limit: AnswerHeaderSize + int(size)}
	err := s.FS.Readdir(handle, from, list)
	if len(list.p) > AnswerHeaderSize {
		err = nil // What is in the list counts as given: its nodes must reach the guest.
	}
	return list.p, err
}

func (s *Server) statfs(p []byte) ([]byte, error) {
	v, err := s.FS.Statfs()
	for _, n := range [...]uint64{v.Blocks, v.Free, v.Available, v.Files, v.FreeFiles} {
		p = appendU64(p, n)
	}
	for _, n := range [...]uint32{v.BlockSize, v.NameLength, v.FragmentSize, 0, 0, 0, 0, 0, 0, 0} {
		p = appendU32(p, n)
	}
	return p, err
}

// change does what alters something, or makes it lasting.
func (s *Server) change(h header, a *arguments, p []byte) ([]byte, error) {
	switch h.op {
	case opSetattr:
		change := parseChange(a)
		if a.short {
			return nil, syscall.EINVAL
		}
		return attributes(p)(s.FS.Setattr(h.node, change))
	case opWrite:
		return s.writeFile(a, p)
	case opFsync, opFsyncdir:
		handle, flags := a.u64(), a.u32()
		if a.short {
			return nil, syscall.EINVAL
		}
		return p, s.FS.Fsync(handle, flags&fsyncDataOnly != 0)
	case opFallocate:
		return s.fallocate(a, p)
	case opRename, opRename2:
		return s.rename(h, a, p)
	}
	return s.changeNames(h, a, p)
}

func (s *Server) writeFile(a *arguments, p []byte) ([]byte, error) {
	handle, at, size := a.u64(), a.u64(), a.u32()
	a.skip(20) // flags, lock owner, flags of open, padding
	to, err := offset(at)
	if a.short || err != nil || uint64(size) != uint64(len(a.p)) || size > MaxTransfer {
		return nil, syscall.EINVAL
	}
	n, err := s.FS.Write(handle, a.p, to)
	return appendU32(appendU32(p, uint32(n)), 0), err
}

func (s *Server) fallocate(a *arguments, p []byte) ([]byte, error) {
	handle, at, n, mode := a.u64(), a.u64(), a.u64(), a.u32()
	from, err := offset(at)
	length, lengthErr := offset(n)
	if a.short || err != nil || lengthErr != nil {
		return nil, syscall.EINVAL
	}
	return p, s.FS.Fallocate(handle, mode, from, length)
}

func (s *Server) rename(h header, a *arguments, p []byte) ([]byte, error) {
	to, flags := a.u64(), uint32(0)
	if h.op == opRename2 {
		flags = a.u32()
		a.skip(4)
	}
	name, err := named(a)
	if err != nil {
		return nil, err
	}
	newName, err := named(a)
	if err != nil {
		return nil, err
	}
	return p, s.FS.Rename(h.node, name, to, newName, flags)
}

func (s *Server) changeNames(h header, a *arguments, p []byte) ([]byte, error) {
	var flags, mode uint32
	var old uint64
	switch h.op {
	case opMknod, opCreate:
		flags, mode = a.u32(), a.u32() // MKNOD has its mode first
		a.skip(8)
	case opMkdir:
		mode = a.u32()
		a.skip(4)
	case opLink:
		old = a.u64()
	case opUnlink, opRmdir, opSymlink:
	default:
		return nil, syscall.ENOSYS
	}
	name, err := named(a)
	if err != nil {
		return nil, err
	}
	switch h.op {
	case opMknod:
		mode = flags
		if kind := mode & syscall.S_IFMT; kind != syscall.S_IFREG && kind != 0 {
			return nil, syscall.EPERM
		}
		return entry(p)(s.FS.Mknod(h.node, name, mode))
	case opMkdir:
		return entry(p)(s.FS.Mkdir(h.node, name, mode))
	case opLink:
		e, err := s.FS.Link(old, h.node, name)
		if err == nil {
			s.expire(old) // Two names, two nodes, one file.
		}
		return appendEntry(p, &e), err
	case opUnlink:
		return p, s.FS.Unlink(h.node, name)
	case opRmdir:
		return p, s.FS.Rmdir(h.node, name)
	case opSymlink:
		return s.symlink(h, name, a, p)
	}
	e, o, err := s.FS.Create(h.node, name, flags, mode)
	return opened(appendEntry(p, &e), o), err
}

func (s *Server) symlink(h header, name string, a *arguments, p []byte) ([]byte, error) {
	target := a.text()
	switch {
	case a.short || target == "":
		return nil, syscall.EINVAL
	case len(target) > MaxPath:
		return nil, syscall.ENAMETOOLONG
	}
	return entry(p)(s.FS.Symlink(h.node, name, target))
}
