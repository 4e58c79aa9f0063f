// Command netguard stands between a VMM and passt, of which it runs two: one in the host's network, and one, while the
// egress policy has names, in a network namespace where every address leads to the egress proxy. It lets through only
// the frames that the policy allows, and answers the others with a refusal. It ends when the VMM does; passts that end
// are started again.
//
//	netguard -socket PATH -mac MAC -address CIDR -gateway IP [-dns IP] -policy-fd FD -control PATH [-denials-fd FD]
//	         [-ready-fd FD] [-rate-limit-mbps N] [-mtu BYTES] [-runas UID:GID] [-names-passt] -- passt ARGS
//	netguard -probe-names [-runas UID:GID]
//
// The VMM listens on the socket, which gets its name once it was started; until then it is waited for. What its guest
// sends waits there, unread, until passt works and the policy is complete. Then "ready" is written to the descriptor of
// -ready-fd; if the program ends instead, that one is closed without a word, and the program's exit status is 3 where
// user namespaces are needed and not permitted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/egress"
	"smolvm.dev/agent/internal/netguard"
)

const (
	// readyLine is what is written to the descriptor of -ready-fd.
	readyLine = "ready\n"
	// policyLimit is the longest policy, in bytes; egress takes no longer one either.
	policyLimit = 1 << 20
	// memoryLimit is for the whole heap, in bytes. Near to it the collector works more often; nothing fails.
	memoryLimit = 128 << 20
	// dialPause is the time between two looks whether the VMM was started.
	dialPause = time.Millisecond
	// probeTimeout bounds -probe-names.
	probeTimeout = 2 * time.Second

	exitFailure      = 1
	exitNotPermitted = 3
)

func main() {
	debug.SetMemoryLimit(memoryLimit)
	err := start(os.Args[1:])
	if err == nil {
		return
	}
	if errors.Is(err, syscall.EPERM) {
		fmt.Fprintln(os.Stderr, "netguard: EPERM:", err)
		os.Exit(exitNotPermitted)
	}
	fmt.Fprintln(os.Stderr, "netguard:", err)
	os.Exit(exitFailure)
}

func start(args []string) error {
	if len(args) > 1 && args[0] == netguard.InnerFlag {
		return netguard.ServeInner(args[2:])
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.probe {
		return probe(o)
	}
	return run(o)
}

func probe(o options) error {
	time.AfterFunc(probeTimeout, func() {
		fmt.Fprintf(os.Stderr, "netguard: no answer within %s\n", probeTimeout)
		os.Exit(exitFailure)
	})
	if err := o.become(); err != nil {
		return err
	}
	return netguard.ProbeNames(netguard.NewMessages(os.Stderr))
}

func run(o options) error {
	starter := os.Getuid() // Before it becomes another.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	// First of all: passt must not inherit them.
	policyFile, denialsFile, readyFile := inherit(o.policyFd), inherit(o.denialsFd), inherit(o.readyFd)
	if err := o.become(); err != nil {
		return err
	}
	policy, err := readPolicy(policyFile)
	_ = policyFile.Close()
	if err != nil {
		return err
	}
	host, err := egress.ReadHost()
	if err != nil {
		return fmt.Errorf("cannot read the host's addresses: %w", err)
	}
	o.config.Policy, o.config.Host, o.config.Log = policy, host, netguard.NewMessages(os.Stderr)
	if denialsFile != nil {
		o.config.Denials = egress.NewDenials(denialsFile)
		defer o.config.Denials.Flush()
	}
	guard := netguard.NewSwitch(o.config)
	defer guard.Stop()
	go func() {
		<-signals
		guard.Stop()
		o.config.Denials.Flush()
		os.Exit(0)
	}()
	go host.Watch(context.Background())
	// Nothing of the guest is read before this is done.
	if err := guard.Start(); err != nil {
		return err
	}
	control, err := serveControl(o.control, starter, guard)
	if err != nil {
		return err
	}
	defer control.Close()
	vmm, err := dialVmm(o.socket, o.acceptTimeout)
	if err != nil {
		return err
	}
	if readyFile != nil {
		_, _ = readyFile.WriteString(readyLine) // Whoever started us may be gone by now.
		_ = readyFile.Close()
	}
	defer vmm.Close()
	guard.FromGuest(vmm)
	return nil
}

// dialVmm connects to the VMM, whose socket gets its name when it has been started.
func dialVmm(socket string, limit time.Duration) (net.Conn, error) {
	for end := time.Now().Add(limit); ; time.Sleep(dialPause) {
		vmm, err := net.Dial("unix", socket)
		if err == nil {
			return vmm, nil
		}
		if !errors.Is(err, syscall.ENOENT) || time.Now().After(end) {
			return nil, fmt.Errorf("cannot connect to the VMM: %w", err)
		}
	}
}

func readPolicy(from io.Reader) (*egress.Policy, error) {
	data, err := io.ReadAll(io.LimitReader(from, policyLimit+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the policy: %w", err)
	}
	return egress.ParsePolicy(data)
}

// inherit takes a descriptor over; nil for none.
func inherit(fd int) *os.File {
	if fd == 0 {
		return nil
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), fmt.Sprintf("descriptor %d", fd))
}
