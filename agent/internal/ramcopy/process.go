package ramcopy

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// startTimeField is the index of field 22 of /proc/PID/stat after the program's name, which ends field 2 (proc(5)).
const startTimeField = 19

// checkIdentity fails unless the process is the one that had this pid when it was described.
func checkIdentity(pid int, startTime string) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return fmt.Errorf("%w: process %d is gone", ErrSource, pid)
	}
	// The name may hold spaces and parentheses: fields count from the last one.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) <= startTimeField || fields[startTimeField] != startTime {
		return fmt.Errorf("%w: process %d is another one by now", ErrSource, pid)
	}
	return nil
}

// mapping is a line of /proc/PID/maps.
type mapping struct {
	start, end uint64
	isPrivate  bool
	isReadable bool
	offset     uint64
	inode      uint64
	path       string
}

// checkMapping fails unless the memory is where it is said to be, is private to the process, and is the base's if
// there is one: pages that have not changed are taken from there.
func checkMapping(o Options) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", o.Pid))
	if err != nil {
		return accessError(err)
	}
	inode, path := uint64(0), ""
	if o.Base != nil {
		info, err := o.Base.Stat()
		if err != nil {
			return storageError(err)
		}
		if info.Size() != o.Size {
			return fmt.Errorf("%w: the base has %d bytes, the memory %d", ErrSource, info.Size(), o.Size)
		}
		inode = info.Sys().(*syscall.Stat_t).Ino
		path, _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", o.Base.Fd()))
	}
	at, end := o.Address, o.Address+uint64(o.Size)
	for _, line := range strings.Split(string(text), "\n") {
		m, ok := parseMapping(line)
		if !ok || m.end <= at || m.start > at {
			continue
		}
		if !m.isPrivate || !m.isReadable {
			return fmt.Errorf("%w: its memory is not private to it", ErrSource)
		}
		if o.Base == nil && m.inode != 0 {
			return fmt.Errorf("%w: its memory is the file %q", ErrSource, m.path)
		}
		// On some file systems a map and stat(2) tell different inodes.
		if o.Base != nil && (m.inode != inode && m.path != path || m.offset+(at-m.start) != at-o.Address) {
			return fmt.Errorf("%w: its memory is not made from the base", ErrSource)
		}
		at = m.end
		if at >= end {
			return nil
		}
	}
	return fmt.Errorf("%w: it has no memory of %d bytes at %#x", ErrSource, o.Size, o.Address)
}

// parseMapping reads "start-end perms offset dev inode path".
func parseMapping(line string) (m mapping, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 5 || len(fields[1]) != 4 {
		return m, false
	}
	dash := strings.IndexByte(fields[0], '-')
	if dash < 0 {
		return m, false
	}
	var failures [4]error
	m.start, failures[0] = strconv.ParseUint(fields[0][:dash], 16, 64)
	m.end, failures[1] = strconv.ParseUint(fields[0][dash+1:], 16, 64)
	m.offset, failures[2] = strconv.ParseUint(fields[2], 16, 64)
	m.inode, failures[3] = strconv.ParseUint(fields[4], 10, 64)
	m.isReadable, m.isPrivate = fields[1][0] == 'r', fields[1][3] == 'p'
	if slash := strings.IndexByte(line, '/'); slash >= 0 {
		m.path = line[slash:]
	}
	for _, err := range failures {
		if err != nil {
			return m, false
		}
	}
	return m, true
}

func openPagemap(pid int) (*os.File, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		return nil, accessError(err)
	}
	return file, nil
}

// accessError says why a process cannot be looked into.
func accessError(err error) error {
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("%w: %v", ErrForbidden, err)
	}
	return fmt.Errorf("%w: %v", ErrSource, err)
}
