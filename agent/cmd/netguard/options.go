package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"time"

	"smolvm.dev/agent/internal/netguard"
	"smolvm.dev/agent/internal/privilege"
)

const (
	// firstFreeDescriptor is the lowest number that a descriptor of ours can have: stdin, stdout, stderr are below.
	firstFreeDescriptor = 3
	// bytesPerMegabit is per second what the rate limit counts in: 10^6 bits.
	bytesPerMegabit = 1_000_000 / 8
	// fastestMbps bounds the rate limit, far above what passt can do.
	fastestMbps = 1_000_000
	// smallestMTU is what every IPv4 host takes (RFC 791), and largestMTU passt's own.
	smallestMTU = 576
	largestMTU  = 65_520
)

type options struct {
	socket                       string
	acceptTimeout                time.Duration
	control                      string
	policyFd, denialsFd, readyFd int
	probe                        bool
	runAs                        privilege.Identity
	config                       netguard.Config
}

// become gives up root for good, and with it every capability.
func (o *options) become() error {
	if err := privilege.Drop(o.runAs); err != nil {
		return fmt.Errorf("%v", err) // Not %w: EPERM has a meaning of its own here.
	}
	return nil
}

func parse(args []string) (options, error) {
	o := options{runAs: privilege.Nobody}
	var mbps float64
	flags := flag.NewFlagSet("netguard", flag.ContinueOnError)
	flags.StringVar(&o.socket, "socket", "", "`path` of the unix socket on which the VMM listens")
	flags.StringVar(&o.control, "control", "", "`path` of the unix socket to take policies on")
	flags.IntVar(&o.policyFd, "policy-fd", 0, "`descriptor` that the first policy is read from, to its end")
	flags.IntVar(&o.denialsFd, "denials-fd", 0, "`descriptor` of the file that refusals are appended to; 0 for none")
	flags.IntVar(&o.readyFd, "ready-fd", 0, "`descriptor` on which readiness is told; 0 for none")
	flags.BoolVar(&o.config.HasNames, "names-passt", false, "run the names' passt whatever the policy is")
	flags.BoolVar(&o.probe, "probe-names", false, "only try whether names work here")
	flags.DurationVar(&o.config.StartTimeout, "ready-timeout", 10*time.Second, "longest start of passt")
	flags.DurationVar(&o.acceptTimeout, "accept-timeout", 60*time.Second, "longest wait for the VMM")
	flags.Float64Var(&mbps, "rate-limit-mbps", 0, "`megabits` a second in each direction; 0 for no limit")
	flags.IntVar(&o.config.MTU, "mtu", largestMTU, "`bytes` of the guest's interface")
	flags.Func("mac", "guest's MAC `address`", func(text string) (err error) {
		if o.config.MAC, err = net.ParseMAC(text); err == nil && len(o.config.MAC) != 6 {
			err = errors.New("must have 6 bytes")
		}
		return err
	})
	flags.Func("address", "guest's IPv4 address as `CIDR`", func(text string) error {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || !prefix.Addr().Is4() {
			return errors.New("not an IPv4 address and network")
		}
		o.config.Address, o.config.Network = prefix.Addr().AsSlice(), prefix.Masked()
		return nil
	})
	flags.Func("gateway", "gateway `address`", parseIP(&o.config.Gateway))
	flags.Func("dns", "`address` on which DNS is answered", parseIP(&o.config.DNS))
	flags.Func("runas", "`uid:gid` that root becomes first (default: nobody)", func(text string) (err error) {
		o.runAs, err = privilege.Parse(text)
		return err
	})
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if !(mbps >= 0 && mbps <= fastestMbps) {
		return o, fmt.Errorf("-rate-limit-mbps must be from 0 to %d", fastestMbps)
	}
	if o.config.MTU < smallestMTU || o.config.MTU > largestMTU {
		return o, fmt.Errorf("-mtu must be from %d to %d", smallestMTU, largestMTU)
	}
	o.config.RateLimit = int64(mbps * bytesPerMegabit)
	o.config.Passt = flags.Args()
	return o, o.check()
}

func (o *options) check() error {
	if o.probe {
		return nil
	}
	c := &o.config
	if o.socket == "" || o.control == "" || c.MAC == nil || c.Address == nil || c.Gateway == nil || len(c.Passt) == 0 {
		return errors.New("-socket, -control, -mac, -address, -gateway and passt's argv are needed")
	}
	if o.policyFd < firstFreeDescriptor {
		return errors.New("-policy-fd must be an inherited descriptor")
	}
	for _, fd := range []int{o.denialsFd, o.readyFd} {
		if fd != 0 && fd < firstFreeDescriptor || fd == o.policyFd {
			return errors.New("-denials-fd and -ready-fd must be other inherited descriptors")
		}
	}
	return nil
}

func parseIP(to *net.IP) func(string) error {
	return func(text string) error {
		ip := net.ParseIP(text).To4()
		if ip == nil {
			return errors.New("not an IPv4 address")
		}
		*to = ip
		return nil
	}
}
