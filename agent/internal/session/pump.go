package session

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"smolvm.dev/agent/internal/frame"
)

// maxChunk is the most output that goes into one frame, in bytes. With its header a frame then fits the 32 KiB
// that the virtio console driver takes in one piece, and control frames never wait long for their turn.
const maxChunk = 32<<10 - frame.HeaderSize

const fionread = 0x541b // FIONREAD, <asm-generic/ioctls.h>: bytes that a pipe holds

// chunks are buffers of one frame. They are taken when there is something to read, so idle commands hold none.
var chunks = sync.Pool{New: func() interface{} { return new([frame.HeaderSize + maxChunk]byte) }}

// pump carries one output of a command to the client.
type pump struct {
	exec    *exec
	channel uint8
	file    *os.File
	raw     syscall.RawConn
	limit   uint64 // bytes still to be sent before the rest is dropped
	dropped uint64

	grown bool // the pipe is a large one

	// Of the read in progress.
	buffer *[frame.HeaderSize + maxChunk]byte
	want   int
	got    int
	err    error
}

func newPump(e *exec, channel uint8, file *os.File, limit uint64) *pump {
	p := &pump{exec: e, channel: channel, file: file, limit: limit}
	p.raw, _ = file.SyscallConn()
	return p
}

// interrupt ends a wait for output.
func (p *pump) interrupt() { _ = p.file.SetReadDeadline(past) }

// run returns when the output has ended, or the command has and what the pipe then held is sent.
func (p *pump) run() {
	defer p.file.Close()
	if p.stream() {
		// Whoever else holds the pipe open may write for ever: only what is there now counts.
		p.drain(p.held())
	}
}

// stream sends what comes while the command runs, and reports whether there may be more when it has ended.
func (p *pump) stream() bool {
	attempt := p.attempt // one closure for all reads
	for {
		room, ended, dead := p.await(false)
		if dead || ended {
			return !dead
		}
		p.want = room
		if err := p.raw.Read(attempt); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			return false
		}
		if !p.deliver() {
			return false
		}
	}
}

// drain sends the next n bytes, if there are so many.
func (p *pump) drain(n int) {
	for n > 0 {
		room, _, dead := p.await(true)
		if dead {
			return
		}
		if p.want = room; n < room {
			p.want = n
		}
		_ = p.raw.Control(func(fd uintptr) { p.attempt(fd) })
		if p.buffer == nil || !p.deliver() {
			return
		}
		n -= p.got
	}
}

// await waits until there is a reason to go on: credit, the end of the command or that of the connection. It
// returns how much may be read.
func (p *pump) await(draining bool) (room int, ended, dead bool) {
	e := p.exec
	e.mu.Lock()
	defer e.mu.Unlock()
	for p.limit > 0 && e.credit[p.channel] == 0 && !e.dead && !e.detached && (draining || !e.ended) {
		e.changed.Wait()
	}
	if p.limit == 0 || e.detached {
		return maxChunk, e.ended, e.dead // dropped output needs no credit
	}
	allowed := uint64(maxChunk)
	if e.credit[p.channel] < allowed {
		allowed = e.credit[p.channel]
	}
	if p.limit < allowed {
		allowed = p.limit
	}
	return int(allowed), e.ended, e.dead
}

// attempt reads once; false means that there is nothing yet.
func (p *pump) attempt(fd uintptr) bool {
	p.buffer = chunks.Get().(*[frame.HeaderSize + maxChunk]byte)
	for {
		p.got, p.err = syscall.Read(int(fd), p.buffer[frame.HeaderSize:frame.HeaderSize+p.want])
		if p.err != syscall.EINTR {
			break
		}
	}
	if p.got == maxChunk && !p.grown {
		// Most commands say little, and need no large pipe.
		p.grown = true
		growPipe(fd)
	}
	if p.err == syscall.EAGAIN {
		chunks.Put(p.buffer)
		p.buffer = nil
		return false
	}
	return true
}

// deliver sends or drops what was read and reports whether there can be more.
func (p *pump) deliver() bool {
	buffer := p.buffer
	p.buffer = nil
	defer chunks.Put(buffer)
	if p.err != nil || p.got == 0 {
		return false
	}
	if p.limit == 0 {
		p.dropped += uint64(p.got)
		return true
	}
	if p.limit != noLimit {
		p.limit -= uint64(p.got)
	}
	e := p.exec
	e.mu.Lock()
	if e.detached {
		e.mu.Unlock()
		return true
	}
	e.credit[p.channel] -= uint64(p.got)
	e.mu.Unlock()
	if e.conn.outlet.sendData(buffer[:frame.HeaderSize+p.got], p.channel, e.id) == nil {
		return true
	}
	// The write was cut off by the end of the connection: a detached command must not find its output closed.
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.detached
}

func (p *pump) held() int {
	var n int32
	_ = p.raw.Control(func(fd uintptr) {
		_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, fd, fionread, uintptr(unsafe.Pointer(&n)))
	})
	return int(n)
}
