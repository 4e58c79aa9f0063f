package ramcopy

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"unsafe"
)

const (
	madviseHugePage      = 14 // MADV_HUGEPAGE
	madvisePopulateWrite = 23 // MADV_POPULATE_WRITE, Linux 5.14
)

// buffer is memory outside Go's heap, given out from its beginning to its end.
type buffer struct {
	memory []byte
	used   int64
}

func newBuffer(size int64) (*buffer, error) {
	if size <= 0 {
		return &buffer{}, nil
	}
	flags := syscall.MAP_PRIVATE | syscall.MAP_ANON | syscall.MAP_NORESERVE
	memory, err := syscall.Mmap(-1, 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, flags)
	if err != nil {
		return nil, fmt.Errorf("no address space for %d bytes: %w", size, err)
	}
	b := &buffer{memory: memory}
	b.advise(madviseHugePage, size)
	return b, nil
}

// populate makes the kernel find the first pages now. Where it cannot, it does so when they are written to.
func (b *buffer) populate(size int64) {
	b.advise(madvisePopulateWrite, min64(size, int64(len(b.memory))))
}

func (b *buffer) advise(advice uintptr, size int64) {
	if size > 0 {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, uintptr(unsafe.Pointer(&b.memory[0])), uintptr(size), advice)
	}
}

// take gives the next part, or nil when there is not that much left.
func (b *buffer) take(size int64) []byte {
	end := atomic.AddInt64(&b.used, size)
	if end > int64(len(b.memory)) {
		atomic.AddInt64(&b.used, -size)
		return nil
	}
	return b.memory[end-size : end : end]
}
