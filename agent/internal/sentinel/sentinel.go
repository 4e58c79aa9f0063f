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
	// RunAs is whom root becomes.
	RunAs privilege.Identity
}

const (
	// eventBytes is how much may wait to be read. Where it is too little, everything is looked at.
	eventBytes = 1 << 20
	// lineLimit bounds what is written to the log.
	lineLimit = 200
	// lastWait is how long the VMM may live on whose guard has ended, when both are being ended.
	lastWait = 2 * time.Second
)

// Run watches until the guard has ended: link is the descriptor of a socket to it (see Start), lock one that is closed when
// the device is not touched any more.
func Run(o Options, link, lock int, log io.Writer) error {
	s := &sentinel{options: o, link: link, lock: lock, vmm: -1, log: log}
	var err error
	if s.world, err = newWorld(o); err != nil {
		return err
	}
	if s.events, err = netlink.Open(netlinkNetfilter, rulesGroup); err != nil {
		return err
	}
	s.events.Hold(eventBytes)
	if s.links, err = netlink.Open(syscall.NETLINK_ROUTE, linkGroup); err != nil {
		return err
	}
	if s.device, err = openDevice(o.Device); err != nil {
		return fmt.Errorf("cannot find the device %s: %w", o.Device, err)
	}
	if err := privilege.Become(o.RunAs, privilege.NetAdmin); err != nil {
		return err
	}
	if err := privilege.ShutOut(); err != nil {
		return err
	}
	return s.watch()
}

type sentinel struct {
	options  Options
	link     int
	lock     int
	vmm      int // A descriptor of the process (pidfd); -1 before it is known.
	world    *world
	events   *netlink.Socket
	links    *netlink.Socket
	device   *device
	isClosed bool // By this.
	log      io.Writer
	lines    int
}

func (s *sentinel) watch() error {
	s.judge() // The device may be up already.
	for {
		ready, err := wait(-1, s.events.Descriptor(), s.links.Descriptor(), s.link, s.vmm)
		if err != nil {
			s.close("it cannot wait: " + err.Error())
			return err
		}
		isDue := ready[0] && s.mayMiss()
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
func (s *sentinel) mayMiss() (may bool) {
	for {
		messages, err := s.events.Pending()
		if errors.Is(err, syscall.ENOBUFS) {
			may = true
			continue
		}
		if err != nil || len(messages) == 0 {
			return may || err != nil
		}
		for _, message := range messages {
			// What it has closed may come back with anything that is added.
			may = may || s.world.mayMiss(message) || s.isClosed && s.world.isOurs(message)
		}
	}
}

// hasComeUp reads what has become of devices, and tells whether ours may be up.
func (s *sentinel) hasComeUp() (may bool) {
	for {
		messages, err := s.links.Pending()
		if errors.Is(err, syscall.ENOBUFS) {
			may = true
			continue
		}
		if err != nil || len(messages) == 0 {
			return may || err != nil
		}
		for _, message := range messages {
			link, ok := linkOf(message)
			may = may || ok && link.Index == s.device.index && link.Flags&syscall.IFF_UP != 0
		}
	}
}

// judge takes the device down when its rules are not in force, and up again when it was this that took it down. What is
// down has no need of rules: so nothing is said of a network in the making.
func (s *sentinel) judge() {
	isUp, err := s.device.isUp()
	if errors.Is(err, syscall.ENODEV) || err == nil && !isUp && !s.isClosed {
		return
	}
	missing, err := s.world.missing()
	switch {
	case err != nil:
		s.close("it cannot see the rules: " + err.Error())
	case missing != "" && isUp:
		s.close("not in force: " + missing)
	case missing == "" && !isUp:
		s.isClosed = false
		s.say("the rules are in force again: up", s.device.turn(true))
	case missing == "":
		s.isClosed = false // By somebody else's hand.
	}
}

// close takes the device down.
func (s *sentinel) close(why string) {
	err := s.device.turn(false)
	if errors.Is(err, syscall.ENODEV) {
		return // It has gone, and its rules with it.
	}
	s.isClosed = err == nil
	s.say(why+": down", err)
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
	isVMMGone := func(limit time.Duration) bool {
		ready, err := wait(limit, s.vmm)
		return s.vmm >= 0 && err == nil && ready[0]
	}
	if !isVMMGone(0) {
		s.close("its guard has ended")
	}
	_ = syscall.Close(s.lock)
	if s.vmm >= 0 && isVMMGone(lastWait) {
		s.forget()
	}
	return nil
}

func (s *sentinel) forget() {
	if count, err := forget(s.options.Guest); err != nil {
		s.say("forgot "+strconv.Itoa(count)+" connections, not all", err)
	}
}

func (s *sentinel) say(what string, err error) {
	if s.lines++; s.lines > lineLimit {
		return
	}
	if err != nil {
		what += " (" + err.Error() + ")"
	}
	fmt.Fprintf(s.log, "sentinel: %s: %s\n", s.options.Device, what)
}
