package sentinel

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/privilege"
)

// Role is the first argument of a sentinel's process.
const Role = "sentinel"

// Descriptors that it inherits.
const (
	linkDescriptor = 3
	lockDescriptor = 4
)

// processName is its argv[0] and, cut off, what it is called in lists of processes.
const processName = "tapguard-sentinel"

const (
	// earlierLimit is how long the sentinel of an earlier guard may take to end.
	earlierLimit = 2 * time.Second
	earlierPause = 2 * time.Millisecond
)

// Companion is the sentinel as its guard sees it.
type Companion struct{ link *os.File }

// Start starts a sentinel: this program in the role "sentinel" (see Main). An earlier one of the same working directory has
// ended then. It must be called while CAP_NET_ADMIN is held.
func Start(o Options) (*Companion, error) {
	lock, err := lockDirectory()
	if err != nil {
		return nil, fmt.Errorf("an earlier sentinel goes on: %w", err)
	}
	defer lock.Close()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := pair[0], os.NewFile(uintptr(pair[1]), "guard")
	defer theirs.Close()
	if err := syscall.SetNonblock(ours, true); err != nil {
		_ = syscall.Close(ours)
		return nil, err
	}
	link := os.NewFile(uintptr(ours), "sentinel")
	runAs := fmt.Sprintf("%d:%d", o.RunAs.UID, o.RunAs.GID)
	process, err := os.StartProcess("/proc/self/exe",
		[]string{processName, Role, o.Device, o.Gateway.String(), o.Guest.String(), runAs},
		&os.ProcAttr{
			Env:   []string{"GOMAXPROCS=1"},
			Files: []*os.File{nil, nil, os.Stderr, theirs, lock},
			// What ends the guard's group must leave it: it is there for that.
			Sys: &syscall.SysProcAttr{Setsid: true},
		})
	if err != nil {
		_ = link.Close()
		return nil, fmt.Errorf("cannot start the sentinel: %w", err)
	}
	_ = process.Release()
	return &Companion{link}, nil
}

// lockDirectory keeps the sentinels of one guest apart: an earlier one may be about to take the device down.
func lockDirectory() (*os.File, error) {
	directory, err := os.Open(".")
	if err != nil {
		return nil, err
	}
	for start := time.Now(); ; time.Sleep(earlierPause) {
		err := syscall.Flock(int(directory.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return directory, nil
		}
		if err != syscall.EWOULDBLOCK || time.Since(start) > earlierLimit {
			_ = directory.Close()
			return nil, err
		}
	}
}

// Watch tells it which VMM the network is for, as a descriptor of the process (pidfd).
func (c *Companion) Watch(process int) error {
	raw, err := c.link.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) {
		sent = syscall.Sendmsg(int(fd), []byte{0}, syscall.UnixRights(process), nil, syscall.MSG_NOSIGNAL)
	}); err != nil {
		return err
	}
	return sent
}

// Wait returns when it has ended.
func (c *Companion) Wait() {
	for {
		if _, err := c.link.Read(make([]byte, 1)); err != nil {
			return
		}
	}
}

// receiveDescriptor reads what Watch sends; io.EOF when the guard has ended.
func receiveDescriptor(link int) (int, error) {
	var data [1]byte
	oob := make([]byte, syscall.CmsgSpace(4))
	for {
		n, oobn, _, _, err := syscall.Recvmsg(link, data[:], oob, syscall.MSG_CMSG_CLOEXEC)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return -1, err
		}
		if n == 0 {
			return -1, io.EOF
		}
		messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(messages) != 1 {
			return -1, errors.New("no descriptor came")
		}
		descriptors, err := syscall.ParseUnixRights(&messages[0])
		if err != nil || len(descriptors) != 1 {
			return -1, errors.New("no descriptor came")
		}
		return descriptors[0], nil
	}
}

// Main is the whole of a sentinel's process; args follow Role.
func Main(args []string) error {
	const wanted = 4
	if len(args) != wanted {
		return errors.New("a sentinel is started by its guard")
	}
	o := Options{Device: args[0]}
	var err error
	if o.Gateway, err = netip.ParseAddr(args[1]); err != nil {
		return err
	}
	if o.Guest, err = netip.ParseAddr(args[2]); err != nil {
		return err
	}
	if !o.Gateway.Is4() || !o.Guest.Is4() {
		return fmt.Errorf("%s is not IPv4", strings.Join(args[1:3], ", "))
	}
	if o.RunAs, err = privilege.Parse(args[3]); err != nil {
		return err
	}
	syscall.CloseOnExec(linkDescriptor)
	syscall.CloseOnExec(lockDescriptor)
	_ = os.WriteFile("/proc/self/comm", []byte(processName), 0)
	return Run(o, linkDescriptor, lockDescriptor, os.Stderr)
}
