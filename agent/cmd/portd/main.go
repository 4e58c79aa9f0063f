// Command portd runs on the host, one for each VM with forwarded ports, whatever network the VM has: it listens on
// addresses of the host and has the guest's agent connect to the guest's own servers, over a lane of the guest's channel.
// It outlives the program that started the VM, and ends when the lane does.
//
//	portd -lane-fd FD -control PATH [-listener FD:GUESTPORT ...] [-ready-fd FD] [-runas UID:GID]
//
// The first descriptor is a connected socket of a lane, which nobody else reads. The others of -listener listen already.
// PATH is made: orders come over it, see packages control and ports. Once the agent has answered and all of it works,
// "ready" is written to the descriptor of -ready-fd; if the program ends instead, that one is closed without a word.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/control"
	"smolvm.dev/agent/internal/laneclient"
	"smolvm.dev/agent/internal/ports"
	"smolvm.dev/agent/internal/privilege"
)

const (
	// greetLimit is how long the agent may take to answer.
	greetLimit = 10 * time.Second
	// memoryLimit is for the whole heap, in bytes: what 256 connections hold for clients that do not read is 84 MiB. Near
	// to it the collector works more often; nothing fails.
	memoryLimit = 128 << 20
	gcPercent   = 50
	// private keeps other users from the control socket, whatever its directory says.
	private   = 0o177
	readyLine = "ready\n"
)

func main() {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	// Caught and dropped: forwards must go on when the terminal or the program that started the VM goes away.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	options, err := parse(os.Args[1:], os.Stderr)
	if err == nil {
		err = run(options)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "portd:", err)
		os.Exit(1)
	}
}

// run serves until the lane ends, which is no error, or somebody stops it.
func run(o options) error {
	starter := os.Getuid() // Before it becomes another.
	tell := readyTeller(o.readyFd)
	lane, err := inheritLane(o.laneFd)
	if err != nil {
		return err
	}
	listeners, err := inheritListeners(o.listeners)
	if err != nil {
		return err
	}
	if err := privilege.Drop(o.runAs); err != nil {
		return err
	}
	if err := privilege.ShutOut(); err != nil {
		return err
	}
	door, err := listenControl(o.control)
	if err != nil {
		return fmt.Errorf("cannot make the control socket: %w", err)
	}
	defer door.Close() // and with it goes its file
	client, err := laneclient.Open(lane, greetLimit)
	if err != nil {
		return fmt.Errorf("cannot speak to the guest: %w", err)
	}
	defer client.Close()
	if err := ports.Supported(client); err != nil {
		return err
	}
	server := ports.New(client)
	defer server.CloseAll()
	for i, listener := range listeners {
		if err := server.Add(listener, o.listeners[i].guestPort); err != nil {
			return err
		}
	}
	stopped, ended := make(chan os.Signal, 1), make(chan error, 1)
	signal.Notify(stopped, syscall.SIGTERM)
	go func() { ended <- control.Serve(control.Only(door, starter), server.Operations()) }()
	tell()
	select {
	case <-client.Closed():
		if err := client.Err(); !isEnd(err) {
			return err
		}
		return nil
	case err := <-ended:
		return fmt.Errorf("cannot take orders: %w", err)
	case <-stopped:
		return nil
	}
}

// isEnd says that the VMM has ended, rather than broken the protocol.
func isEnd(err error) bool {
	return err == io.EOF || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func inheritLane(fd int) (net.Conn, error) {
	syscall.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), "lane")
	defer file.Close()
	lane, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("cannot use descriptor %d as a lane: %w", fd, err)
	}
	return lane, nil
}

func inheritListeners(asked []inherited) ([]*net.TCPListener, error) {
	listeners := make([]*net.TCPListener, len(asked))
	for i, one := range asked {
		syscall.CloseOnExec(one.fd)
		file := os.NewFile(uintptr(one.fd), "listener")
		listener, err := net.FileListener(file)
		_ = file.Close()
		if err != nil {
			return nil, fmt.Errorf("cannot use descriptor %d as a listening socket: %w", one.fd, err)
		}
		tcp, ok := listener.(*net.TCPListener)
		if !ok {
			return nil, fmt.Errorf("descriptor %d is not a TCP socket", one.fd)
		}
		listeners[i] = tcp
	}
	return listeners, nil
}

// listenControl makes the control socket. A program that died may have left one there.
func listenControl(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		_ = os.Remove(path)
	}
	defer syscall.Umask(syscall.Umask(private))
	return net.Listen("unix", path)
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
