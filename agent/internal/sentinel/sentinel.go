// Package sentinel guards the packet filter's rules of one TAP device against everybody else on the host: it hears of each
// change, looks whether what the guest depends on is still in force, and takes the device down where it is not. It does so,
// too, when the guard ends whose ports the rules open. It is a process of its own, which reads nothing that a guest
// sends: so it may keep CAP_NET_ADMIN.
package sentinel

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/netlink"
	"smolvm.dev/agent/internal/privilege"
)

// Options say what is watched.
type Options struct {
	// Device is the TAP device. It must be there; it may be down.
	Device         string
	Gateway, Guest netip.Addr
	// RunAs is whom root becomes: nobody that another program runs as, which could stop it.
	RunAs privilege.Identity
}

// User is whom root becomes where nothing else is said. It needs no account. Nobody hands out the ids 65520 to 65533
// (systemd's docs/UIDS-GIDS.md: unused; Debian's policy, 9.2.2: reserved), and a container of 65,536 ids has them.
var User = privilege.Identity{UID: 65525, GID: 65525}

const (
	// eventBytes is how much may wait to be read. Where it is too little, everything is looked at.
	eventBytes = 1 << 20
	// lineLimit bounds what is written to the log.
	lineLimit = 200
	// lastWait is how long the VMM may live on whose guard has ended, when both are being ended.
	lastWait = 2 * time.Second
	// againPause is before it judges again what it could not tell, or change.
	againPause = 100 * time.Millisecond
)

// Run watches until the guard has ended: link is the descriptor of a socket to it (see Start), lock one that is closed when
// the device is not touched any more.
func Run(o Options, link, lock int, log io.Writer) error {
	s := &sentinel{options: o, link: link, lock: lock, vmm: -1, log: log}
	var err error
	if s.world, err = newWorld(o); err != nil {
		return err
	}
	s.missing = s.world.missing
	if s.events, err = netlink.Open(netlinkNetfilter, rulesGroup); err != nil {
		return err
	}
	s.events.Hold(eventBytes)
	if s.links, err = netlink.Open(syscall.NETLINK_ROUTE, linkGroup); err != nil {
		return err
	}
	found, err := openDevice(o.Device)
	if err != nil {
		return fmt.Errorf("cannot find the device %s: %w", o.Device, err)
	}
	s.device, s.index = found, found.index
	if err := privilege.Become(o.RunAs, privilege.NetAdmin); err != nil {
		return err
	}
	if err := privilege.ShutOut(); err != nil {
		return err
	}
	return s.watch()
}

type sentinel struct {
	options Options
	link    int
	lock    int
	vmm     int // A descriptor of the process (pidfd); -1 before it is known.
	world   *world
	missing func() (string, error) // The world's.
	events  *netlink.Socket
	links   *netlink.Socket
	device  interface { // A *device.
		isUp() (bool, error)
		turn(up bool) error
	}
	index      int32 // The device's.
	isClosed   bool  // By this.
	isUnsure   bool  // Something could not be told, or changed: it must judge again.
	wasEarlier bool  // The rules were those of an earlier version.
	log        io.Writer
	lines      int
	last       string // What was said last.
}

func (s *sentinel) watch() error {
	s.judge() // The device may be up already.
	for {
		limit := time.Duration(-1)
		if s.isUnsure {
			limit = againPause
		}
		ready, err := wait(limit, s.events.Descriptor(), s.links.Descriptor(), s.link, s.vmm)
		if err != nil {
			s.shut("it cannot wait: " + err.Error())
			return err
		}
		isDue := ready[0] && s.mayMiss() || s.isUnsure
		if isDue = ready[1] && s.hasComeUp() || isDue; isDue {
			s.judge()
		}
		if ready[3] {
			s.forget()
			return nil
		}
		if ready[2] && !s.hear() {
			return s.end()
		}
	}
}

// mayMiss reads what has become of rules, and tells whether something may be missing.
func (s *sentinel) mayMiss() bool {
	return anyPending(s.events, func(message syscall.NetlinkMessage) bool {
		// What it has closed may come back with anything that is added.
		return s.world.mayMiss(message) || s.isClosed && s.world.isOurs(message)
	})
}

// hasComeUp reads what has become of devices, and tells whether ours may be up.
func (s *sentinel) hasComeUp() bool {
	return anyPending(s.links, func(message syscall.NetlinkMessage) bool {
		link, ok := linkOf(message)
		return ok && link.Index == s.index && link.Flags&syscall.IFF_UP != 0
	})
}

// anyPending reads all that waits, and tells whether a message is such a one, or may have been among what was lost.
func anyPending(socket *netlink.Socket, is func(syscall.NetlinkMessage) bool) (found bool) {
	for {
		messages, err := socket.Pending()
		if errors.Is(err, syscall.ENOBUFS) {
			found = true
			continue
		}
		if err != nil || len(messages) == 0 {
			return found || err != nil
		}
		for _, message := range messages {
			found = found || is(message)
		}
	}
}

// judge takes the device down when its rules are not in force, and up again when it was this that took it down. What is
// down has no need of rules: so nothing is said of a network in the making. A device of which it cannot be told may be up:
// it is closed likewise, and never opened.
func (s *sentinel) judge() {
	s.isUnsure = false
	isUp, err := s.device.isUp()
	if errors.Is(err, syscall.ENODEV) || err == nil && !isUp && !s.isClosed {
		return
	}
	isKnown := err == nil
	missing, err := s.missing()
	s.isUnsure = !isKnown || err != nil
	s.noteVersion()
	switch {
	case err == nil && missing == "":
		s.open(isKnown, isUp)
	case isKnown && !isUp:
		// It is closed.
	case err != nil:
		s.close("it cannot see the rules: "+err.Error(), isKnown)
	default:
		s.close("not in force: "+missing, isKnown)
	}
}

// open is when the rules are in force.
func (s *sentinel) open(isKnown, isUp bool) {
	if isKnown && isUp {
		s.isClosed = false // If it was, then by somebody else's hand.
	} else if isKnown {
		err := s.device.turn(true)
		s.isClosed = err != nil
		s.isUnsure = s.isClosed
		s.say("the rules are in force again: up", err)
	}
}

// close takes the device down. It is this that has closed it only where it is known that it was up. False when it may be
// up still.
func (s *sentinel) close(why string, wasUp bool) bool {
	err := s.device.turn(false)
	if errors.Is(err, syscall.ENODEV) {
		return true // It has gone, and its rules with it.
	}
	if wasUp {
		s.isClosed = err == nil
	}
	s.isUnsure = s.isUnsure || err != nil
	s.say(why+": down", err)
	return err == nil
}

// shut closes for good, and goes on trying for as long as device and VMM are there.
func (s *sentinel) shut(why string) {
	for !s.close(why, true) && !s.isVMMGone(0) {
		time.Sleep(againPause)
	}
}

func (s *sentinel) noteVersion() {
	if s.world.isEarlier && !s.wasEarlier {
		s.say("an earlier version has written the rules, without their numbers", nil)
	}
	s.wasEarlier = s.world.isEarlier
}

// hear takes what the guard says: which VMM to watch. False when the guard has ended.
func (s *sentinel) hear() bool {
	vmm, err := receiveDescriptor(s.link)
	if err != nil {
		return false
	}
	if s.vmm >= 0 {
		_ = syscall.Close(s.vmm)
	}
	s.vmm = vmm
	return true
}

// end is after the guard: nobody holds the ports any more that the rules open for it.
func (s *sentinel) end() error {
	if !s.isVMMGone(0) {
		s.shut("its guard has ended")
	}
	_ = syscall.Close(s.lock)
	if s.isVMMGone(lastWait) {
		s.forget()
	}
	return nil
}

// isVMMGone waits up to a limit for the end of the VMM. False where it is not known.
func (s *sentinel) isVMMGone(limit time.Duration) bool {
	if s.vmm < 0 {
		return false
	}
	ready, err := wait(limit, s.vmm)
	return err == nil && ready[0]
}

func (s *sentinel) forget() {
	if count, err := forget(s.options.Guest); err != nil {
		s.say("forgot "+strconv.Itoa(count)+" connections, not all", err)
	}
}

// say writes a line, and not the same again while it tries again.
func (s *sentinel) say(what string, err error) {
	if err != nil {
		what += " (" + err.Error() + ")"
	}
	if s.isUnsure && what == s.last {
		return
	}
	s.last = what
	if s.lines++; s.lines > lineLimit {
		return
	}
	fmt.Fprintf(s.log, "sentinel: %s: %s\n", s.options.Device, what)
}
