// Package guest changes the running system on the host's behalf: identity, network, clock, disk, and its end.
package guest

import (
	"runtime/debug"
	"syscall"
	"time"
	"unsafe"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/session"
)

// Machine is what the operations work on.
type Machine struct {
	Starter   *command.Starter
	Identity  *Identity
	Network   *Network
	Window    *session.Window
	Freezer   *command.Freezer
	Processes *session.Processes
	PowerOff  func()
	Log       func(text string)

	warmth warmth
	holds  holds
	// untouched is true from settle to the next configure; configuring guards it.
	untouched bool
}

// Operations returns the table of what a CALL may name.
func (m *Machine) Operations() map[string]session.Operation {
	return map[string]session.Operation{
		"ping":      ping,
		"configure": m.configure,
		"shutdown":  m.shutdown,
		"settle":    m.rest,
		"ssh":       m.startSSH,
		"hold":      m.hold,
		"release":   m.release,
		"processes": m.Processes.List,
	}
}

const (
	tagUptime = 4
	tagClock  = 5
)

func ping([]byte) (func() session.Result, error) {
	return func() session.Result {
		return session.Result{Reply: frame.AppendU32(nil, tagUptime, uptimeMs())}
	}, nil
}

// rest makes the agent small and quiet, for an image of the machine that many others will start from.
func (m *Machine) rest([]byte) (func() session.Result, error) {
	return func() session.Result {
		configuring.Lock()
		defer configuring.Unlock()
		// What came into being since the boot.
		if err := m.Identity.ssh.prepare(); err != nil {
			m.Log("cannot prepare SSH host keys: " + err.Error())
		}
		// What is not on the disk yet would have to be written by each copy, when its clock says so and when it stops.
		syscall.Sync()
		debug.FreeOSMemory() // collects first
		m.warmth.warm = func() { warmUp(m.Starter) }
		m.warmth.rest()
		m.untouched = true
		return session.Result{}
	}, nil
}

// maxHold bounds for how long a lost client is taken for a copy's.
const maxHold = 10 * time.Minute

// hold makes commands stand still, and keeps those alive whose client leaves: the host is about to copy the machine.
func (m *Machine) hold(payload []byte) (func() session.Result, error) {
	limit := time.Duration(0)
	err := frame.Each(payload, func(f frame.Field) error {
		if f.Tag != 10 {
			return nil
		}
		ms, err := f.U32()
		limit = time.Duration(ms) * time.Millisecond
		return err
	})
	if err != nil {
		return nil, err
	}
	if limit > maxHold {
		limit = maxHold
	}
	ticket := m.holds.ask()
	return func() session.Result {
		var still *command.Standstill
		begun := m.holds.begin(ticket, func() {
			m.Window.Open(limit)
			still = m.Freezer.Begin(limit)
		})
		if !begun || !m.Freezer.Finish(still) {
			return session.Result{Failed: &command.Failure{Code: "ECANCELED",
				Message: "Cannot hold the commands: they were let go before all of them stood still"}}
		}
		return session.Result{}
	}, nil
}

// release ends a hold. The clock, if it is given, is right before any command goes on.
func (m *Machine) release(payload []byte) (func() session.Result, error) {
	clock := uint64(0)
	err := frame.Each(payload, func(f frame.Field) (err error) {
		if f.Tag == 12 {
			clock, err = f.U64()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	ticket := m.holds.cancel()
	return func() session.Result {
		m.holds.end(ticket, func() {
			if clock != 0 {
				if err := setClock(clock); err != nil {
					m.Log("cannot set the clock: " + err.Error())
				}
			}
			m.Freezer.Thaw()
			m.Window.Close()
		})
		return session.Result{}
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
