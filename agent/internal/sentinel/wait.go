package sentinel

import (
	"syscall"
	"time"
	"unsafe"
)

const pollIn = 1 // POLLIN of <poll.h>

// wait tells which descriptors have something to read, or have ended. Negative ones never have; a negative limit is none.
func wait(limit time.Duration, descriptors ...int) ([]bool, error) {
	type entry struct {
		fd              int32
		events, revents int16
	}
	polled := make([]entry, len(descriptors))
	for i, fd := range descriptors {
		polled[i] = entry{fd: int32(fd), events: pollIn}
	}
	var timeout *syscall.Timespec
	if limit >= 0 {
		spec := syscall.NsecToTimespec(int64(limit))
		timeout = &spec
	}
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&polled[0])), uintptr(len(polled)),
			uintptr(unsafe.Pointer(timeout)), 0, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return nil, errno
		}
		ready := make([]bool, len(polled))
		for i := range polled {
			ready[i] = polled[i].revents != 0
		}
		return ready, nil
	}
}
