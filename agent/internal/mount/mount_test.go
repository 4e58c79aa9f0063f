package mount

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/fuse"
)

func TestRequestsThatDoNotParse(t *testing.T) {
	m := &Mounts{}
	path := frame.AppendBytes(nil, tagGuestPath, []byte("/mnt"))
	for name, payload := range map[string][]byte{
		"index": frame.AppendU32(path, tagIndex, maxMounts), "flag": frame.AppendBytes(path, tagWritable, []byte{2}),
		"long path": frame.AppendBytes(nil, tagGuestPath, make([]byte, maxPath+1)), "short index": frame.AppendBytes(path, tagIndex, nil),
	} {
		if _, err := m.Operation(payload); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := m.Operation(frame.AppendU32(path, tagIndex, maxMounts-1)); err != nil {
		t.Error(err)
	}
}

func TestPaths(t *testing.T) {
	for _, path := range []string{"/mnt", "/mnt/a b", "/developer", "/run/x", "/root/.config"} {
		if err := checkPath(path); err != nil {
			t.Errorf("%q: %v", path, err)
		}
	}
	for _, path := range []string{"", "mnt", "/", "/mnt/", "//mnt", "/mnt/../etc", "/mnt/.", "/mnt\x00", "/proc", "/proc/1",
		"/sys", "/dev/shm", "/run/smolvm/x", "/var/lib/smolvm"} {
		err := checkPath(path)
		if failure := result(err).Failed; failure == nil || failure.Code != "EINVAL" {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestFindsItsOwnMounts(t *testing.T) {
	text := strings.Join([]string{
		`22 28 0:21 / /proc rw - proc proc rw`,
		`40 28 0:50 / /run/smolvm/mounts/1/lower ro - fuse.smolvm smolvm-mount-1 ro`,
		`41 28 0:51 / /mnt/a\040b\134 rw - overlay smolvm-mount-1 rw`,
		`42 28 0:52 / /mnt/ten rw - overlay smolvm-mount-10 rw`,
		`43 28 0:53 / /mnt/fake rw - tmpfs other smolvm-mount-1`, ``, `broken`, `1 2 - x`}, "\n")
	if got := lastPoint(text, "smolvm-mount-1"); got != `/mnt/a b\` {
		t.Errorf("%q", got)
	}
	if got := lastPoint(text, "smolvm-mount-2"); got != "" {
		t.Errorf("%q", got)
	}
}

// pipe stands for /dev/fuse or the host: one end of two pipes.
type pipe struct {
	io.Reader
	io.Writer
}

// carried starts a relay over a socket pair, whose messages keep their bounds as those of /dev/fuse do.
func carried(t *testing.T) (r *relay, kernel *os.File, host pipe) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 4*fuse.MaxMessage)
	}
	kernel = os.NewFile(uintptr(fds[1]), "kernel")
	fromHost, toAgent := io.Pipe()
	fromAgent, toHost := io.Pipe()
	r = newRelay(os.NewFile(uintptr(fds[0]), "device"), pipe{fromHost, toHost})
	r.start()
	t.Cleanup(func() {
		r.stop()
		_ = kernel.Close()
		_ = toAgent.Close()
		_ = fromAgent.Close()
	})
	return r, kernel, pipe{fromAgent, toAgent}
}

func message(n int) []byte {
	p := bytes.Repeat([]byte{7}, n)
	binary.LittleEndian.PutUint32(p, uint32(n))
	return p
}

func TestRelaysWholeMessages(t *testing.T) {
	_, kernel, host := carried(t)
	for _, n := range []int{16, 40, 5000, 100000} {
		want := message(n)
		if _, err := kernel.Write(want); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, n)
		if _, err := io.ReadFull(host, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("request of %d bytes: %v", n, err)
		}
		// The host's data comes in whatever pieces.
		go func() {
			for _, piece := range [][]byte{want[:3], want[3:10], want[10:]} {
				_, _ = host.Write(piece)
			}
		}()
		got = make([]byte, fuse.MaxMessage)
		if m, err := kernel.Read(got); err != nil || !bytes.Equal(got[:m], want) {
			t.Fatalf("answer of %d bytes: %d, %v", n, m, err)
		}
	}
}

func TestABrokenHostEndsTheRelay(t *testing.T) {
	for name, size := range map[string]uint32{"short": 15, "long": fuse.MaxMessage + 1, "huge": 1 << 31} {
		r, _, host := carried(t)
		p := message(16)
		binary.LittleEndian.PutUint32(p, size)
		go func() { _, _ = host.Write(p) }()
		select {
		case <-r.ended:
		case <-time.After(5 * time.Second):
			t.Errorf("%s: the relay goes on", name)
		}
	}
}

func TestStoppingARelay(t *testing.T) {
	r, kernel, _ := carried(t)
	r.stop()
	<-r.ended
	if r.unmounted {
		t.Error("it was not unmounted")
	}
	if n, err := kernel.Read(make([]byte, 10)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the device is still open: %d %v", n, err)
	}
	r.stop() // again
}

// With mounts, forks are one at a time, and the mounts wait for those that began before.
func TestForksWithMountsAreOneAtATime(t *testing.T) {
	m := &Mounts{}
	one, two := m.BeforeFork(), m.BeforeFork() // both at once
	begun := make(chan struct{})
	go func() {
		m.forks.begin()
		close(begun)
	}()
	select {
	case <-begun:
		t.Fatal("a mount began while forks were under way that do not know of it")
	case <-time.After(20 * time.Millisecond):
	}
	one()
	two()
	<-begun
	defer m.forks.end()
	var mu sync.Mutex
	running, most := 0, 0
	var all sync.WaitGroup
	for i := 0; i < 20; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			after := m.BeforeFork()
			mu.Lock()
			if running++; running > most {
				most = running
			}
			mu.Unlock()
			time.Sleep(time.Millisecond)
			mu.Lock()
			running--
			mu.Unlock()
			after()
		}()
	}
	all.Wait()
	if most != 1 {
		t.Errorf("%d forks at once", most)
	}
}
