package session

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"smolvm.dev/agent/internal/frame"
)

func TestOutputAndExitCode(t *testing.T) {
	c := connect(t, serve(t))
	o := c.finish(c.shell("echo out; echo err >&2; exit 7"))
	if o.Type != frame.Exited || o.u32(1) != 7 || o.ended != 2 {
		t.Errorf("%+v", o)
	}
	if string(o.output[1]) != "out\n" || string(o.output[2]) != "err\n" {
		t.Errorf("%q %q", o.output[1], o.output[2])
	}
}

func TestBothOutputsFloodWithoutDeadlock(t *testing.T) {
	c := connect(t, serve(t))
	o := c.finish(c.shell("head -c 3000000 /dev/zero & head -c 3000000 /dev/zero >&2; wait"))
	if len(o.output[1]) != 3000000 || len(o.output[2]) != 3000000 || o.u32(1) != 0 {
		t.Errorf("%d %d %v", len(o.output[1]), len(o.output[2]), o.fields)
	}
}

func TestBackgroundChildDoesNotHoldTheCommand(t *testing.T) {
	c := connect(t, serve(t))
	start := time.Now()
	o := c.finish(c.shell("sleep 100 & echo $!"))
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	pid := strings.TrimSpace(string(o.output[1]))
	eventually(t, "the child is killed", func() bool { return !running(pid) })
}

func TestOrphansAreKeptOnRequest(t *testing.T) {
	lane := serve(t)
	c := connect(t, lane)
	o := c.finish(c.exec(frame.AppendBytes(request("/bin/sh", "-c", "sleep 100 & echo $!"), 7, []byte{1})))
	pid, err := strconv.Atoi(strings.TrimSpace(string(o.output[1])))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGKILL)
	lane.hangUp()
	connect(t, lane)
	if !running(strconv.Itoa(pid)) {
		t.Error("the orphan is gone")
	}
}

// running reports a process that is there and no zombie.
func running(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && !bytes.Contains(stat, []byte(") Z ")) && !bytes.Contains(stat, []byte(") X "))
}

func TestDeathBySignalIsReportedAsSuch(t *testing.T) {
	c := connect(t, serve(t))
	if o := c.finish(c.shell("kill -SEGV $$")); o.u32(2) != int(syscall.SIGSEGV) || o.u32(1) != -1 {
		t.Errorf("%v", o.fields)
	}
}

func TestSignalAndKill(t *testing.T) {
	c := connect(t, serve(t))
	// Sent at once: they may well come before the command has started.
	id := c.exec(request("sleep", "100"))
	c.send(frame.Signal, 0, id, frame.AppendU32(nil, 1, uint32(syscall.SIGTERM)))
	if o := c.finish(id); o.u32(2) != int(syscall.SIGTERM) {
		t.Errorf("signal: %v", o.fields)
	}
	id = c.shell("trap '' TERM; sleep 100 & sleep 100; sleep 100")
	c.send(frame.Kill, 0, id, nil)
	if o := c.finish(id); o.u32(2) != int(syscall.SIGKILL) {
		t.Errorf("kill: %v", o.fields)
	}
}

func TestOutputLimit(t *testing.T) {
	c := connect(t, serve(t))
	const size, limit = 100 << 20, 1000
	o := c.finish(c.exec(frame.AppendU64(request("head", "-c", strconv.Itoa(size), "/dev/zero"), 5, limit)))
	if len(o.output[1]) != limit || binary.BigEndian.Uint64(o.fields[3]) != size-limit {
		t.Errorf("%d bytes, %v", len(o.output[1]), o.fields)
	}
}

func TestStdinIsEchoed(t *testing.T) {
	c := connect(t, serve(t))
	id := c.exec(frame.AppendBytes(request("cat"), 9, []byte{1}))
	sent := bytes.Repeat([]byte("0123456789abcdef"), 8192) // half the window
	for rest := sent; len(rest) > 0; rest = rest[8192:] {
		c.send(frame.Data, 0, id, rest[:8192])
	}
	c.send(frame.End, 0, id, nil)
	if o := c.finish(id); !bytes.Equal(o.output[1], sent) || o.u32(1) != 0 {
		t.Errorf("%d bytes back, %v", len(o.output[1]), o.fields)
	}
}

func TestClosedStdinKeepsCrediting(t *testing.T) {
	c := connect(t, serve(t))
	id := c.exec(frame.AppendBytes(request("/bin/sh", "-c", "exec <&-; sleep 100"), 9, []byte{1}))
	window, sent := frame.InitialCredit, 0
	for sent < 2<<20 {
		for window >= 32768 {
			c.send(frame.Data, 0, id, make([]byte, 32768))
			window -= 32768
			sent += 32768
		}
		if f := c.next(); f.Type == frame.Credit {
			window += int(binary.BigEndian.Uint32(f.payload))
		}
	}
	c.send(frame.Kill, 0, id, nil)
	c.finish(id)
}

func TestWithoutCreditTheCommandWaits(t *testing.T) {
	c := connect(t, serve(t))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	id := c.shell("head -c 20000000 /dev/zero; echo done >&2")
	got := 0
	for got < frame.InitialCredit {
		if f := c.next(); f.Type == frame.Data {
			got += len(f.payload)
		}
	}
	time.Sleep(100 * time.Millisecond)
	c.lane.toClient.set(func() {
		if len(c.lane.toClient.data) > 0 {
			t.Error("more came than there was credit for")
		}
	})
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	c.credit(id, frame.Stdout, got)
	if o := c.finish(id); got+len(o.output[1]) != 20000000 {
		t.Errorf("%d bytes", got+len(o.output[1]))
	}
}

func TestEndedCommandWaitsForCreditToo(t *testing.T) {
	c := connect(t, serve(t))
	id := c.shell("head -c 300000 /dev/zero")
	got := 0
	for got < frame.InitialCredit {
		if f := c.next(); f.Type == frame.Data {
			got += len(f.payload)
		}
	}
	time.Sleep(50 * time.Millisecond) // the command has ended by now, its last bytes are in the pipe
	c.credit(id, frame.Stdout, 1<<20)
	if o := c.finish(id); got+len(o.output[1]) != 300000 {
		t.Errorf("%d bytes", got+len(o.output[1]))
	}
}

func TestFailures(t *testing.T) {
	c := connect(t, serve(t))
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := write("plain", "x", 0o644)
	for name, test := range map[string]struct {
		payload    []byte
		code, word string
	}{
		"program":        {request("no-such-program"), "ENOENT", "program"},
		"path":           {request("/no/such"), "ENOENT", "program"},
		"no argument":    {nil, "EINVAL", "argument"},
		"not executable": {request(plain), "EACCES", "program"},
		"format":         {request(write("text", "no interpreter line\n", 0o755)), "ENOEXEC", "program"},
		"interpreter":    {request(write("bad", "#!/no/such\n", 0o755)), "ENOENT", "interpreter"},
		"directory":      {frame.AppendText(request("true"), 3, "/no/such"), "ENOENT", "directory"},
		"file as dir":    {frame.AppendText(request("true"), 3, plain), "ENOTDIR", "directory"},
		"relative dir":   {frame.AppendText(request("true"), 3, "tmp"), "EINVAL", "absolute"},
		"user":           {frame.AppendText(request("true"), 4, "nobody-knows"), "EUSER", "user"},
		"long argument":  {request("true", strings.Repeat("x", 1<<20)), "E2BIG", "program"},
		"environment":    {frame.AppendText(request("true"), 2, "novalue"), "EINVAL", "KEY=VALUE"},
	} {
		o := c.finish(c.exec(test.payload))
		if o.Type != frame.Failed || o.text(1) != test.code || !strings.Contains(o.text(2), test.word) {
			t.Errorf("%s: type %x %q %q", name, o.Type, o.text(1), o.text(2))
		}
	}
}

func TestEnvironmentAndLoginShell(t *testing.T) {
	c := connect(t, serve(t))
	sharedStarter().Environment.Set([]string{"A=vm", "B=vm\nline"})
	defer sharedStarter().Environment.Set(nil)
	o := c.finish(c.exec(frame.AppendText(request("/bin/sh", "-c", `echo "$A,$B,$LANG,$USER"`), 2, "A=own")))
	if string(o.output[1]) != "own,vm\nline,C.UTF-8,root\n" {
		t.Errorf("%q", o.output[1])
	}
	if o := c.finish(c.exec(frame.AppendText(nil, 8, "echo $0 done"))); !strings.Contains(string(o.output[1]), "done") {
		t.Errorf("%q %q", o.output[1], o.output[2])
	}
}
