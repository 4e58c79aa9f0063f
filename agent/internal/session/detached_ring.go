package session

import (
	"math/bits"
	"syscall"

	"smolvm.dev/agent/internal/frame"
)

// ringSize is how much of a detached process's output is kept, in bytes.
const ringSize = 256 << 10

// ring keeps the last output of a process. Every byte has one bit that says which output it came from, so that however
// the two mix, it takes no more memory. That is outside of Go's heap, which would grow to a multiple of it before it is
// collected, and the kernel gives it page by page, as it is written to.
type ring struct {
	data  []byte // nil when there is none any more
	marks []byte // a bit for each byte of data: 1 for stderr
	start uint64 // offset of the oldest byte kept
	end   uint64 // offset behind the newest
	lost  counts // bytes before start
}

// counts are bytes by channel.
type counts [3]uint64

func newRing() (*ring, error) {
	memory, err := syscall.Mmap(-1, 0, ringSize+ringSize/8, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil, err
	}
	return &ring{data: memory[:ringSize:len(memory)], marks: memory[ringSize:]}, nil
}

// free gives the memory back. Nothing may follow.
func (r *ring) free() {
	_ = syscall.Munmap(r.data[:cap(r.data)])
	r.data, r.marks = nil, nil
}

// write adds output, which is never longer than the ring.
func (r *ring) write(channel uint8, p []byte) {
	n := uint64(len(p))
	if kept := r.end - r.start; kept+n > ringSize {
		over := kept + n - ringSize
		r.lost = r.lost.plus(r.count(r.start, over))
		r.start += over
	}
	at := r.end % ringSize
	copied := copy(r.data[at:], p)
	copy(r.data, p[copied:])
	r.mark(at, uint64(copied), channel == frame.Stderr)
	r.mark(0, n-uint64(copied), channel == frame.Stderr)
	r.end += n
}

// mark sets n bits from a position on.
func (r *ring) mark(at, n uint64, set bool) {
	for n > 0 {
		if at%8 == 0 && n >= 8 {
			r.marks[at/8] = 0
			if set {
				r.marks[at/8] = 0xff
			}
			at, n = at+8, n-8
			continue
		}
		if bit := byte(1) << (at % 8); set {
			r.marks[at/8] |= bit
		} else {
			r.marks[at/8] &^= bit
		}
		at, n = at+1, n-1
	}
}

func (r *ring) isStderr(at uint64) bool { return r.marks[at/8]>>(at%8)&1 != 0 }

// count returns from which outputs the n bytes from an offset on came. They are kept.
func (r *ring) count(offset, n uint64) counts {
	stderr := uint64(0)
	for rest := n; rest > 0; {
		at := offset % ringSize
		if at%8 == 0 && rest >= 8 {
			stderr += uint64(bits.OnesCount8(r.marks[at/8]))
			offset, rest = offset+8, rest-8
			continue
		}
		if r.isStderr(at) {
			stderr++
		}
		offset, rest = offset+1, rest-1
	}
	return counts{frame.Stdout: n - stderr, frame.Stderr: stderr}
}

// run returns output from an offset on, which is kept: as much as came from one channel and lies in one piece.
func (r *ring) run(offset uint64) (channel uint8, p []byte) {
	at := offset % ringSize
	most := r.end - offset
	if most > ringSize-at {
		most = ringSize - at
	}
	stderr := r.isStderr(at)
	whole := byte(0)
	channel = frame.Stdout
	if stderr {
		channel, whole = frame.Stderr, 0xff
	}
	n := uint64(0)
	for n < most {
		if next := at + n; next%8 == 0 && most-n >= 8 && r.marks[next/8] == whole {
			n += 8
		} else if r.isStderr(next) == stderr {
			n++
		} else {
			break
		}
	}
	return channel, r.data[at : at+n]
}

func (c counts) plus(d counts) counts {
	for i := range c {
		c[i] += d[i]
	}
	return c
}

func (c counts) minus(d counts) counts {
	for i := range c {
		c[i] -= d[i]
	}
	return c
}
