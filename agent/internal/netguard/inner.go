package netguard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// The inner helper is this program once more, in a user and network namespace of its own in which every address is
// local. It makes listening sockets there and gives them away, and it runs the passt of the names there. It never sees
// a byte of the guest's. Each request is one message on a unix socket, each answer another: an errno, 0 for success.

const (
	// innerListen is followed by a port (2 bytes); a listening socket comes with the answer.
	innerListen = 'L'
	// innerPasst comes with the socket that passt is to serve.
	innerPasst = 'P'
	// innerMessageLimit is the longest message, in bytes.
	innerMessageLimit = 16
	// innerFd is where the inner helper finds its socket.
	innerFd = 3
	// listenBacklog is how many connections may wait to be accepted.
	listenBacklog = 512

	capNetBindService = 10
	capNetAdmin       = 12
	prGetDumpable     = 3  // PR_GET_DUMPABLE
	prSetDumpable     = 4  // PR_SET_DUMPABLE
	prCapAmbient      = 47 // PR_CAP_AMBIENT
	capAmbientClear   = 4  // PR_CAP_AMBIENT_CLEAR_ALL
)

// ServeInner is the inner helper's whole life. It ends when netguard does, or lets go of it; passt's socket is
// netguard's too, so passt ends then.
func ServeInner(passt []string) error {
	runtime.LockOSThread() // Capabilities are a thread's, and so are those of the children that it starts.
	socket, err := inheritUnix(innerFd)
	if err != nil {
		return err
	}
	err = claimEveryAddress()
	// passt gets none of our capabilities: its children are started by this thread.
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prCapAmbient, capAmbientClear, 0, 0, 0, 0); err == nil && errno != 0 {
		err = errno
	}
	// Its memory is nobody's; what it starts is dumpable again, as passt must be for the namespaces that it makes.
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0); err == nil && errno != 0 {
		err = errno
	}
	if answerErr := answer(socket, -1, err); answerErr != nil || err != nil {
		return err
	}
	for {
		request, given, err := receive(socket)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		made, err := serveRequest(request, given, passt)
		if given >= 0 {
			_ = syscall.Close(given)
		}
		err = answer(socket, made, err)
		if made >= 0 {
			_ = syscall.Close(made)
		}
		if err != nil {
			return err
		}
	}
}

// serveRequest returns a descriptor to give away, or -1.
func serveRequest(request []byte, given int, passt []string) (int, error) {
	switch {
	case len(request) == 3 && request[0] == innerListen:
		return listenEverywhere(binary.BigEndian.Uint16(request[1:]))
	case len(request) == 1 && request[0] == innerPasst && given >= 0 && len(passt) > 0:
		copied, err := syscall.Dup(given)
		if err != nil {
			return -1, err
		}
		syscall.CloseOnExec(copied)
		socket := os.NewFile(uintptr(copied), "passt")
		defer socket.Close()
		command := exec.Command(passt[0], withSocket(passt)...)
		command.ExtraFiles, command.Stderr = []*os.File{socket}, os.Stderr
		if err := command.Start(); err != nil {
			return -1, err
		}
		go func() { _ = command.Wait() }()
		return -1, nil
	}
	return -1, syscall.EINVAL
}

// listenEverywhere listens on one port of every address.
func listenEverywhere(port uint16) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	// A port that was given back and is asked for again has connections that still end.
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(port)})
	}
	if err == nil {
		err = syscall.Listen(fd, listenBacklog)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

func inheritUnix(fd uintptr) (*net.UnixConn, error) {
	file := os.NewFile(fd, "netguard")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.New("the descriptor is not a unix socket")
	}
	return unix, nil
}

// answer sends an errno, and a descriptor unless it is -1.
func answer(socket *net.UnixConn, fd int, err error) error {
	var number syscall.Errno
	if err != nil {
		fmt.Fprintln(os.Stderr, "netguard:", err)
		if !errors.As(err, &number) {
			number = syscall.EIO
		}
	}
	var message [4]byte
	binary.BigEndian.PutUint32(message[:], uint32(number))
	return send(socket, message[:], fd)
}

func send(socket *net.UnixConn, message []byte, fd int) error {
	var rights []byte
	if fd >= 0 {
		rights = syscall.UnixRights(fd)
	}
	_, _, err := socket.WriteMsgUnix(message, rights, nil)
	return err
}

// receive reads one message, and the descriptor that comes with it; -1 for none.
func receive(socket *net.UnixConn) (message []byte, fd int, err error) {
	buffer, rights := make([]byte, innerMessageLimit), make([]byte, syscall.CmsgSpace(4))
	n, size, _, _, err := socket.ReadMsgUnix(buffer, rights)
	if err != nil {
		return nil, -1, err
	}
	if n == 0 {
		return nil, -1, io.EOF
	}
	fd = -1
	parts, err := syscall.ParseSocketControlMessage(rights[:size])
	if err == nil && len(parts) == 1 {
		if fds, err := syscall.ParseUnixRights(&parts[0]); err == nil && len(fds) == 1 {
			fd = fds[0]
			syscall.CloseOnExec(fd)
		}
	}
	return buffer[:n], fd, nil
}
