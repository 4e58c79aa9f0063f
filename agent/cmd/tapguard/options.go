package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	"smolvm.dev/agent/internal/privilege"
	"smolvm.dev/agent/internal/sentinel"
	"smolvm.dev/agent/internal/tapguard"
)

const (
	// firstFreeDescriptor is the lowest number that a descriptor of ours can have: stdin, stdout and stderr are below.
	firstFreeDescriptor = 3
	defaultDNSPort      = 53
	defaultProxyPort    = 29653
	defaultFollowLimit  = 60 * time.Second
)

type options struct {
	addresses   tapguard.Addresses
	policyFd    int
	denialsFd   int
	readyFd     int
	control     string
	device      string
	runAs       privilege.Identity
	sentinelAs  privilege.Identity
	followLimit time.Duration
}

func parse(args []string) (options, error) {
	o := options{runAs: privilege.Nobody, sentinelAs: sentinel.User}
	o.addresses.DNSPort, o.addresses.ProxyPort = defaultDNSPort, defaultProxyPort
	flags := flag.NewFlagSet("tapguard", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // The error says it.
	flags.Func("gateway", "host's `address` on the TAP device", address(&o.addresses.Gateway))
	flags.Func("guest", "guest's `address`", address(&o.addresses.Guest))
	flags.StringVar(&o.device, "device", "", "`name` of the TAP device, which a sentinel watches; none for no sentinel")
	flags.Func("dns-port", "`port` of the gateway on which DNS is answered", port(&o.addresses.DNSPort))
	flags.Func("proxy-port", "`port` of the gateway that connections are redirected to", port(&o.addresses.ProxyPort))
	flags.Func("nflog-group", "`group` to which the packet filter logs what it refuses", port(&o.addresses.Group))
	flags.IntVar(&o.policyFd, "policy-fd", 0, "`descriptor` of the policy, which is read to its end")
	flags.IntVar(&o.denialsFd, "denials-fd", 0, "`descriptor` of the file for records of refusals; 0 for none")
	flags.IntVar(&o.readyFd, "ready-fd", 0, "`descriptor` on which readiness is told; 0 for none")
	flags.StringVar(&o.control, "control", "", "`path` of the socket for orders, which is made")
	flags.Func("runas", "`uid:gid` that root becomes (default: nobody)", identity(&o.runAs))
	flags.Func("sentinel-as", "`uid:gid` that root's sentinel becomes (default: an id of its own)", identity(&o.sentinelAs))
	flags.DurationVar(&o.followLimit, "follow-limit", defaultFollowLimit, "longest wait for an order to follow a VMM")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if !o.addresses.Gateway.IsValid() || !o.addresses.Guest.IsValid() || o.addresses.Group == 0 || o.control == "" {
		return o, errors.New("-gateway, -guest, -nflog-group and -control are needed")
	}
	if o.addresses.Gateway == o.addresses.Guest {
		return o, errors.New("-gateway and -guest are the same")
	}
	if o.sentinelAs.UID == o.runAs.UID {
		return o, errors.New("-sentinel-as and -runas are the same user, which could stop the sentinel")
	}
	return o, o.checkDescriptors()
}

func (o *options) checkDescriptors() error {
	if o.policyFd == 0 {
		return errors.New("-policy-fd is needed")
	}
	seen := map[int]bool{}
	for _, fd := range []int{o.policyFd, o.denialsFd, o.readyFd} {
		if fd == 0 {
			continue
		}
		if fd < firstFreeDescriptor || seen[fd] {
			return fmt.Errorf("%d is not an inherited descriptor of its own", fd)
		}
		seen[fd] = true
	}
	return nil
}

func address(to *netip.Addr) func(string) error {
	return func(text string) error {
		parsed, err := netip.ParseAddr(text)
		if err != nil || !parsed.Is4() {
			return errors.New("not an IPv4 address")
		}
		*to = parsed
		return nil
	}
}

func identity(to *privilege.Identity) func(string) error {
	return func(text string) (err error) {
		*to, err = privilege.Parse(text)
		return err
	}
}

func port(to *uint16) func(string) error {
	return func(text string) error {
		number, err := strconv.ParseUint(text, 10, 16)
		if err != nil || number == 0 {
			return errors.New("not a number from 1 to 65535")
		}
		*to = uint16(number)
		return nil
	}
}
