// Command tapguard serves the guest of one TAP device: DNS on the gateway's address, the connections that the packet
// filter redirects to it because a name decides about them, and records of what the packet filter refuses.
//
//	tapguard -gateway IP -guest IP -nflog-group N -policy-fd FD -control PATH [-dns-port 53] [-proxy-port 29653]
//	         [-device NAME] [-denials-fd FD] [-ready-fd FD] [-runas UID:GID] [-sentinel-as UID:GID]
//	         [-follow-limit 60s]
//
// It is started as root, or with CAP_NET_ADMIN and CAP_NET_BIND_SERVICE. It makes its sockets, and then becomes nobody
// (or -runas) for good before it reads anything of the guest. Then it makes the socket for orders (package control),
// relative to its working directory, which must belong to that user, and writes "ready" to the ready descriptor. If it
// fails before, it closes that one without a word.
//
// With -device, a sentinel is started beside it (package sentinel): a process that takes the device down when this one ends
// before its VMM does, or when rules are gone. Without its sentinel this one ends. Under root it becomes -sentinel-as, a
// user that no other program runs as.
//
// It outlives the program that started it. It ends when the VMM does that it was told to follow, or after -follow-limit
// when it was told of none. Without it, the guest has no DNS and no connections by name: nothing is opened by its end.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"smolvm.dev/agent/internal/control"
	"smolvm.dev/agent/internal/egress"
	"smolvm.dev/agent/internal/privilege"
	"smolvm.dev/agent/internal/sentinel"
	"smolvm.dev/agent/internal/tapguard"
)

const (
	// policyLimit is the longest policy read, in bytes; package egress takes 1 MiB.
	policyLimit = 2 << 20
	// openFiles is enough for 512 connections, their other sides, DNS and the rest.
	openFiles = 2048
	// memoryLimit is for the whole heap, in bytes. Near to it the collector works more often; nothing fails.
	memoryLimit = 128 << 20
	gcPercent   = 50
	readyLine   = "ready\n"
	// controlMask leaves the socket for orders to its owner.
	controlMask = 0o077
)

func main() {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	// The guest's network must go on when the terminal or the program that started it goes away.
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	var err error
	if args := os.Args[1:]; len(args) > 0 && args[0] == sentinel.Role {
		err = sentinel.Main(args[1:])
	} else {
		err = serve(args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tapguard:", err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	return run(o)
}

func run(o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	starter := os.Getuid() // Before it becomes another.
	ready := inherit(o.readyFd, "ready")
	denialsFile := inherit(o.denialsFd, "denials")
	allowOpenFiles()
	sockets, err := tapguard.Open(o.addresses)
	if err != nil {
		return err
	}
	defer sockets.Close()
	// Not before: where another guard serves this guest the device is that one's.
	companion, err := startSentinel(o)
	if err != nil {
		return err
	}
	if err := privilege.Drop(o.runAs); err != nil {
		return err
	}
	if err := privilege.ShutOut(); err != nil {
		return err
	}
	policy, err := readPolicy(inherit(o.policyFd, "policy"))
	if err != nil {
		return err
	}
	var denials *egress.Denials
	if denialsFile != nil {
		denials = egress.NewDenials(denialsFile)
		defer denials.Flush()
	}
	guard, err := tapguard.New(sockets, policy, denials, o.followLimit)
	if err != nil {
		return err
	}
	if companion != nil {
		guard.Accompany(companion)
	}
	door, err := openDoor(o.control)
	if err != nil {
		return err
	}
	defer door.Close() // Which removes it.
	if ready != nil {
		// Whoever started us may be gone.
		_, _ = ready.WriteString(readyLine)
		_ = ready.Close()
	}
	return guard.Run(ctx, control.Only(door, starter))
}

// startSentinel returns nil where no device was named.
func startSentinel(o options) (*sentinel.Companion, error) {
	if o.device == "" {
		return nil, nil
	}
	return sentinel.Start(sentinel.Options{Device: o.device, Gateway: o.addresses.Gateway, Guest: o.addresses.Guest,
		RunAs: o.sentinelAs})
}

// inherit takes a descriptor over; nil for 0.
func inherit(fd int, name string) *os.File {
	if fd == 0 {
		return nil
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}

// allowOpenFiles raises the limit where it is low. It may fail without root; then fewer connections are carried.
func allowOpenFiles() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil || limit.Cur >= openFiles {
		return
	}
	if limit.Max < openFiles {
		limit.Max = openFiles
	}
	limit.Cur = openFiles
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

func readPolicy(file *os.File) (*egress.Policy, error) {
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, policyLimit))
	if err != nil {
		return nil, fmt.Errorf("cannot read the policy: %w", err)
	}
	return egress.ParsePolicy(text)
}

// openDoor makes the socket for orders, in place of one that an earlier guard has left.
func openDoor(path string) (net.Listener, error) {
	if left, err := os.Lstat(path); err == nil && left.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	before := syscall.Umask(controlMask)
	defer syscall.Umask(before)
	return net.Listen("unix", path)
}
