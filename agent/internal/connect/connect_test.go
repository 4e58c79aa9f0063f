package connect

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/laneclient"
	"smolvm.dev/agent/internal/session"
)

// guest is an agent that can do nothing but this, at the other end of a pair of sockets.
func guest(t testing.TB, connector *Connector) *laneclient.Client {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "agent")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = session.Serve(theirs, &session.Config{Exchanges: map[string]session.ExchangeOperation{
			"net.connect": connector.Operation}, Log: func(s string) { t.Error(s) }})
		_ = theirs.Close()
	}()
	client, err := laneclient.Open(os.NewFile(uintptr(pair[0]), "client"), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		<-done
	})
	return client
}

// listen gives a server's port and its connections.
func listen(t testing.TB, address string) (port int, accepted <-chan *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	connections := make(chan *net.TCPConn, MaxConnections+1)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			connections <- connection.(*net.TCPConn)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		for len(connections) > 0 {
			_ = (<-connections).Close()
		}
	})
	return listener.Addr().(*net.TCPAddr).Port, connections
}

func open(t testing.TB, client *laneclient.Client, port int) *laneclient.Call {
	t.Helper()
	call, err := client.Call("net.connect", frame.AppendU32(nil, tagPort, uint32(port)))
	if err != nil {
		t.Fatal(err)
	}
	return call
}

func waitFor(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("never: " + what)
	}
}

func codeOf(call *laneclient.Call) string {
	var failure *laneclient.Failure
	if errors.As(call.Err(), &failure) {
		return failure.Code
	}
	return ""
}

func TestRequestsThatDoNotParse(t *testing.T) {
	c := &Connector{}
	for name, payload := range map[string][]byte{
		"no port": nil, "port 0": frame.AppendU32(nil, tagPort, 0), "a large one": frame.AppendU32(nil, tagPort, 65536),
		"a short one": frame.AppendBytes(nil, tagPort, []byte{0, 80}), "text": frame.AppendText(nil, tagPort, "8080x"),
	} {
		if _, err := c.Operation(payload); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestReachesAServerWhereverItListens(t *testing.T) {
	addresses := map[string]string{"loopback": "127.0.0.1:0", "all": "0.0.0.0:0", "IPv6 loopback": "[::1]:0"}
	if own := ownAddresses(); len(own) > 0 {
		addresses["interface"] = net.IP(own[0][:]).String() + ":0"
	}
	client := guest(t, &Connector{})
	for name, address := range addresses {
		t.Run(name, func(t *testing.T) {
			if probe, err := net.Listen("tcp", address); err != nil {
				t.Logf("no such address here: %v", err)
				return
			} else {
				_ = probe.Close()
			}
			port, accepted := listen(t, address)
			call := open(t, client, port)
			waitFor(t, "it is told that it is connected", call.Ready())
			server := <-accepted
			defer server.Close()
			_, _ = server.Write([]byte("the server speaks first"))
			_ = server.CloseWrite()
			got, err := io.ReadAll(call)
			if err != nil || string(got) != "the server speaks first" || !call.Ended() {
				t.Errorf("%q %v %v", got, err, call.Ended())
			}
			_, _ = call.Write([]byte("and the client last"))
			_ = call.CloseWrite()
			if got, err := io.ReadAll(server); err != nil || string(got) != "and the client last" {
				t.Errorf("%q %v", got, err)
			}
			waitFor(t, "the end", call.Done())
			if call.Err() != nil {
				t.Error(call.Err())
			}
		})
	}
}

func TestAClientThatOnlyCloses(t *testing.T) {
	port, accepted := listen(t, "127.0.0.1:0")
	call := open(t, guest(t, &Connector{}), port)
	_ = call.CloseWrite()
	server := <-accepted
	if got, err := io.ReadAll(server); err != nil || len(got) != 0 {
		t.Errorf("%q %v", got, err)
	}
	_ = server.Close()
	waitFor(t, "the end", call.Done())
	if call.Err() != nil || !call.Ended() {
		t.Error(call.Err())
	}
}

func TestLargeDataBothWaysAtOnce(t *testing.T) {
	port, accepted := listen(t, "127.0.0.1:0")
	call := open(t, guest(t, &Connector{}), port)
	data := bytes.Repeat([]byte("0123456789abcdef!"), 1<<20/17*4)
	go func() {
		server := <-accepted
		_, _ = io.Copy(server, server)
		_ = server.Close()
	}()
	go func() {
		_, _ = call.Write(data)
		_ = call.CloseWrite()
	}()
	var got bytes.Buffer
	if _, err := call.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("%d of %d bytes, %v", got.Len(), len(data), err)
	}
	waitFor(t, "the end", call.Done())
	if call.Err() != nil {
		t.Error(call.Err())
	}
}

func TestNobodyListens(t *testing.T) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := probe.Addr().(*net.TCPAddr).Port
	_ = probe.Close()
	call := open(t, guest(t, &Connector{}), port)
	waitFor(t, "the end", call.Done())
	if code := codeOf(call); code != "ECONNREFUSED" {
		t.Errorf("%q %v", code, call.Err())
	}
	select {
	case <-call.Ready():
		t.Error("it was told that it is connected")
	default:
	}
}

func TestAResetIsAFailure(t *testing.T) {
	port, accepted := listen(t, "127.0.0.1:0")
	client := guest(t, &Connector{})
	for name, busy := range map[string]bool{"a quiet client": false, "a client that writes": true} {
		t.Run(name, func(t *testing.T) {
			call := open(t, client, port)
			server := <-accepted
			if busy {
				go func() { _, _ = call.Write(make([]byte, 64<<20)) }()
			}
			_, _ = server.Write([]byte("before"))
			p := make([]byte, 6)
			if _, err := io.ReadFull(call, p); err != nil {
				t.Error(err)
			}
			_ = server.SetLinger(0)
			_ = server.Close()
			waitFor(t, "the end", call.Done())
			if code := codeOf(call); code != "ECONNRESET" || call.Ended() {
				t.Errorf("%q %v", code, call.Err())
			}
		})
	}
}

func TestACancelledConnectionIsReset(t *testing.T) {
	port, accepted := listen(t, "127.0.0.1:0")
	client := guest(t, &Connector{})
	for name, use := range map[string]func(*laneclient.Call){
		"a quiet one": func(*laneclient.Call) {},
		"one whose server takes nothing": func(call *laneclient.Call) {
			go func() { _, _ = call.Write(make([]byte, 64<<20)) }()
		},
		"one whose client has ended": func(call *laneclient.Call) { _ = call.CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			call := open(t, client, port)
			server := <-accepted
			defer server.Close()
			use(call)
			time.Sleep(20 * time.Millisecond)
			_ = call.Kill()
			waitFor(t, "the end", call.Done())
			if code := codeOf(call); code != "ECANCELED" {
				t.Errorf("%q %v", code, call.Err())
			}
			_ = server.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.Copy(io.Discard, server); !errors.Is(err, syscall.ECONNRESET) && name != "one whose client has ended" {
				t.Errorf("the server sees %v", err)
			}
			_ = server.SetWriteDeadline(time.Now().Add(5 * time.Second))
			for err := error(nil); err == nil; time.Sleep(time.Millisecond) {
				if _, err = server.Write([]byte("x")); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the server can write for ever")
				}
			}
		})
	}
}

// fill makes a server that accepts nothing any more: its kernel drops what comes.
func fill(t *testing.T) (port int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	own, _ := syscall.Getsockname(fd)
	port = own.(*syscall.SockaddrInet4).Port
	for i := 0; i < 4; i++ {
		s, err := newSocket(syscall.AF_INET, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.close(true) })
	}
	time.Sleep(20 * time.Millisecond)
	return port
}

func TestCancelledWhileItConnects(t *testing.T) {
	call := open(t, guest(t, &Connector{}), fill(t))
	time.Sleep(20 * time.Millisecond)
	select {
	case <-call.Done():
		t.Fatal("the server is not full", call.Err())
	case <-call.Ready():
		t.Fatal("the server is not full")
	default:
	}
	_ = call.Kill()
	waitFor(t, "the end", call.Done())
	if code := codeOf(call); code != "ECANCELED" {
		t.Errorf("%q %v", code, call.Err())
	}
}

func TestALimitedTimeToConnect(t *testing.T) {
	_, err := dialOne(syscall.AF_INET, &syscall.SockaddrInet4{Port: fill(t), Addr: [4]byte{127, 0, 0, 1}},
		time.Now().Add(20*time.Millisecond), nil)
	if errnoOf(err) != syscall.ETIMEDOUT {
		t.Error(err)
	}
}

func TestAtMostSoManyConnections(t *testing.T) {
	connector := &Connector{}
	first, second := guest(t, connector), guest(t, connector)
	port, accepted := listen(t, "127.0.0.1:0")
	for i := 0; i < MaxConnections; i++ {
		open(t, first, port)
		defer (<-accepted).Close()
	}
	call := open(t, second, port)
	waitFor(t, "the end", call.Done())
	if code := codeOf(call); code != "EAGAIN" {
		t.Errorf("%q %v", code, call.Err())
	}
	first.Close()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		call := open(t, second, port)
		select {
		case <-call.Ready():
			return
		case <-call.Done():
			if time.Now().After(end) {
				t.Fatal(call.Err())
			}
		}
	}
}

func TestASocketThatReachedItself(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	own, _ := syscall.Getsockname(fd)
	if err := syscall.Connect(fd, own); err != nil {
		t.Fatal(err)
	}
	if pending, err := connected(fd, own); pending || err != syscall.ECONNREFUSED {
		t.Error(pending, err)
	}
}
