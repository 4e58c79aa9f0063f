package control

import (
	"net"
	"syscall"
)

// Only lets in root and one more user: who started the program, and not those who share the user that it has become.
// Connections of others are closed without a word. The listener must be one of unix sockets.
func Only(listener net.Listener, uid int) net.Listener { return &only{Listener: listener, uid: uid} }

type only struct {
	net.Listener
	uid int
}

func (o *only) Accept() (net.Conn, error) {
	for {
		client, err := o.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if peer, err := peerOf(client); err == nil && isLetIn(peer, o.uid) {
			return client, nil
		}
		_ = client.Close()
	}
}

func isLetIn(peer, uid int) bool { return peer == 0 || peer == uid }

// peerOf is the user that a client was when it connected.
func peerOf(client net.Conn) (int, error) {
	unix, ok := client.(*net.UnixConn)
	if !ok {
		return 0, syscall.ENOTSOCK
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *syscall.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		credentials, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if controlErr != nil {
		err = controlErr
	}
	if err != nil {
		return 0, err
	}
	return int(credentials.Uid), nil
}
