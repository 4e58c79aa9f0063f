package session

import (
	"path/filepath"
	"testing"
	"time"

	"smolvm.dev/agent/internal/frame"
)

// held makes commands wait to be started until the test, or let, ends it.
func held(t *testing.T) (let func()) {
	t.Helper()
	freezer := sharedStarter().Freezer
	freezer.Begin(time.Hour)
	t.Cleanup(freezer.Thaw)
	return freezer.Thaw
}

func TestACommandWhoseConnectionEndsInAHoldNeverStarts(t *testing.T) {
	for name, window := range map[string]bool{"window open": true, "window closed": false} {
		for kind, detached := range map[string]byte{"plain": 0, "detached": 1} {
			t.Run(name+", "+kind, func(t *testing.T) {
				m := newMachine(t)
				m.config.Window = &Window{}
				lane := serveConfig(t, m.config)
				c := connect(t, lane)
				let := held(t)
				file := filepath.Join(t.TempDir(), "started")
				id := c.exec(frame.AppendBytes(request("/bin/sh", "-c", "echo > "+file), 12, []byte{detached}))
				c.send(frame.Signal, 0, id, frame.AppendU32(nil, 1, 18))
				c.list() // the request has been read
				time.Sleep(20 * time.Millisecond)
				if window {
					m.config.Window.Open(longWindow)
				}
				lane.hangUp()
				c = connect(t, lane)
				c.list() // the old connection is gone
				let()
				c.finish(c.exec(request("sleep", "0.05")))
				if exists(file) {
					t.Error("it was started")
				}
			})
		}
	}
}

func TestAKilledCommandNeedNotWaitForTheThaw(t *testing.T) {
	c := connect(t, serve(t))
	held(t)
	id := c.shell("true")
	time.Sleep(20 * time.Millisecond)
	c.send(frame.Kill, 0, id, nil)
	if o := c.finish(id); o.Type != frame.Failed || o.text(1) != "ECANCELED" {
		t.Errorf("%x %v", o.Type, o.fields)
	}
}

func TestHeldCommandsStartAfterIt(t *testing.T) {
	c := connect(t, serve(t))
	let := held(t)
	id := c.shell("exit 4")
	time.Sleep(20 * time.Millisecond)
	let()
	if o := c.finish(id); o.u32(1) != 4 {
		t.Errorf("%v", o.fields)
	}
}
