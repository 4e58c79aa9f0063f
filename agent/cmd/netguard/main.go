// Command netguard stands between a VMM and passt: it runs passt as its child, takes one VMM on a unix socket, and
// lets through only the frames that the policy allows. It ends when either of them ends, and passt ends with it.
//
//	netguard -listen-fd FD -socket PATH [-ready-fd FD] -mac MAC -address CIDR -gateway IP
//	         [-dns IP -resolver IP:PORT ...] [-forward PORT ...] [-deny CIDR ...] [-allow CIDR ...] [-runas UID:GID]
//	         -- passt ARGS
//
// Whoever starts it has made the socket and listens on it already, so a VMM can connect before this program does
// anything. What its guest sends waits in the socket, unread, until passt works and the policy is complete. Then
// "ready" is written to the second descriptor; if the program ends instead, that one is closed without a word.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/netguard"
)

// hostAddressesEvery is how often the host's own addresses and local routes are read again.
const hostAddressesEvery = 5 * time.Second

// readyLine is what is written to the descriptor of -ready-fd.
const readyLine = "ready\n"

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

func run(o options) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer os.Remove(o.socket)
	// First of all: passt must not inherit them.
	tell := readyTeller(o.readyFd)
	listener, err := inheritListener(o.listenFd)
	if err != nil {
		return err
	}
	defer listener.Close()
	if o.runAs != nil {
		if err := become(*o.runAs); err != nil {
			return fmt.Errorf("cannot become uid %d: %w", o.runAs.uid, err)
		}
	}
	passt, err := netguard.StartPasst(o.argv)
	if err != nil {
		return err
	}
	defer passt.Stop()
	stopOnSignal(signals, passt, o.socket)
	// While passt starts. Nothing of the guest is read before this is done.
	policy := netguard.NewPolicy(o.config)
	if err := watchHostAddresses(policy); err != nil {
		return err
	}
	if err := passt.AwaitReady(policy, o.gateway, o.readyTimeout); err != nil {
		return err
	}
	tell()
	vmm, err := accept(listener, passt, o.acceptTimeout)
	if err != nil {
		return err
	}
	defer vmm.Close()
	_ = os.Remove(o.socket) // One VMM only.
	return relay(vmm, passt, policy, o.resolvers)
}

// relay carries frames until either side ends.
func relay(vmm, passt net.Conn, policy *netguard.Policy, resolvers []string) error {
	toGuest := &netguard.LockedWriter{To: vmm}
	resolver := netguard.NewResolver(resolvers, toGuest)
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

// readyTeller returns a function that says once that everything works. Whoever started us may be gone by then.
func readyTeller(fd int) func() {
	if fd == 0 {
		return func() {}
	}
	syscall.CloseOnExec(fd)
	pipe := os.NewFile(uintptr(fd), "ready")
	return func() {
		_, _ = pipe.WriteString(readyLine)
		_ = pipe.Close()
	}
}

func inheritListener(fd int) (*net.UnixListener, error) {
	syscall.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("cannot use descriptor %d as a listening socket: %w", fd, err)
	}
	if unix, ok := listener.(*net.UnixListener); ok {
		return unix, nil
	}
	_ = listener.Close()
	return nil, fmt.Errorf("descriptor %d is not a unix socket", fd)
}

// accept takes the first VMM and no other: whoever else has connected is turned away.
func accept(listener *net.UnixListener, passt *netguard.Passt, limit time.Duration) (net.Conn, error) {
	defer listener.Close()
	_ = listener.SetDeadline(time.Now().Add(limit))
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-passt.Ended():
			_ = listener.Close()
		case <-done:
		}
	}()
	connection, err := listener.Accept()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, fmt.Errorf("no VMM connected within %s", limit)
	}
	if errors.Is(err, net.ErrClosed) {
		return nil, errors.New("passt ended before a VMM connected")
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
