package ramcopy

import (
	"bytes"
	"errors"
	"syscall"
	"unsafe"
)

const (
	ioctlClone = 0x40049409 // FICLONE
	seekData   = 3          // SEEK_DATA
	seekHole   = 4          // SEEK_HOLE
	punchHole  = 1 | 2      // FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
	// shortestGap is how many changed pages in a row are worth leaving out of the copy of the base.
	shortestGap = 64
	// plainCopySize is how much to copy at a time where the kernel cannot do it by itself, in bytes.
	plainCopySize = 1 << 20
)

var zeroPage [pageSize]byte

// copyBase brings the base's data into the target, but for what has changed already: a page never changes back.
func (c *Copier) copyBase(changed []run) error {
	target, base := c.options.Target, c.options.Base
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, target.Fd(), ioctlClone, base.Fd())
	isCloned := errno == 0
	for offset := int64(0); offset < c.options.Size; {
		start, end, err := nextData(int(base.Fd()), offset, c.options.Size)
		if err != nil {
			return storageError(err)
		}
		if start == end {
			return nil
		}
		first, count := start/pageSize, (end+pageSize-1)/pageSize-start/pageSize
		if isCloned {
			c.fromBase.add(first, count)
		} else {
			var rest []run
			rest, changed = without(run{first, count}, changed)
			for _, r := range rest {
				if err := c.copyRange(r.first*pageSize, r.count*pageSize); err != nil {
					return storageError(err)
				}
				c.fromBase.add(r.first, r.count)
			}
		}
		offset = (first + count) * pageSize
	}
	return nil
}

// nextData finds data at or behind an offset; start and end are the same when there is none.
func nextData(fd int, offset, size int64) (start, end int64, err error) {
	start, err = syscall.Seek(fd, offset, seekData)
	if errors.Is(err, syscall.ENXIO) {
		return size, size, nil
	}
	if err != nil {
		return 0, 0, err
	}
	if end, err = syscall.Seek(fd, start, seekHole); err != nil {
		return 0, 0, err
	}
	return min64(start, size), min64(end, size), nil
}

// without cuts long runs out of a row of pages. Both lists are in order; runs that end before the row are dropped.
func without(row run, gaps []run) (rest, remaining []run) {
	at, end := row.first, row.first+row.count
	for len(gaps) > 0 && gaps[0].first < end {
		gap := gaps[0]
		gapEnd := gap.first + gap.count
		if gap.count >= shortestGap && gapEnd > at {
			if gap.first > at {
				rest = append(rest, run{at, gap.first - at})
			}
			at = gapEnd
		}
		if gapEnd > end {
			break
		}
		gaps = gaps[1:]
	}
	if at < end {
		rest = append(rest, run{at, end - at})
	}
	return rest, gaps
}

func (c *Copier) copyRange(offset, size int64) error {
	from, to, end := offset, offset, offset+size
	for from < end {
		n, _, errno := syscall.Syscall6(sysCopyFileRange, c.options.Base.Fd(), uintptr(unsafe.Pointer(&from)),
			c.options.Target.Fd(), uintptr(unsafe.Pointer(&to)), uintptr(end-from), 0)
		switch {
		case errno == syscall.EINTR:
		case errno == syscall.ENOSPC || errno == syscall.EDQUOT || errno == syscall.EIO:
			return errno
		case errno != 0 || n == 0:
			// Not between these two files, or not on this kernel.
			return c.copyPlainly(from, end)
		}
	}
	return nil
}

func (c *Copier) copyPlainly(offset, end int64) error {
	part := make([]byte, plainCopySize)
	for offset < end {
		part := part[:min64(end-offset, plainCopySize)]
		if _, err := c.options.Base.ReadAt(part, offset); err != nil {
			return err
		}
		if _, err := c.options.Target.WriteAt(part, offset); err != nil {
			return err
		}
		offset += int64(len(part))
	}
	return nil
}

// write brings changed pages into the target: zeros as holes, the others as they are.
func (c *Copier) write(part chunk) error {
	data := part.data
	for _, r := range part.runs {
		for done := int64(0); done < r.count; {
			kind := c.kindOf(r.first+done, data)
			count := int64(1)
			for done+count < r.count && c.kindOf(r.first+done+count, data[count*pageSize:]) == kind {
				count++
			}
			if err := c.put(kind, (r.first+done)*pageSize, data[:count*pageSize]); err != nil {
				return storageError(err)
			}
			data = data[count*pageSize:]
			done += count
		}
	}
	return nil
}

type kind int

const (
	kindData kind = iota
	// kindHole is a page of zeros where the target has a hole.
	kindHole
	// kindCleared is a page of zeros where the target has the base's data.
	kindCleared
)

func (c *Copier) kindOf(page int64, data []byte) kind {
	if !bytes.Equal(data[:pageSize], zeroPage[:]) {
		return kindData
	}
	if c.fromBase.has(page) {
		return kindCleared
	}
	return kindHole
}

func (c *Copier) put(kind kind, offset int64, data []byte) error {
	switch kind {
	case kindHole:
		return nil
	case kindCleared:
		if syscall.Fallocate(int(c.options.Target.Fd()), punchHole, offset, int64(len(data))) == nil {
			return nil
		}
	}
	_, err := c.options.Target.WriteAt(data, offset)
	return err
}
