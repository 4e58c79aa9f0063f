// Package privilege gives up rights for good. It is for programs of the host that are started by root and then read what
// a guest sends.
package privilege

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// From <linux/prctl.h> and <linux/capability.h>.
const (
	prSetDumpable      = 4
	prSetNoNewPrivs    = 38
	prCapAmbient       = 47
	ambientClearAll    = 4
	capabilityVersion3 = 0x20080522
)

// Capability is the number of one, from <linux/capability.h>.
type Capability uint

// Capabilities that a program may have to keep.
const (
	Chown         Capability = 0
	DACOverride   Capability = 1
	DACReadSearch Capability = 2
	FOwner        Capability = 3
	FSetID        Capability = 4
	NetAdmin      Capability = 12
)

// Identity is a user and a group, neither of which is root.
type Identity struct{ UID, GID int }

// Nobody is the user without rights that every Linux has (kernel.overflowuid).
var Nobody = Identity{UID: 65534, GID: 65534}

// capabilityFields are the lines of /proc/PID/status that must hold nothing but what is kept. The bounding set (CapBnd)
// is not among them: it only limits what a new program may gain, and with no_new_privs that is nothing.
var capabilityFields = []string{"CapInh:", "CapPrm:", "CapEff:", "CapAmb:"}

// Parse reads "uid:gid".
func Parse(text string) (Identity, error) {
	var id Identity
	var rest string
	n, _ := fmt.Sscanf(text+" ", "%d:%d%s", &id.UID, &id.GID, &rest)
	if n != 2 || id.UID <= 0 || id.GID <= 0 {
		return Identity{}, errors.New("not a positive uid:gid")
	}
	return id, nil
}

// Drop gives up root and every capability, in all threads. Without root it keeps the user, and gives up the
// capabilities that the program was started with.
func Drop(to Identity) error {
	if isRoot() {
		if to.UID <= 0 || to.GID <= 0 {
			return errors.New("refused to go on as root")
		}
		if err := become(to); err != nil {
			return fmt.Errorf("cannot become user %d, group %d: %w", to.UID, to.GID, err)
		}
	}
	if err := keepOnly(0); err != nil {
		return err
	}
	if isRoot() {
		return errors.New("still root")
	}
	return checkKept(0)
}

// ShutOut keeps other processes of this user from our memory and descriptors, and leaves no core file. A program that has
// done this cannot make user namespaces: what is below /proc/PID of its children is root's.
func ShutOut() error {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0); errno != 0 {
		return fmt.Errorf("cannot shut out debuggers: %w", errno)
	}
	return nil
}

// Limit keeps the user, and of its capabilities only these: for what works on files that are its user's. A program that
// has none keeps none.
func Limit(keep ...Capability) error {
	mask := maskOf(keep)
	held := mask
	if !isRoot() {
		held = 0
	}
	if err := keepOnly(held); err != nil {
		return err
	}
	return checkKept(mask)
}

func maskOf(capabilities []Capability) (mask uint64) {
	for _, capability := range capabilities {
		mask |= 1 << capability
	}
	return mask
}

func isRoot() bool { return os.Getuid() == 0 || os.Geteuid() == 0 }

func become(to Identity) error {
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setresgid(to.GID, to.GID, to.GID); err != nil {
		return err
	}
	return syscall.Setresuid(to.UID, to.UID, to.UID)
}

// keepOnly works in each thread: credentials belong to threads, and Go has several.
func keepOnly(mask uint64) error {
	if _, _, errno := syscall.AllThreadsSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("cannot set no_new_privs: %w", errno)
	}
	_, _, errno := syscall.AllThreadsSyscall6(syscall.SYS_PRCTL, prCapAmbient, ambientClearAll, 0, 0, 0, 0)
	if errno != 0 && errno != syscall.EINVAL { // Kernels before 4.3 have no ambient set.
		return fmt.Errorf("cannot clear the ambient capabilities: %w", errno)
	}
	header := struct {
		version uint32
		pid     int32
	}{version: capabilityVersion3}
	var sets [2]struct{ effective, permitted, inheritable uint32 }
	for half := range sets {
		held := uint32(mask >> (32 * half))
		sets[half].effective, sets[half].permitted = held, held
	}
	if _, _, errno := syscall.AllThreadsSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)),
		uintptr(unsafe.Pointer(&sets)), 0); errno != 0 {
		return fmt.Errorf("cannot give up the capabilities: %w", errno)
	}
	return nil
}

// checkKept reads back what the kernel says of each thread.
func checkKept(mask uint64) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		status, err := os.ReadFile("/proc/self/task/" + thread.Name() + "/status")
		if errors.Is(err, os.ErrNotExist) {
			continue // It has ended.
		}
		if err != nil {
			return err
		}
		if name := heldBeyond(mask, status); name != "" {
			return fmt.Errorf("thread %s still has capabilities (%s)", thread.Name(), name)
		}
	}
	return nil
}

// heldBeyond names a set of capabilities that holds more than the mask.
func heldBeyond(mask uint64, status []byte) string {
	for _, line := range bytes.Split(status, []byte("\n")) {
		fields := bytes.Fields(line)
		if len(fields) != 2 {
			continue
		}
		for _, name := range capabilityFields {
			if string(fields[0]) != name {
				continue
			}
			if set, err := strconv.ParseUint(string(fields[1]), 16, 64); err != nil || set&^mask != 0 {
				return name
			}
		}
	}
	return ""
}
