package tapguard

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

const (
	sysPidfdOpen = 434 // the same on all architectures; Linux 5.3
	pollIn       = 1   // POLLIN of <poll.h>
	// startTimeField is the number of a process's start time in /proc/PID/stat (proc(5)); statSkipped fields stand
	// before what follows the last parenthesis: pid and name.
	startTimeField = 22
	statSkipped    = 2
)

var procPath = "/proc" // another in tests

// process is one process, whatever becomes of its number.
type process struct{ fd int }

// openProcess takes hold of the process of this number that started at this time, in clock ticks after boot.
func openProcess(pid int, startTime string) (*process, error) {
	fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(pid), 0, 0)
	if errno != 0 {
		return nil, errno
	}
	p := &process{fd: int(fd)}
	// Read after the process is held: from here on the number cannot become another's unnoticed.
	actual, err := startTimeOf(pid)
	if p.ended(false) || err == nil && actual != startTime {
		err = syscall.ESRCH
	} else if err != nil { // It is there, and cannot be looked at.
		err = fmt.Errorf("cannot see process %d: is %s mounted with hidepid? (%v) %w", pid, procPath, err, syscall.EACCES)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// startTimeOf reads the start time of the process that has this number now.
func startTimeOf(pid int) (string, error) {
	stat, err := os.ReadFile(procPath + "/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) {
		return "", syscall.ESRCH
	}
	if err != nil {
		return "", err
	}
	// The name may hold spaces and parentheses itself.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const index = startTimeField - statSkipped - 1
	if len(fields) <= index {
		return "", syscall.EINVAL
	}
	return string(fields[index]), nil
}

// wait returns when the process has ended.
func (p *process) wait() { p.ended(true) }

// ended tells whether the process has ended; with block it waits until it has. It costs a thread meanwhile.
func (p *process) ended(block bool) bool {
	var now syscall.Timespec
	timeout := &now
	if block {
		timeout = nil
	}
	for {
		poll := struct {
			fd              int32
			events, revents int16
		}{fd: int32(p.fd), events: pollIn}
		n, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1,
			uintptr(unsafe.Pointer(timeout)), 0, 0, 0)
		if errno != syscall.EINTR {
			// An error has no other cause than a descriptor that is no good: nothing could be waited for any more.
			return errno != 0 || n > 0
		}
	}
}

func (p *process) close() { _ = syscall.Close(p.fd) }
