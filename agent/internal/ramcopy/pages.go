package ramcopy

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"unsafe"
)

// Bits of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
const (
	pagePresent = 1 << 63
	pageSwapped = 1 << 62
	// pageOfFile also tells shared memory; of a private mapping it tells a page that has not changed.
	pageOfFile = 1 << 61
	entrySize  = 8
	scanAtOnce = 64 << 10 // entries, so 256 MiB of memory
)

// run is a row of pages.
type run struct {
	first, count int64
}

// chunk is what was copied of a few runs, without gaps.
type chunk struct {
	runs []run
	data []byte
}

// scan finds the pages that belong to the process alone.
func (c *Copier) scan(first, count int64) ([]run, error) {
	var runs []run
	entries := make([]byte, min64(count, scanAtOnce)*entrySize)
	base := int64(c.options.Address / pageSize)
	for done := int64(0); done < count; {
		part := entries[:min64(count-done, scanAtOnce)*entrySize]
		n, err := c.pagemap.ReadAt(part, (base+first+done)*entrySize)
		if n < len(part) {
			return nil, fmt.Errorf("%w: its page map ends early: %v", ErrSource, err)
		}
		runs = appendChanged(runs, part, first+done)
		done += int64(len(part) / entrySize)
	}
	return runs, nil
}

func appendChanged(runs []run, entries []byte, first int64) []run {
	for i := 0; i < len(entries); i += entrySize {
		entry := binary.LittleEndian.Uint64(entries[i:])
		if entry&(pagePresent|pageSwapped) == 0 || entry&pageOfFile != 0 {
			continue
		}
		page := first + int64(i/entrySize)
		if last := len(runs) - 1; last >= 0 && runs[last].first+runs[last].count == page {
			runs[last].count++
		} else {
			runs = append(runs, run{page, 1})
		}
	}
	return runs
}

func countPages(runs []run) int64 {
	pages := int64(0)
	for _, r := range runs {
		pages += r.count
	}
	return pages
}

// iovec is the kernel's struct iovec; as numbers, because one of its users points into another process.
type iovec struct {
	base, length uint64
}

// readRuns copies runs of another process's pages one behind the other.
func readRuns(pid int, address uint64, runs []run, into []byte) error {
	remote := make([]iovec, len(runs))
	for i, r := range runs {
		remote[i] = iovec{address + uint64(r.first)*pageSize, uint64(r.count) * pageSize}
	}
	local := syscall.Iovec{Base: &into[0]}
	local.SetLen(len(into))
	n, _, errno := syscall.Syscall6(sysProcessVMReadv, uintptr(pid), uintptr(unsafe.Pointer(&local)), 1,
		uintptr(unsafe.Pointer(&remote[0])), uintptr(len(remote)), 0)
	switch {
	case errno == syscall.EPERM || errno == syscall.ENOSYS:
		return fmt.Errorf("%w: %v", ErrForbidden, errno)
	case errno != 0:
		return fmt.Errorf("%w: %v", ErrSource, errno)
	case int(n) != len(into):
		return fmt.Errorf("%w: only %d of %d bytes could be read", ErrSource, n, len(into))
	}
	return nil
}

// bitmap is a set of pages.
type bitmap []uint64

func newBitmap(pages int64) bitmap {
	return make(bitmap, (pages+63)/64)
}

func (b bitmap) add(first, count int64) {
	for page := first; page < first+count; page++ {
		b[page/64] |= 1 << uint(page%64)
	}
}

func (b bitmap) has(page int64) bool {
	return b[page/64]&(1<<uint(page%64)) != 0
}
