package netguard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// errNoSocket means that the inner helper sent an answer without what it is about.
var errNoSocket = errors.New("no socket came")

// innerTimeout bounds each answer of the inner helper.
const innerTimeout = 2 * time.Second

// notPermitted says that this system does not let us make the namespace of the names.
type notPermitted struct{ cause error }

func (e *notPermitted) Error() string {
	return fmt.Sprintf("cannot make a user and network namespace: %v", e.cause)
}

// Unwrap makes it EPERM, whichever way this system says no.
func (e *notPermitted) Unwrap() error { return syscall.EPERM }

// refusals are the ways: AppArmor or seccomp, a limit of 0 (user_namespaces(7)), a kernel without them.
var refusals = []error{syscall.EPERM, syscall.EACCES, syscall.ENOSPC, syscall.EUSERS, syscall.ENOSYS, syscall.EINVAL}

func permission(err error) error {
	for _, refusal := range refusals {
		if errors.Is(err, refusal) {
			return &notPermitted{err}
		}
	}
	return fmt.Errorf("cannot start the helper in a namespace: %w", err)
}

// room is a network namespace in which every address is local, with the inner helper that lives there.
type room struct {
	helper    *child
	socket    *net.UnixConn
	listeners map[uint16]net.Listener
}

// openRoom makes one. passt is what the helper can start there.
func openRoom(passt []string, log *Messages) (*room, error) {
	ours, theirs, err := socketPair(syscall.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	socket := ours.(*net.UnixConn)
	command := exec.Command("/proc/self/exe")
	command.Args = append([]string{"netguard", InnerFlag, "--"}, passt...)
	command.Dir = "/" // Neither the helper nor its passt has any business where the control socket is.
	uid, gid := os.Getuid(), os.Getgid()
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
		AmbientCaps: []uintptr{capNetAdmin, capNetBindService},
	}
	var helper *child
	err = whileDumpable(func() (err error) {
		helper, err = startChild(command, theirs, log)
		return err
	})
	if err != nil {
		socket.Close()
		return nil, permission(err)
	}
	r := &room{helper: helper, socket: socket, listeners: map[uint16]net.Listener{}}
	if _, err := r.answered(); err != nil {
		r.close()
		return nil, permission(err)
	}
	return r, nil
}

// InnerFlag is the first argument of the inner helper.
const InnerFlag = "-names-inner"

// ProbeNames tries everything that the namespace of the names needs, up to a listener on a low port.
func ProbeNames(log *Messages) error {
	r, err := openRoom(nil, log)
	if err != nil {
		return err
	}
	defer r.close()
	return r.open(1, func(listener net.Listener) { listener.Close() })
}

// whileDumpable runs f while this process's files in /proc are its own. They belong to root after a change of uid, and
// whoever makes a user namespace has to write its map there.
func whileDumpable(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, _, _ := syscall.RawSyscall(syscall.SYS_PRCTL, prGetDumpable, 0, 0)
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 1, 0)
	defer syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, before, 0)
	return f()
}

// answered reads the answer to one request.
func (r *room) answered() (fd int, err error) {
	_ = r.socket.SetReadDeadline(time.Now().Add(innerTimeout))
	message, fd, err := receive(r.socket)
	if err != nil {
		return -1, fmt.Errorf("the helper in the namespace does not answer: %w", err)
	}
	if len(message) != 4 {
		return fd, errors.New("the helper in the namespace answers nonsense")
	}
	if number := syscall.Errno(binary.BigEndian.Uint32(message)); number != 0 {
		return fd, number
	}
	return fd, nil
}

// open listens on a port of every address; serve runs in a goroutine of its own.
func (r *room) open(port uint16, serve func(net.Listener)) error {
	if r.listeners[port] != nil {
		return nil
	}
	request := []byte{innerListen, byte(port >> 8), byte(port)}
	if err := send(r.socket, request, -1); err != nil {
		return err
	}
	fd, err := r.answered()
	if err == nil && fd < 0 {
		err = errNoSocket
	}
	if err != nil {
		return fmt.Errorf("cannot listen on port %d of the names' namespace: %w", port, err)
	}
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	listener, err := net.FileListener(file)
	if err != nil {
		return err
	}
	r.listeners[port] = listener
	go serve(listener)
	return nil
}

// passt starts the passt of the names.
func (r *room) passt() (net.Conn, error) {
	ours, theirs, err := socketPair(syscall.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	widen(theirs)
	err = send(r.socket, []byte{innerPasst}, int(theirs.Fd()))
	if err == nil {
		_, err = r.answered()
	}
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("cannot run the names' passt: %w", err)
	}
	return ours, nil
}

// keep closes the listeners of other ports.
func (r *room) keep(ports map[uint16]bool) {
	for port, listener := range r.listeners {
		if !ports[port] {
			listener.Close()
			delete(r.listeners, port)
		}
	}
}

// close ends the helper and every listener.
func (r *room) close() {
	for _, listener := range r.listeners {
		listener.Close()
	}
	r.socket.Close()
	r.helper.stop()
}
