package netguard

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// passtFd is where the child finds its end of the socket pair: the first descriptor after stderr.
	passtFd = "3"
	// logLimit bounds what a child may write to our stderr, in bytes; the guest can provoke messages.
	logLimit = 64 * 1024
	// framesBeforeReady bounds what else passt may say before it answers; newer ones announce themselves.
	framesBeforeReady = 64
	// exitGrace is how long passt may take to end by itself once its socket is closed.
	exitGrace = time.Second
)

// Passt is a child that serves one end of a socket pair. It ends when the other end is closed, whoever closes it:
// if this process is killed, the kernel does.
type Passt struct {
	net.Conn
	command *exec.Cmd
	ended   chan struct{}
	logged  chan struct{}
}

// StartPasst runs argv with `--fd 3` added.
func StartPasst(argv []string) (*Passt, error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "guard"), os.NewFile(uintptr(pair[1]), "passt")
	defer ours.Close()
	defer theirs.Close()
	connection, err := net.FileConn(ours)
	if err != nil {
		return nil, fmt.Errorf("cannot use the socket pair: %w", err)
	}
	command := exec.Command(argv[0], append(append([]string(nil), argv[1:]...), "--fd", passtFd)...)
	command.ExtraFiles = []*os.File{theirs}
	command.Env = []string{"LC_ALL=C"}
	messages, err := command.StderrPipe()
	if err != nil {
		connection.Close()
		return nil, err
	}
	if err := command.Start(); err != nil {
		connection.Close()
		return nil, fmt.Errorf("cannot run %s: %w", argv[0], err)
	}
	child := &Passt{Conn: connection, command: command, ended: make(chan struct{}), logged: make(chan struct{})}
	go func() {
		copyMessages(os.Stderr, messages)
		close(child.logged)
		_ = command.Wait()
		close(child.ended)
	}()
	return child, nil
}

// AwaitReady asks for the gateway by ARP until passt answers: from then on its forwards are bound too.
func (c *Passt) AwaitReady(policy *Policy, gateway net.IP, limit time.Duration) error {
	if _, err := c.Write(arpRequest(policy, addressOf(gateway))); err != nil {
		return c.endedEarly()
	}
	_ = c.SetReadDeadline(time.Now().Add(limit))
	defer c.SetReadDeadline(time.Time{})
	frame := make([]byte, frameLimit)
	for looked := 0; looked < framesBeforeReady; looked++ {
		size, err := readFrame(c, frame)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("passt did not answer within %s", limit)
		}
		if err != nil {
			return c.endedEarly()
		}
		if isARPReply(frame[:size]) {
			return nil
		}
	}
	return errors.New("passt sends frames but does not answer ARP")
}

func readFrame(from io.Reader, frame []byte) (int, error) {
	var length [lengthSize]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return 0, err
	}
	size := int(binary.BigEndian.Uint32(length[:]))
	if size > len(frame) {
		return 0, ErrBadFrame
	}
	return io.ReadFull(from, frame[:size])
}

func isARPReply(frame []byte) bool {
	return len(frame) >= ethernetSize+arpSize &&
		binary.BigEndian.Uint16(frame[12:]) == etherTypeARP && binary.BigEndian.Uint16(frame[20:]) == 2
}

// Ended is closed when the child has ended.
func (c *Passt) Ended() <-chan struct{} { return c.ended }

// Stop closes the socket and waits for the child's end.
func (c *Passt) Stop() {
	_ = c.Close()
	select {
	case <-c.ended:
	case <-time.After(exitGrace):
		_ = c.command.Process.Kill()
		<-c.ended
	}
}

func (c *Passt) endedEarly() error {
	select {
	case <-c.ended:
		return fmt.Errorf("passt ended at start: %s", c.command.ProcessState)
	case <-time.After(exitGrace):
		return errors.New("passt closed its socket at start")
	}
}

// copyMessages copies lines up to the limit, then only drains. passt complains about a missing syslog line by line.
func copyMessages(to io.Writer, from io.Reader) {
	lines := bufio.NewReader(from)
	for left := logLimit; left > 0; {
		line, err := lines.ReadString('\n')
		if line != "" && !strings.HasPrefix(line, "Failed to send ") && strings.TrimSpace(line) != "" {
			if len(line) > left {
				line = line[:left]
			}
			left -= len(line)
			_, _ = io.WriteString(to, line)
		}
		if err != nil {
			return
		}
	}
	_, _ = io.Copy(io.Discard, lines)
}

func arpRequest(policy *Policy, target uint32) []byte {
	message := make([]byte, lengthSize+ethernetSize+arpSize)
	binary.BigEndian.PutUint32(message, ethernetSize+arpSize)
	frame := message[lengthSize:]
	copy(frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	copy(frame[6:], policy.mac[:])
	binary.BigEndian.PutUint16(frame[12:], etherTypeARP)
	body := frame[ethernetSize:]
	copy(body, []byte{0, 1, 8, 0, 6, 4, 0, 1})
	copy(body[8:], policy.mac[:])
	binary.BigEndian.PutUint32(body[14:], policy.address)
	binary.BigEndian.PutUint32(body[24:], target)
	return message
}
