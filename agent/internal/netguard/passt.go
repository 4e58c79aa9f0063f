package netguard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	// firstExtraFd is where a child finds the first descriptor that it is given, after stderr.
	firstExtraFd = "3"
	// framesBeforeReady bounds what else passt may say before it answers; newer ones announce themselves.
	framesBeforeReady = 64
	// passtBuffer is how much passt may have sent and we have not read yet, in bytes. What does not fit passt loses, and
	// sends again only after long waits; so it is more than the kernel gives without being asked (unix(7)). Where
	// net.core.wmem_max is less, that counts.
	passtBuffer = 4 << 20
	// exitGrace is how long a child may take to end by itself once its socket is closed.
	exitGrace = time.Second
	// arpReply is the operation of an answer.
	arpReply = 2
)

// ErrNotPermitted means that this system does not let us make the network namespace of the names.
var ErrNotPermitted = errors.New("user namespaces are not permitted here")

// link is the socket of a passt that runs. passt ends when the socket is closed, whoever closes it: if this process is
// killed, the kernel does.
type link struct {
	net.Conn
	// stop closes the socket and waits for passt's end.
	stop func()
}

// child is a program that ends when its socket is closed.
type child struct {
	command *exec.Cmd
	ended   chan struct{}
	logged  chan struct{} // closed when nobody can write messages any more
}

// startChild runs a command that is given one descriptor beside stderr, which goes to the log.
func startChild(command *exec.Cmd, given *os.File, log *Messages) (*child, error) {
	command.ExtraFiles = []*os.File{given}
	command.Env = []string{"LC_ALL=C"}
	said, stderr, err := os.Pipe() // Not StderrPipe: a child of the child may have it for longer.
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	command.Stderr = stderr
	if err := command.Start(); err != nil {
		said.Close()
		return nil, err
	}
	c := &child{command: command, ended: make(chan struct{}), logged: make(chan struct{})}
	go func() {
		log.Copy(said)
		said.Close()
		close(c.logged)
	}()
	go func() {
		_ = command.Wait()
		close(c.ended)
	}()
	return c, nil
}

// stop waits for the end, which must be under way, and enforces it.
func (c *child) stop() {
	select {
	case <-c.ended:
	case <-time.After(exitGrace):
		_ = c.command.Process.Kill()
		<-c.ended
	}
	select {
	case <-c.logged:
	case <-time.After(exitGrace):
	}
}

// socketPair makes two ends: one to use here, one to give away.
func socketPair(kind int) (ours net.Conn, theirs *os.File, err error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, kind|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	file := os.NewFile(uintptr(pair[0]), "netguard")
	defer file.Close()
	theirs = os.NewFile(uintptr(pair[1]), "child")
	if ours, err = net.FileConn(file); err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("cannot use a socket pair: %w", err)
	}
	return ours, theirs, nil
}

// startPasst runs argv with `--fd 3` added.
func startPasst(argv []string, log *Messages) (*link, error) {
	ours, theirs, err := socketPair(syscall.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	widen(theirs)
	passt, err := startChild(exec.Command(argv[0], withSocket(argv)...), theirs, log)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("cannot run %s: %w", argv[0], err)
	}
	return &link{Conn: ours, stop: func() { ours.Close(); passt.stop() }}, nil
}

// widen makes room in passt's end of its socket.
func widen(theirs *os.File) {
	_ = syscall.SetsockoptInt(int(theirs.Fd()), syscall.SOL_SOCKET, syscall.SO_SNDBUF, passtBuffer)
}

// withSocket is what passt is told after its name.
func withSocket(argv []string) []string {
	return append(append([]string(nil), argv[1:]...), "--fd", firstExtraFd)
}

// awaitReady asks for the gateway by ARP until passt answers, and learns the gateway's MAC address.
func (l *link) awaitReady(c *crafter, limit time.Duration) (gateway [6]byte, err error) {
	if _, err := l.Write(c.arpRequest()); err != nil {
		return gateway, errors.New("passt ended at its start")
	}
	_ = l.SetReadDeadline(time.Now().Add(limit))
	defer l.SetReadDeadline(time.Time{})
	frame := make([]byte, frameLimit)
	for looked := 0; looked < framesBeforeReady; looked++ {
		size, err := readFrame(l, frame)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return gateway, fmt.Errorf("passt did not answer within %s", limit)
		}
		if err != nil {
			return gateway, errors.New("passt ended at its start")
		}
		if isARPReply(frame[:size]) {
			copy(gateway[:], frame[ethernetSize+8:])
			return gateway, nil
		}
	}
	return gateway, errors.New("passt sends frames but does not answer ARP")
}

func readFrame(from io.Reader, frame []byte) (int, error) {
	var length [lengthSize]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return 0, err
	}
	size := int(binary.BigEndian.Uint32(length[:]))
	if size > len(frame) {
		return 0, errBadFrame
	}
	return io.ReadFull(from, frame[:size])
}

func isARPReply(frame []byte) bool {
	return len(frame) >= ethernetSize+arpSize &&
		binary.BigEndian.Uint16(frame[12:]) == etherTypeARP && binary.BigEndian.Uint16(frame[20:]) == arpReply
}
