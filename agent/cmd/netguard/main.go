// Command netguard stands between a VMM and passt: it runs passt as its child, takes one VMM on a unix socket, and
// lets through only the frames that the policy allows. It ends when either of them ends, and passt ends with it.
//
//	netguard -socket PATH -mac MAC -address CIDR -gateway IP [-dns IP -resolver IP:PORT ...] [-forward PORT ...]
//	         [-deny CIDR ...] [-allow CIDR ...] [-runas UID:GID] -- passt ARGS
//
// The socket appears under its name when everything works, not before.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/netguard"
)

// hostAddressesEvery is how often the host's own addresses and local routes are read again.
const hostAddressesEvery = 5 * time.Second

type options struct {
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

func main() {
	options, err := parse(os.Args[1:])
	if err == nil {
		err = run(options)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "netguard:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("netguard", flag.ContinueOnError)
	flags.StringVar(&o.socket, "socket", "", "unix `path` for the VMM")
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
	return o, nil
}

func run(o options) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	if o.runAs != nil {
		if err := become(*o.runAs); err != nil {
			return fmt.Errorf("cannot become uid %d: %w", o.runAs.uid, err)
		}
	}
	policy := netguard.NewPolicy(o.config)
	if err := watchHostAddresses(policy); err != nil {
		return err
	}
	passt, err := netguard.StartPasst(o.argv)
	if err != nil {
		return err
	}
	defer passt.Stop()
	stopOnSignal(signals, passt, o.socket)
	if err := passt.AwaitReady(policy, o.gateway, o.readyTimeout); err != nil {
		return err
	}
	vmm, err := accept(o.socket, o.acceptTimeout)
	if err != nil {
		return err
	}
	defer vmm.Close()

	toGuest := &netguard.LockedWriter{To: vmm}
	resolver := netguard.NewResolver(o.resolvers, toGuest)
	ended := make(chan error, 2)
	go func() {
		ended <- netguard.Relay(passt, vmm, func(frame []byte) bool {
			switch policy.Outbound(frame) {
			case netguard.Pass:
				return true
			case netguard.Resolve:
				resolver.Handle(frame)
			}
			return false
		})
	}()
	go func() { ended <- netguard.Relay(toGuest, passt, policy.Inbound) }()
	if err := <-ended; errors.Is(err, netguard.ErrBadFrame) {
		return err
	}
	return nil
}

// stopOnSignal ends passt before this process, so that whoever waits for us finds its ports free.
func stopOnSignal(signals <-chan os.Signal, passt *netguard.Passt, socket string) {
	go func() {
		<-signals
		passt.Stop()
		_ = os.Remove(socket)
		os.Exit(0)
	}()
}

// become gives up root for good, and with it every capability.
func become(id identity) error {
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(id.gid); err != nil {
		return err
	}
	return syscall.Setuid(id.uid)
}

// accept listens under another name first: the socket's name must not be there before it takes connections.
func accept(path string, limit time.Duration) (net.Conn, error) {
	unready := path + ".new"
	_ = os.Remove(unready)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: unready, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	defer listener.Close()
	if err := os.Rename(unready, path); err != nil {
		return nil, err
	}
	defer os.Remove(path) // One VMM only.
	_ = listener.SetDeadline(time.Now().Add(limit))
	connection, err := listener.Accept()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, fmt.Errorf("no VMM connected within %s", limit)
	}
	return connection, err
}

// watchHostAddresses keeps the policy's list of what leads to the host fresh: a laptop changes networks.
func watchHostAddresses(policy *netguard.Policy) error {
	read := func() error {
		own, err := netguard.HostNetworks()
		if err == nil {
			policy.SetHostNetworks(own)
		}
		return err
	}
	if err := read(); err != nil {
		return fmt.Errorf("cannot read the host's addresses: %w", err)
	}
	go func() {
		for range time.Tick(hostAddressesEvery) {
			_ = read()
		}
	}()
	return nil
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
