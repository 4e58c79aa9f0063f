package control

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// asClient makes this test binary a client of the socket that the variable names.
const asClient = "CONTROL_TEST_CLIENT"

func TestMain(m *testing.M) {
	path := os.Getenv(asClient)
	if path == "" {
		os.Exit(m.Run())
	}
	client, err := net.Dial("unix", path)
	if err != nil {
		os.Exit(3)
	}
	_, _ = client.Write([]byte("{\"op\":\"nothing\"}\n"))
	if n, _ := client.Read(make([]byte, 100)); n == 0 {
		os.Exit(1)
	}
	os.Exit(0)
}

func TestWhoIsLetIn(t *testing.T) {
	for _, c := range []struct {
		peer, uid int
		want      bool
	}{{0, 0, true}, {0, 1000, true}, {1000, 1000, true}, {1000, 0, false}, {1001, 1000, false}, {65534, 0, false}} {
		if got := isLetIn(c.peer, c.uid); got != c.want {
			t.Errorf("%d where %d started it: %v", c.peer, c.uid, got)
		}
	}
}

// openTo serves a socket that everybody may connect to, as far as files go.
func openTo(t *testing.T, uid int) (path, program string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path, program = filepath.Join(dir, "socket"), filepath.Join(dir, "client")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	self, err := os.ReadFile("/proc/self/exe") // Where it is others may not come.
	if err == nil {
		err = os.WriteFile(program, self, 0o755)
	}
	for _, open := range []string{dir, path} {
		if err == nil {
			err = os.Chmod(open, 0o777)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = Serve(Only(listener, uid), operations()) }()
	return path, program
}

func TestOthersAreKeptOut(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be others")
	}
	const starter, other = 4321, 4322
	path, program := openTo(t, starter)
	for uid, want := range map[int]int{0: 0, starter: 0, other: 1, 65534: 1} {
		client := exec.Command(program)
		client.Dir = "/"
		client.Env = []string{asClient + "=" + path}
		client.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		_ = client.Run()
		if client.ProcessState == nil || client.ProcessState.ExitCode() != want {
			t.Errorf("user %d: %v, want exit status %d", uid, client.ProcessState, want)
		}
	}
}
