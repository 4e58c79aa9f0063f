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

// pump carries one output of a command to its sink.
type pump struct {
	task    *task
	sink    sink
	channel uint8
	file    *os.File
	raw     syscall.RawConn
	shared  bool // the file is a terminal, which is not the pump's alone

	grown bool // the pipe is a large one

	// Of the read in progress.
	buffer *[frame.HeaderSize + maxChunk]byte
	want   int
	got    int
	err    error
}

func newPump(t *task, to sink, channel uint8, file *os.File) *pump {
	p := &pump{task: t, sink: to, channel: channel, file: file}
	p.raw, _ = file.SyscallConn()
	return p
}

// interrupt ends a wait for output.
func (p *pump) interrupt() { _ = p.file.SetReadDeadline(past) }

// run returns when the output has ended, or the command has and what the pipe then held is taken.
func (p *pump) run() {
	if !p.shared {
		defer p.file.Close()
	}
	if p.stream() {
		// Whoever else holds the pipe open may write for ever: only what is there now counts.
		p.drain(p.held())
	}
}

// stream carries what comes while the command runs, and reports whether there may be more when it has ended.
func (p *pump) stream() bool {
	attempt := p.attempt // one closure for all reads
	for {
		if p.want = p.sink.room(p.channel); p.want == 0 {
			return false
		}
		if err := p.raw.Read(attempt); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return false
			}
			if p.task.hasEnded() {
				return true
			}
			continue // the sink knows why
		}
		if !p.deliver() {
			return false
		}
	}
}

// drain carries the next n bytes, if there are so many.
func (p *pump) drain(n int) {
	for n > 0 {
		if p.want = p.sink.room(p.channel); p.want == 0 {
			return
		}
		if n < p.want {
			p.want = n
		}
		_ = p.raw.Control(func(fd uintptr) { p.attempt(fd) })
		if p.buffer == nil || !p.deliver() {
			return
		}
		n -= p.got
	}
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

// deliver passes on what was read and reports whether there can be more.
func (p *pump) deliver() bool {
	buffer := p.buffer
	p.buffer = nil
	defer chunks.Put(buffer)
	return p.err == nil && p.got > 0 && p.sink.put(p.channel, buffer[:frame.HeaderSize+p.got])
}

// held returns how many bytes to take when the command has ended.
func (p *pump) held() int {
	if p.shared {
		return terminalHeld
	}
	var n int32
	_ = p.raw.Control(func(fd uintptr) {
		_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, fd, fionread, uintptr(unsafe.Pointer(&n)))
	})
	return int(n)
}
