package privilege

import (
	"errors"
	"fmt"
	"syscall"
)

// From <linux/prctl.h>.
const (
	prSetKeepCaps = 8
	prCapBSetDrop = 24
	// capabilityLimit is beyond the last one that there will be: a set has 64 bits.
	capabilityLimit = 64
)

// Become gives up root, and every capability but these, in all threads; also those that a new program could be given,
// where the program may give those up. Without root it keeps the user. It fails where one of these is not held.
func Become(to Identity, keep ...Capability) error {
	if err := emptyBoundingSet(); err != nil {
		return err
	}
	if isRoot() {
		if to.UID <= 0 || to.GID <= 0 {
			return errors.New("refused to go on as root")
		}
		if err := keepAcross(func() error { return become(to) }); err != nil {
			return fmt.Errorf("cannot become user %d, group %d: %w", to.UID, to.GID, err)
		}
	}
	mask := maskOf(keep)
	if err := keepOnly(mask); err != nil {
		return err
	}
	if isRoot() {
		return errors.New("still root")
	}
	return checkKept(mask)
}

// keepAcross keeps the permitted capabilities when the user changes.
func keepAcross(change func() error) error {
	set := func(on uintptr) error {
		if _, _, errno := syscall.AllThreadsSyscall(syscall.SYS_PRCTL, prSetKeepCaps, on, 0); errno != 0 {
			return errno
		}
		return nil
	}
	if err := set(1); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	return set(0)
}

// emptyBoundingSet needs CAP_SETPCAP; without it no_new_privs alone keeps new programs from gaining anything.
func emptyBoundingSet() error {
	for capability := uintptr(0); capability < capabilityLimit; capability++ {
		_, _, errno := syscall.AllThreadsSyscall(syscall.SYS_PRCTL, prCapBSetDrop, capability, 0)
		if errno == syscall.EINVAL || errno == syscall.EPERM {
			return nil // The kernel knows no more, or does not permit it.
		}
		if errno != 0 {
			return fmt.Errorf("cannot give up what new programs may have: %w", errno)
		}
	}
	return nil
}
