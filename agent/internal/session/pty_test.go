package session

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"smolvm.dev/agent/internal/frame"
)

const (
	testColumns = 91
	testRows    = 37
)

// withTerminal makes a request for a terminal; typing says that the client types.
func withTerminal(p []byte, typing bool) []byte {
	p = frame.AppendU32(frame.AppendU32(p, 10, testColumns), 11, testRows)
	if typing {
		p = frame.AppendBytes(p, 9, []byte{1})
	}
	return p
}

func terminalShell(line string, typing bool) []byte {
	return withTerminal(request("/bin/sh", "-c", line), typing)
}

// until reads output of a stream until it holds the text.
func (c *client) until(stream uint32, text string) string {
	c.t.Helper()
	var seen []byte
	for !bytes.Contains(seen, []byte(text)) {
		f := c.next()
		if f.Stream != stream {
			continue
		}
		if f.Type == frame.Exited || f.Type == frame.Failed || f.Type == frame.Fatal {
			c.t.Fatalf("ended (%x %q) after %q, before %q", f.Type, f.payload, seen, text)
		}
		if f.Type == frame.Data {
			seen = append(seen, f.payload...)
			c.credit(stream, f.Channel, len(f.payload))
		}
	}
	return string(seen)
}

func (c *client) typed(stream uint32, text string) {
	c.send(frame.Data, frame.Stdin, stream, []byte(text))
}

func TestTerminalIsTheCommandsOwn(t *testing.T) {
	c := connect(t, serve(t))
	o := c.finish(c.exec(terminalShell(`test -t 0 && test -t 1 && test -t 2 && echo all
		stty size; echo $TERM; echo err >&2; echo ctty >/dev/tty
		ps -o pid=,sid=,pgid=,tpgid= -p $$ | awk '{ print ($1==$2 && $1==$3 && $1==$4) ? "foreground" : $0 }'; exit 5`, false)))
	want := "all\r\n37 91\r\nxterm-256color\r\nerr\r\nctty\r\nforeground\r\n"
	if string(o.output[1]) != want || len(o.output[2]) != 0 || o.u32(1) != 5 || o.ended != 2 {
		t.Errorf("%q %q %+v", o.output[1], o.output[2], o)
	}
	o = c.finish(c.exec(frame.AppendText(terminalShell("echo $TERM", false), 2, "TERM=dumb")))
	if string(o.output[1]) != "dumb\r\n" {
		t.Errorf("%q", o.output[1])
	}
}

func TestTerminalSizes(t *testing.T) {
	c := connect(t, serve(t))
	for name, p := range map[string][]byte{
		"no columns":   frame.AppendU32(frame.AppendU32(request("true"), 10, 0), 11, 1),
		"no rows":      frame.AppendU32(frame.AppendU32(request("true"), 10, 1), 11, 0),
		"columns only": frame.AppendU32(request("true"), 10, 80),
		"too many":     frame.AppendU32(frame.AppendU32(request("true"), 10, 65536), 11, 1),
	} {
		if o := c.finish(c.exec(p)); o.Type != frame.Failed || o.text(1) != "EINVAL" {
			t.Errorf("%s: %+v", name, o)
		}
	}
	id := c.exec(terminalShell(`trap 'stty size; exit' WINCH; stty size; while :; do sleep 0.01; done`, false))
	c.until(id, "37 91")
	c.send(frame.Resize, 0, id, frame.AppendU32(frame.AppendU32(nil, 1, 120), 2, 50))
	c.until(id, "50 120")
	c.finish(id)
	// At once: it may well come before the start.
	id = c.exec(terminalShell(`while [ "$(stty size)" != "50 120" ]; do sleep 0.01; done; echo resized`, false))
	c.send(frame.Resize, 0, id, frame.AppendU32(frame.AppendU32(nil, 1, 120), 2, 50))
	c.until(id, "resized")
	c.finish(id)
}

func TestResizeErrors(t *testing.T) {
	lane := serve(t)
	size := func(columns, rows uint32) []byte {
		return frame.AppendU32(frame.AppendU32(nil, 1, columns), 2, rows)
	}
	for name, breakIt := range map[string]func(c *client){
		"no terminal": func(c *client) { c.send(frame.Resize, 0, c.exec(request("sleep", "9")), size(1, 1)) },
		"zero":        func(c *client) { c.send(frame.Resize, 0, c.exec(terminalShell("sleep 9", false)), size(0, 1)) },
		"half": func(c *client) {
			c.send(frame.Resize, 0, c.exec(terminalShell("sleep 9", false)), frame.AppendU32(nil, 1, 1))
		},
		"typed":  func(c *client) { c.typed(c.exec(terminalShell("sleep 9", false)), "x") },
		"detach": func(c *client) { c.send(frame.Detach, 0, c.exec(request("sleep", "9")), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, lane)
			breakIt(c)
			fatal(t, c, "EPROTO")
		})
	}
}

func TestTypingIsEchoedAndInterrupts(t *testing.T) {
	c := connect(t, serve(t))
	id := c.exec(terminalShell("cat; echo not reached", true))
	c.typed(id, "hello\r")
	if seen := c.until(id, "hello\r\nhello\r\n"); !strings.HasPrefix(seen, "hello") {
		t.Errorf("%q", seen)
	}
	c.typed(id, "\x03")
	if o := c.finish(id); o.u32(2) != 2 || bytes.Contains(o.output[1], []byte("not reached")) {
		t.Errorf("%v %q", o.fields, o.output[1])
	}
}

func TestEndTypesCtrlD(t *testing.T) {
	c := connect(t, serve(t))
	for name, text := range map[string]string{"nothing": "", "a line": "line\n", "half a line": "half"} {
		id := c.exec(terminalShell("stty -echo; echo ready; cat; echo over", true))
		c.until(id, "ready\r\n")
		if text != "" {
			c.typed(id, text)
		}
		c.send(frame.End, 0, id, nil)
		want := strings.Replace(text, "\n", "\r\n", 1) + "over\r\n"
		if o := c.finish(id); string(o.output[1]) != want || o.u32(1) != 0 {
			t.Errorf("%s: %q %v", name, o.output[1], o.fields)
		}
	}
}

func TestTerminalOutputIsComplete(t *testing.T) {
	c := connect(t, serve(t))
	const lines = 20000
	var want []byte
	for i := 1; i <= lines; i++ {
		want = append(append(strconv.AppendInt(want, int64(i), 10), '\r'), '\n')
	}
	// The last of it is in the kernel when the process has ended.
	for round := 0; round < 10; round++ {
		o := c.finish(c.exec(withTerminal(request("seq", strconv.Itoa(lines)), false)))
		if !bytes.Equal(o.output[1], want) {
			t.Fatalf("%d bytes of %d", len(o.output[1]), len(want))
		}
	}
}

func TestMuchIsTyped(t *testing.T) {
	c := connect(t, serve(t))
	const size = 1 << 20
	data := bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuv"), size/32)
	id := c.exec(terminalShell("stty raw -echo; echo ready; head -c "+strconv.Itoa(size)+" | md5sum", true))
	c.until(id, "ready")
	window := frame.InitialCredit
	for rest := data; len(rest) > 0; {
		for window < 32768 {
			if f := c.next(); f.Type == frame.Credit {
				window += int(f.payload[1])<<16 | int(f.payload[2])<<8 | int(f.payload[3])
			}
		}
		c.typed(id, string(rest[:32768]))
		rest, window = rest[32768:], window-32768
	}
	sum := md5.Sum(data)
	c.until(id, hex.EncodeToString(sum[:]))
	c.finish(id)
}

func TestBackgroundChildThatHoldsTheTerminalDoesNotHoldTheCommand(t *testing.T) {
	c := connect(t, serve(t))
	for name, line := range map[string]string{
		"silent":  "trap '' HUP; sleep 100 & echo $!",
		"talking": "trap '' HUP; yes & echo $!; sleep 0.05",
	} {
		start := time.Now()
		o := c.finish(c.exec(terminalShell(line, false)))
		if took := time.Since(start); took > 5*time.Second || o.Type != frame.Exited {
			t.Errorf("%s: took %v, %+v", name, took, o.fields)
		}
		if name == "silent" {
			pid := strings.TrimSpace(string(o.output[1]))
			eventually(t, "the child is killed", func() bool { return !running(pid) })
		}
	}
}

func TestKillEndsAllOfATerminal(t *testing.T) {
	c := connect(t, serve(t))
	id := c.exec(terminalShell("trap '' TERM HUP INT; sleep 100 & echo $!.; cat", true))
	pid := strings.TrimSuffix(strings.TrimSpace(c.until(id, ".")), ".")
	c.send(frame.Kill, 0, id, nil)
	if o := c.finish(id); o.u32(2) != 9 {
		t.Errorf("%v", o.fields)
	}
	eventually(t, "the child is killed", func() bool { return !running(pid) })
}

func TestTerminalBelongsToTheUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("gate: root: only root can start commands as somebody else")
	}
	c := connect(t, serve(t))
	p := frame.AppendText(frame.AppendText(terminalShell("stat -L -c %u /dev/fd/0; echo x > $(tty)", false), 4, "4242"), 3, "/")
	if o := c.finish(c.exec(p)); string(o.output[1]) != "4242\r\nx\r\n" {
		t.Errorf("%q %v", o.output[1], o.fields)
	}
}

func TestWithoutCreditTheTerminalWaits(t *testing.T) {
	c := connect(t, serve(t))
	id := c.exec(withTerminal(request("seq", "200000"), false))
	got := 0
	for got < frame.InitialCredit {
		if f := c.next(); f.Type == frame.Data {
			got += len(f.payload)
		}
	}
	c.credit(id, frame.Stdout, got)
	o := c.finish(id)
	if want := 1288895 + 200000; got+len(o.output[1]) != want {
		t.Errorf("%d bytes of %d", got+len(o.output[1]), want)
	}
}

// Descriptors of terminals are given back.
func TestTerminalsAreClosed(t *testing.T) {
	c := connect(t, serve(t))
	count := func() int {
		entries, _ := os.ReadDir("/proc/self/fd")
		n := 0
		for _, e := range entries {
			if target, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.HasPrefix(target, "/dev/pt") {
				n++
			}
		}
		return n
	}
	before := count()
	for i := 0; i < 20; i++ {
		c.finish(c.exec(terminalShell("true", true)))
		c.finish(c.exec(withTerminal(request("no-such-program"), true)))
	}
	eventually(t, "all are closed", func() bool { return count() <= before })
}
