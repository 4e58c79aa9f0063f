// Package fuse is the server's side of the Linux kernel's FUSE protocol (<linux/fuse.h>): messages, their limits, and
// which operation a request is. The kernel at the other end belongs to a guest that is not trusted, so every message
// is checked. What the operations do is the business of a FileSystem.
package fuse

import (
	"bytes"
	"encoding/binary"
	"syscall"
)

// Sizes of the headers, in bytes.
const (
	RequestHeaderSize = 40
	AnswerHeaderSize  = 16
)

const (
	// MaxTransfer is the most data that one READ or WRITE carries, in bytes.
	MaxTransfer = 256 << 10
	// MaxMessage is the longest message in either direction, in bytes: a WRITE with its arguments.
	MaxMessage = MaxTransfer + 4096
	// MaxName is NAME_MAX of Linux, in bytes.
	MaxName = 255
	// MaxPath is PATH_MAX of Linux without the final NUL, in bytes; a link's target may be as long.
	MaxPath = 4095
	// RootID is the node that every other one is reached from.
	RootID = 1
)

// Of the protocol: major 7 is the only one there is. Our structs are those of minor 31; an older kernel that has
// init_out in its long form (since 23, Linux 3.15) gets its own minor back.
const (
	protocolMajor    = 7
	protocolMinor    = 31
	protocolMinorMin = 23
)

type opcode uint32

const (
	opLookup      opcode = 1
	opForget      opcode = 2
	opGetattr     opcode = 3
	opSetattr     opcode = 4
	opReadlink    opcode = 5
	opSymlink     opcode = 6
	opMknod       opcode = 8
	opMkdir       opcode = 9
	opUnlink      opcode = 10
	opRmdir       opcode = 11
	opRename      opcode = 12
	opLink        opcode = 13
	opOpen        opcode = 14
	opRead        opcode = 15
	opWrite       opcode = 16
	opStatfs      opcode = 17
	opRelease     opcode = 18
	opFsync       opcode = 20
	opSetxattr    opcode = 21
	opRemovexattr opcode = 24
	opInit        opcode = 26
	opOpendir     opcode = 27
	opReaddir     opcode = 28
	opReleasedir  opcode = 29
	opFsyncdir    opcode = 30
	opCreate      opcode = 35
	opDestroy     opcode = 38
	opBatchForget opcode = 42
	opFallocate   opcode = 43
	opReaddirplus opcode = 44
	opRename2     opcode = 45
	opLseek       opcode = 46
	opCopyRange   opcode = 47
	opTmpfile     opcode = 51
)

// Flags of INIT.
const (
	initAsyncRead       = 1 << 0
	initAtomicTruncate  = 1 << 3
	initBigWrites       = 1 << 5
	initAutoInvalidate  = 1 << 12
	initReaddirplus     = 1 << 13
	initReaddirplusAuto = 1 << 14
	initAsyncDirect     = 1 << 15
	initParallelDirs    = 1 << 18
	initMaxPages        = 1 << 22

	initWanted = initAsyncRead | initAtomicTruncate | initBigWrites | initAutoInvalidate | initReaddirplus |
		initReaddirplusAuto | initAsyncDirect | initParallelDirs | initMaxPages
)

// header is what every request begins with.
type header struct {
	length uint32
	op     opcode
	unique uint64
	node   uint64
}

func parseHeader(p []byte) header {
	_ = p[RequestHeaderSize-1]
	return header{
		length: native.Uint32(p),
		op:     opcode(native.Uint32(p[4:])),
		unique: native.Uint64(p[8:]),
		node:   native.Uint64(p[16:]),
	}
}

// native is the byte order of the guest's kernel: every architecture that SmolVM runs on is little-endian.
var native = binary.LittleEndian

// putAnswerHeader fills in the header of a whole answer.
func putAnswerHeader(p []byte, unique uint64, errno syscall.Errno) {
	native.PutUint32(p, uint32(len(p)))
	native.PutUint32(p[4:], uint32(-int32(errno)))
	native.PutUint64(p[8:], unique)
}

// arguments reads the fields of a request one after the other. What is not there reads as zero and is remembered.
type arguments struct {
	p     []byte
	short bool
}

func (a *arguments) take(n int) []byte {
	if n > len(a.p) {
		a.short = true
		a.p = nil
		return make([]byte, n)
	}
	taken := a.p[:n]
	a.p = a.p[n:]
	return taken
}

func (a *arguments) u32() uint32 { return native.Uint32(a.take(4)) }
func (a *arguments) u64() uint64 { return native.Uint64(a.take(8)) }
func (a *arguments) skip(n int)  { _ = a.take(n) }

// text reads up to a NUL, which must be there.
func (a *arguments) text() string {
	end := bytes.IndexByte(a.p, 0)
	if end < 0 {
		a.short = true
		a.p = nil
		return ""
	}
	found := string(a.p[:end])
	a.p = a.p[end+1:]
	return found
}

// CheckName accepts the name of one thing in a directory, and nothing that leads elsewhere.
func CheckName(name string) error {
	switch {
	case len(name) > MaxName:
		return syscall.ENAMETOOLONG
	case name == "" || name == "." || name == "..":
		return syscall.EINVAL
	}
	for i := 0; i < len(name); i++ {
		if name[i] == '/' || name[i] == 0 {
			return syscall.EINVAL
		}
	}
	return nil
}

// Attributes are those of one file, as the guest is to see them.
type Attributes struct {
	Inode, Size, Blocks   uint64
	Atime, Mtime, Ctime   syscall.Timespec
	Mode, Links, UID, GID uint32
	Device                uint32 // as the kernel encodes it
	BlockSize             uint32
	ValidSeconds          uint32
}

const attributesSize = 88

func appendAttributes(p []byte, a *Attributes) []byte {
	for _, v := range [...]uint64{a.Inode, a.Size, a.Blocks, uint64(a.Atime.Sec), uint64(a.Mtime.Sec),
		uint64(a.Ctime.Sec)} {
		p = appendU64(p, v)
	}
	for _, v := range [...]uint32{uint32(a.Atime.Nsec), uint32(a.Mtime.Nsec), uint32(a.Ctime.Nsec), a.Mode, a.Links,
		a.UID, a.GID, a.Device, a.BlockSize, 0} {
		p = appendU32(p, v)
	}
	return p
}

// Entry is a node and what is known of it. Node 0: there is none, and nothing is to be remembered.
type Entry struct {
	Node         uint64
	ValidSeconds uint64 // for how long the name leads to the node
	Attributes   Attributes
}

const entrySize = 40 + attributesSize

func appendEntry(p []byte, e *Entry) []byte {
	p = appendU64(p, e.Node)
	p = appendU64(p, 0) // generation: ids are never used again
	p = appendU64(p, e.ValidSeconds)
	p = appendU64(p, uint64(e.Attributes.ValidSeconds))
	p = appendU32(p, 0)
	p = appendU32(p, 0)
	return appendAttributes(p, &e.Attributes)
}

func appendU32(p []byte, v uint32) []byte {
	return append(p, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
}

func appendU64(p []byte, v uint64) []byte {
	return appendU32(appendU32(p, uint32(v)), uint32(v>>32))
}
