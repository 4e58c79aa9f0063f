package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"smolvm.dev/agent/internal/connect"
	"smolvm.dev/agent/internal/privilege"
	"smolvm.dev/agent/internal/session"
)

// asProgram makes the test's own binary be the program.
const asProgram = "PORTD_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestOptions(t *testing.T) {
	o, err := parse(strings.Fields("-lane-fd 3 -control c.sock -listener 5:80 -listener 6:443 -ready-fd 4 -runas 65534:65533"), io.Discard)
	if err != nil || o.laneFd != 3 || o.readyFd != 4 || o.control != "c.sock" || o.runAs != (privilege.Identity{UID: 65534, GID: 65533}) ||
		fmt.Sprint(o.listeners) != "[{5 80} {6 443}]" {
		t.Errorf("%+v %v", o, err)
	}
	for _, line := range []string{"", "-control c", "-lane-fd 3", "-lane-fd 2 -control c", "-lane-fd 3 -control c more",
		"-lane-fd 3 -control c -ready-fd 3", "-lane-fd 3 -control c -listener 3:80", "-lane-fd 3 -control c -ready-fd 1",
		"-lane-fd 3 -control c -listener 4", "-lane-fd 3 -control c -listener 4:0", "-lane-fd 3 -control c -listener 4:65536",
		"-lane-fd 3 -control c -listener x:80", "-lane-fd 3 -control c -runas 0:1", "-lane-fd 3 -control c -other"} {
		if o, err := parse(strings.Fields(line), io.Discard); err == nil {
			t.Errorf("%q was taken for %+v", line, o)
		}
	}
}

// program runs portd with a lane to an agent, a listener and a pipe for readiness.
type program struct {
	command *exec.Cmd
	agent   *os.File // the guest's end of the lane
	port    int      // of the host, leads to the guest's
	ready   *bufio.Reader
	control string
	words   strings.Builder // what it said on stderr, once it has ended
}

// start runs it. Without serve nobody answers over the lane.
func start(t *testing.T, guestPort int, serve bool, more ...string) *program {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if os.Getuid() == 0 { // It becomes nobody, who makes the socket.
		if err := os.Chown(dir, privilege.Nobody.UID, privilege.Nobody.GID); err != nil {
			t.Fatal(err)
		}
	}
	p := &program{agent: os.NewFile(uintptr(pair[1]), "agent"), control: filepath.Join(dir, "control.sock")}
	lane := os.NewFile(uintptr(pair[0]), "lane")
	if serve {
		operations := map[string]session.ExchangeOperation{"net.connect": (&connect.Connector{}).Operation}
		p.serve(t, operations)
	}
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	p.port = listener.Addr().(*net.TCPAddr).Port
	socket, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	ready, told, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.ready = bufio.NewReader(ready)
	p.command = exec.Command(os.Args[0], append([]string{"-lane-fd", "3", "-listener", fmt.Sprint("4:", guestPort), "-ready-fd", "5",
		"-control", filepath.Base(p.control)}, more...)...)
	p.command.Dir = dir
	p.command.Stderr = io.MultiWriter(os.Stderr, &p.words)
	p.command.Env = append(os.Environ(), asProgram+"=1")
	p.command.ExtraFiles = []*os.File{lane, socket, told}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	for _, closer := range []io.Closer{lane, socket, told, listener} {
		_ = closer.Close()
	}
	t.Cleanup(func() {
		_ = p.command.Process.Kill()
		_ = p.command.Wait()
		_ = p.agent.Close()
		_ = ready.Close()
	})
	return p
}

// serve is a guest that knows these operations.
func (p *program) serve(t *testing.T, operations map[string]session.ExchangeOperation) {
	go func() {
		_ = session.Serve(p.agent, &session.Config{Exchanges: operations, Log: func(s string) { t.Error(s) }})
	}()
}

func TestAnAgentThatDoesNotConnectIsToldAtTheStart(t *testing.T) {
	p := start(t, 80, false)
	p.serve(t, nil)
	if line, err := p.ready.ReadString('\n'); err != io.EOF {
		t.Errorf("ready: %q %v", line, err)
	}
	if code := p.ended(t); code == 0 {
		t.Error("ended as if all were well")
	}
	if said := p.words.String(); !strings.Contains(said, "ENOSYS") {
		t.Errorf("%q", said)
	}
}

func (p *program) awaitReady(t *testing.T) {
	t.Helper()
	if line, err := p.ready.ReadString('\n'); err != nil || line != readyLine {
		t.Fatalf("ready: %q %v", line, err)
	}
}

// ended waits for the end and returns the exit code.
func (p *program) ended(t *testing.T) int {
	t.Helper()
	timer := time.AfterFunc(10*time.Second, func() { _ = p.command.Process.Kill() })
	defer timer.Stop()
	_ = p.command.Wait()
	return p.command.ProcessState.ExitCode()
}

// echo makes a server of the guest.
func echo(t *testing.T) (port int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(connection, connection)
				_ = connection.Close()
			}()
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

func echoes(t *testing.T, port int) {
	t.Helper()
	client, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, _ = client.Write([]byte("hello"))
	_ = client.CloseWrite()
	if got, err := io.ReadAll(client); err != nil || string(got) != "hello" {
		t.Errorf("%q %v", got, err)
	}
}

func TestServesUntilTheLaneEnds(t *testing.T) {
	guestPort := echo(t)
	p := start(t, guestPort, true)
	p.awaitReady(t)
	echoes(t, p.port)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE} {
		_ = p.command.Process.Signal(signal)
	}
	door, err := net.Dial("unix", p.control)
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	answers := bufio.NewReader(door)
	_, _ = fmt.Fprintf(door, `{"op":"listen","hostAddress":"127.0.0.1","hostPort":0,"guestPort":%d}`+"\n", guestPort)
	line, _ := answers.ReadString('\n')
	port := 0
	if n, _ := fmt.Sscanf(line, `{"ok":true,"hostPort":%d}`, &port); n != 1 {
		t.Fatal(line)
	}
	echoes(t, port)
	_, _ = fmt.Fprintf(door, `{"op":"listen","hostAddress":"127.0.0.1","hostPort":%d,"guestPort":80}`+"\n", port)
	if line, _ = answers.ReadString('\n'); !strings.HasPrefix(line, `{"ok":false,"code":"EADDRINUSE"`) {
		t.Error(line)
	}
	_ = p.agent.Close()
	if code := p.ended(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Lstat(p.control); err == nil {
		t.Error("the control socket is still there")
	}
}

func TestIsStopped(t *testing.T) {
	p := start(t, echo(t), true)
	p.awaitReady(t)
	_ = p.command.Process.Signal(syscall.SIGTERM)
	if code := p.ended(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestIsNotReadyForAGuestThatSpeaksSomethingElse(t *testing.T) {
	p := start(t, 80, false)
	go func() {
		for noise := make([]byte, 1<<20); ; {
			if _, err := p.agent.Write(noise); err != nil {
				return
			}
		}
	}()
	go func() { _, _ = io.Copy(io.Discard, p.agent) }()
	if line, err := p.ready.ReadString('\n'); err != io.EOF {
		t.Errorf("%q %v", line, err)
	}
	if code := p.ended(t); code != 1 {
		t.Errorf("exit code %d", code)
	}
}

func TestTakesThePlaceOfADeadSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	door, err := listenControl(path)
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if _, err := listenControl(t.TempDir()); err == nil {
		t.Error("a directory was replaced")
	}
}
