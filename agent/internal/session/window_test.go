package session

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"smolvm.dev/agent/internal/frame"
)

// longWindow outlasts every test, in which nothing waits for a window to end.
const longWindow = time.Hour

func serveWithWindow(t *testing.T) (*memoryLane, *Window) {
	t.Helper()
	window := &Window{}
	return serveConfig(t, &Config{Window: window, Operations: map[string]Operation{
		"copied": func([]byte) (func() Result, error) {
			return func() Result {
				window.Copied()
				return Result{Copied: true}
			}, nil
		}}}), window
}

// startReporting starts a command that makes a file when it has ended by itself, after one byte of stdin or its end.
func startReporting(t *testing.T, c *client, before string) (pid, done string) {
	t.Helper()
	done = filepath.Join(t.TempDir(), "done")
	id := c.exec(frame.AppendBytes(request("/bin/sh", "-c",
		"trap '' PIPE; echo $$; "+before+"; read line; echo \"$line\" > "+done+".new; mv "+done+".new "+done), 9, []byte{1}))
	for pid == "" {
		if f := c.next(); f.Type == frame.Data && f.Stream == id {
			pid = strings.TrimSpace(string(f.payload))
		}
	}
	return pid, done
}

func TestCommandsSurviveInAnOpenWindow(t *testing.T) {
	lane, window := serveWithWindow(t)
	c := connect(t, lane)
	// More output than the lane, the pipe and the credit hold: it must be read on.
	pid, done := startReporting(t, c, "head -c 2000000 /dev/zero || exit 9")
	window.Open(longWindow)
	lane.hangUp()
	c = connect(t, lane)
	eventually(t, "the command ends by itself, having seen the end of its stdin", func() bool { return exists(done) })
	eventually(t, "no zombie is left", func() bool { return !exists("/proc/" + pid) })
	if o := c.finish(c.shell("exit 3")); o.u32(1) != 3 {
		t.Errorf("the lane does not go on: %v", o.fields)
	}
}

func TestWriteThatIsCutOffDoesNotCloseTheOutput(t *testing.T) {
	lane, window := serveWithWindow(t)
	c := connect(t, lane)
	_, done := startReporting(t, c, "head -c 2000000 /dev/zero || exit 9")
	eventually(t, "the lane is full", func() bool {
		lane.toClient.mu.Lock()
		defer lane.toClient.mu.Unlock()
		return len(lane.toClient.data) == laneCapacity
	})
	window.Open(longWindow)
	c.raw(frame.Preamble) // another client, which does not read yet
	eventually(t, "the command ends by itself", func() bool { return exists(done) })
}

func TestWhatTheClientSentReachesADetachedCommand(t *testing.T) {
	lane, window := serveWithWindow(t)
	c := connect(t, lane)
	_, done := startReporting(t, c, "sleep 0.1")
	c.send(frame.Data, frame.Stdin, c.stream, []byte("last words\n"))
	c.credit(c.stream, frame.Stdout, 1)
	c.finish(c.shell("true")) // all before has been taken
	window.Open(longWindow)
	lane.hangUp()
	eventually(t, "the command ends", func() bool { return exists(done) })
	if text, _ := os.ReadFile(done); string(text) != "last words\n" {
		t.Errorf("%q", text)
	}
}

func TestCommandsDieOutsideTheWindow(t *testing.T) {
	for name, end := range map[string]func(w *Window){
		"never opened":              func(*Window) {},
		"closed":                    func(w *Window) { w.Open(longWindow); w.Close() },
		"over":                      func(w *Window) { w.Open(-time.Second) },
		"no window before the copy": func(w *Window) { w.Copied() },
	} {
		t.Run(name, func(t *testing.T) {
			lane, window := serveWithWindow(t)
			c := connect(t, lane)
			pid, _ := startReporting(t, c, "sleep 100")
			end(window)
			lane.hangUp()
			eventually(t, "the command is killed", func() bool { return !running(pid) })
		})
	}
}

// A copy hears of its lost clients late, perhaps when it has been configured already.
func TestCopyKeepsTheCommandsOfOldConnections(t *testing.T) {
	lane, window := serveWithWindow(t)
	old := connect(t, lane)
	_, done := startReporting(t, old, ":")
	window.Open(longWindow)
	window.Copied()
	lane.hangUp()
	eventually(t, "the command goes on", func() bool { return exists(done) })
}

func TestCopyKillsTheCommandsOfItsOwnConnections(t *testing.T) {
	for _, when := range []string{"the one that configured", "one from after"} {
		t.Run(when, func(t *testing.T) {
			lane, window := serveWithWindow(t)
			window.Open(longWindow)
			c := connect(t, lane)
			c.stream++
			c.send(frame.Call, 0, c.stream, frame.AppendText(nil, 1, "copied"))
			c.finish(c.stream)
			if when == "one from after" {
				c = connect(t, lane)
			}
			pid, _ := startReporting(t, c, "sleep 100")
			lane.hangUp()
			eventually(t, "the command is killed", func() bool { return !running(pid) })
		})
	}
}

func TestDetachedCommandGivesItsCgroupBack(t *testing.T) {
	groups := sharedStarter().Groups
	if groups == nil {
		t.Skip("gate: cgroup: no cgroup v2 that this user may write to")
	}
	lane, window := serveWithWindow(t)
	c := connect(t, lane)
	pid, done := startReporting(t, c, ":")
	own, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	window.Open(longWindow)
	lane.hangUp()
	eventually(t, "the command ends", func() bool { return exists(done) })
	line := strings.TrimSpace(string(own[strings.Index(string(own), "0::")+3:]))
	eventually(t, "its cgroup is empty", func() bool {
		for _, place := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
			if text, err := os.ReadFile(place + line + "/cgroup.procs"); err == nil {
				return len(text) == 0
			}
		}
		return true
	})
}

func TestWindowEndsByItsLimit(t *testing.T) {
	w := &Window{}
	w.Open(longWindow)
	if !w.covers(w.current()) {
		t.Error("an open window covers nothing")
	}
	before := w.current()
	w.Copied()
	if !w.covers(before) || w.covers(w.current()) {
		t.Error("a copy must cover the connections from before and no other")
	}
	w.mu.Lock()
	w.grace = time.Now().Add(-time.Nanosecond)
	w.mu.Unlock()
	if w.covers(before) {
		t.Error("the grace does not end")
	}
	var none *Window
	if none.covers(none.current()) {
		t.Error("no window covers")
	}
}
