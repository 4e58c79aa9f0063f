// Package guest changes the running system on the host's behalf: identity, network, clock, disk, and its end.
package guest

import (
	"syscall"
	"unsafe"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/session"
)

// Machine is what the operations work on.
type Machine struct {
	Starter  *command.Starter
	PowerOff func()
	Log      func(text string)
}

// Operations returns the table of what a CALL may name.
func (m *Machine) Operations() map[string]session.Operation {
	return map[string]session.Operation{
		"ping":      ping,
		"configure": m.configure,
		"shutdown":  m.shutdown,
	}
}

const tagUptime = 4

func ping([]byte) (func() session.Result, error) {
	return func() session.Result {
		return session.Result{Reply: frame.AppendU32(nil, tagUptime, uptimeMs())}
	}, nil
}

const (
	clockRealtime = 0
	clockBoottime = 7
)

func uptimeMs() uint32 {
	var now syscall.Timespec
	_, _, _ = syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&now)), 0)
	return uint32(now.Nano() / 1e6)
}

func setClock(nanoseconds uint64) error {
	now := syscall.NsecToTimespec(int64(nanoseconds))
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_SETTIME, clockRealtime, uintptr(unsafe.Pointer(&now)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
