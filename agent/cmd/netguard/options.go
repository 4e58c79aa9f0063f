package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"strconv"
	"time"

	"smolvm.dev/agent/internal/netguard"
)

// firstFreeDescriptor is the lowest number that a descriptor of ours can have: stdin, stdout and stderr are below.
const firstFreeDescriptor = 3

type options struct {
	listenFd      int
	readyFd       int
	socket        string
	gateway       net.IP
	resolvers     []string
	readyTimeout  time.Duration
	acceptTimeout time.Duration
	runAs         *identity
	argv          []string
	config        netguard.Config
}

type identity struct{ uid, gid int }

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("netguard", flag.ContinueOnError)
	flags.IntVar(&o.listenFd, "listen-fd", 0, "`descriptor` of the listening unix socket for the VMM")
	flags.IntVar(&o.readyFd, "ready-fd", 0, "`descriptor` on which readiness is told; 0 for none")
	flags.StringVar(&o.socket, "socket", "", "`path` of that socket, which is removed")
	flags.DurationVar(&o.readyTimeout, "ready-timeout", 10*time.Second, "longest start of passt")
	flags.DurationVar(&o.acceptTimeout, "accept-timeout", 60*time.Second, "longest wait for the VMM")
	flags.Func("mac", "guest's MAC `address`", func(text string) (err error) {
		if o.config.MAC, err = net.ParseMAC(text); err == nil && len(o.config.MAC) != 6 {
			err = errors.New("must have 6 bytes")
		}
		return err
	})
	flags.Func("address", "guest's IPv4 address as `CIDR`", func(text string) (err error) {
		o.config.Address, o.config.Network, err = parseCIDR(text)
		return err
	})
	flags.Func("gateway", "gateway `address`", func(text string) (err error) { o.gateway, err = parseIP(text); return err })
	flags.Func("dns", "`address` on which DNS is answered", func(text string) (err error) {
		o.config.DNS, err = parseIP(text)
		return err
	})
	flags.Func("resolver", "resolver of the host as `address:port`", func(text string) error {
		_, _, err := net.SplitHostPort(text)
		o.resolvers = append(o.resolvers, text)
		return err
	})
	flags.Func("forward", "guest `port` that passt forwards to", func(text string) error {
		port, err := strconv.ParseUint(text, 10, 16)
		o.config.Forwards = append(o.config.Forwards, uint16(port))
		return err
	})
	networks := func(to *[]*net.IPNet) func(string) error {
		return func(text string) error {
			_, network, err := parseCIDR(text)
			*to = append(*to, network)
			return err
		}
	}
	flags.Func("runas", "`uid:gid` to become first", func(text string) error {
		var id identity
		if n, err := fmt.Sscanf(text, "%d:%d", &id.uid, &id.gid); n != 2 || err != nil || id.uid <= 0 || id.gid <= 0 {
			return errors.New("not a positive uid:gid")
		}
		o.runAs = &id
		return nil
	})
	flags.Func("deny", "`CIDR` that is not reached", networks(&o.config.Deny))
	flags.Func("allow", "`CIDR` that is reached although -deny covers it", networks(&o.config.Allow))
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.argv = flags.Args()
	if o.socket == "" || o.config.MAC == nil || o.config.Network == nil || o.gateway == nil || len(o.argv) == 0 {
		return o, errors.New("-socket, -mac, -address, -gateway and passt's argv are needed")
	}
	if o.listenFd < firstFreeDescriptor || (o.readyFd != 0 && o.readyFd < firstFreeDescriptor) || o.listenFd == o.readyFd {
		return o, errors.New("-listen-fd and -ready-fd must be two inherited descriptors")
	}
	return o, nil
}

func parseIP(text string) (net.IP, error) {
	if ip := net.ParseIP(text).To4(); ip != nil {
		return ip, nil
	}
	return nil, errors.New("not an IPv4 address")
}

func parseCIDR(text string) (net.IP, *net.IPNet, error) {
	ip, network, err := net.ParseCIDR(text)
	if err == nil && ip.To4() == nil {
		err = errors.New("not an IPv4 network")
	}
	return ip.To4(), network, err
}
