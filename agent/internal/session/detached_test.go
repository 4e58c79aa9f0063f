package session

import (
	"bytes"
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"smolvm.dev/agent/internal/frame"
)

// machine is several lanes of one agent.
type machine struct {
	t      *testing.T
	config *Config
}

func newMachine(t *testing.T) *machine {
	processes := &Processes{}
	m := &machine{t: t, config: &Config{Processes: processes, Operations: map[string]Operation{
		"processes": processes.List,
	}}}
	t.Cleanup(func() {
		for _, d := range processes.list {
			d.kill()
		}
		eventually(t, "all have ended", func() bool {
			processes.mu.Lock()
			defer processes.mu.Unlock()
			return processes.running == 0
		})
	})
	return m
}

func (m *machine) connect() *client {
	return connect(m.t, serveConfig(m.t, m.config))
}

func detachedShell(line string) []byte {
	return frame.AppendBytes(request("/bin/sh", "-c", line), 12, []byte{1})
}

func detachedTyping(line string) []byte { return frame.AppendBytes(detachedShell(line), 9, []byte{1}) }

// started reads the STARTED of a stream.
func (c *client) started(stream uint32) (id string, offset uint64, pid string) {
	c.t.Helper()
	for {
		f := c.next()
		if f.Stream != stream {
			continue
		}
		if f.Type != frame.Started {
			c.t.Fatalf("type %x %q", f.Type, f.payload)
		}
		_ = frame.Each(f.payload, func(x frame.Field) error {
			switch x.Tag {
			case 1:
				n, _ := x.U32()
				pid = strconv.Itoa(int(n))
			case 2:
				id = string(x.Value)
			case 3:
				offset, _ = x.U64()
			}
			return nil
		})
		return id, offset, pid
	}
}

func (c *client) attach(id string, offset ...uint64) uint32 {
	p := frame.AppendText(nil, 1, id)
	for _, o := range offset {
		p = frame.AppendU64(p, 2, o)
	}
	c.stream++
	c.send(frame.Attach, 0, c.stream, p)
	return c.stream
}

// list returns the fields of each process; of one that repeats, the last.
func (c *client) list() (all []map[uint8][]byte) {
	c.t.Helper()
	c.stream++
	c.send(frame.Call, 0, c.stream, frame.AppendText(nil, 1, "processes"))
	f := c.next()
	for f.Stream != c.stream {
		f = c.next()
	}
	_ = frame.Each(f.payload, func(x frame.Field) error {
		fields := map[uint8][]byte{}
		err := frame.Each(x.Value, func(y frame.Field) error {
			fields[y.Tag] = y.Value
			return nil
		})
		all = append(all, fields)
		return err
	})
	return all
}

func number(b []byte) uint64 {
	if len(b) == 4 {
		return uint64(binary.BigEndian.Uint32(b))
	}
	return binary.BigEndian.Uint64(b)
}

func TestDetachedProcessIsLikeACommand(t *testing.T) {
	c := newMachine(t).connect()
	id := c.exec(detachedShell("echo out; sleep 0.05; echo err >&2; exit 7"))
	name, offset, pid := c.started(id)
	if len(name) != 8 || strings.Trim(name, "0123456789abcdef") != "" || offset != 0 || pid == "" {
		t.Errorf("%q %d %q", name, offset, pid)
	}
	o := c.finish(id)
	if string(o.output[1]) != "out\n" || string(o.output[2]) != "err\n" || o.u32(1) != 7 || o.ended != 2 {
		t.Errorf("%+v", o)
	}
	// It is over, and can still be seen, from anywhere.
	for from, want := range map[uint64]string{0: "out\n", 2: "t\n", 4: "", 8: "", 99: ""} {
		id := c.attach(name, from)
		_, offset, _ := c.started(id)
		o := c.finish(id)
		wantErr, at := "err\n", from
		if from >= 8 {
			wantErr, at = "", 8
		}
		if string(o.output[1]) != want || string(o.output[2]) != wantErr || o.u32(1) != 7 || offset != at {
			t.Errorf("from %d: at %d, %+v", from, offset, o)
		}
	}
	if o := c.finish(c.exec(detachedShell("kill -9 $$"))); o.u32(2) != 9 {
		t.Errorf("%+v", o)
	}
	if o := c.finish(c.exec(frame.AppendBytes(request("/no/such"), 12, []byte{1}))); o.text(1) != "ENOENT" {
		t.Errorf("%+v", o)
	}
	if o := c.finish(c.exec(frame.AppendU64(detachedShell("true"), 5, 10))); o.text(1) != "EINVAL" {
		t.Errorf("%+v", o)
	}
	if o := c.finish(c.attach("01234567")); o.text(1) != "ESRCH" {
		t.Errorf("%+v", o)
	}
}

func TestDetachedProcessOutlivesItsConnection(t *testing.T) {
	m := newMachine(t)
	lane := serveConfig(t, m.config)
	c := connect(t, lane)
	id := c.exec(detachedTyping("echo first; read a; echo $a; read b; echo $b"))
	name, _, pid := c.started(id)
	c.until(id, "first")
	c.typed(id, "second\n")
	c.finish(c.exec(request("true"))) // all before has been taken
	lane.hangUp()
	c = connect(t, lane) // what the old one had has ended by now
	if !running(pid) {
		t.Fatal("it died with its connection")
	}
	other := m.connect()
	seen := other.attach(name)
	other.until(seen, "first\nsecond\n")
	again := c.attach(name, 6)
	other.typed(seen, "third\n")
	for who, o := range map[string]outcome{"one": other.finish(seen), "other": c.finish(again)} {
		if !strings.HasSuffix(string(o.output[1]), "third\n") || o.u32(1) != 0 {
			t.Errorf("%s: %+v", who, o)
		}
	}
}

func TestDetachEndsTheViewOnly(t *testing.T) {
	c := newMachine(t).connect()
	id := c.exec(detachedTyping("echo hello; read a; echo $a"))
	name, _, _ := c.started(id)
	c.until(id, "hello\n")
	c.send(frame.Detach, 0, id, nil)
	if o := c.finish(id); o.Type != frame.Reply || len(o.fields) != 0 || o.ended != 0 {
		t.Errorf("%+v", o)
	}
	id = c.attach(name, 6)
	c.typed(id, "still there\n")
	if o := c.finish(id); string(o.output[1]) != "still there\n" {
		t.Errorf("%+v", o)
	}
}

func TestDetachFromAViewWithoutCredit(t *testing.T) {
	c := newMachine(t).connect()
	id := c.exec(detachedShell("yes"))
	for got := 0; got < frame.InitialCredit; {
		if f := c.next(); f.Type == frame.Data {
			got += len(f.payload)
		}
	}
	c.send(frame.Detach, 0, id, nil)
	if o := c.finish(id); o.Type != frame.Reply {
		t.Errorf("%+v", o)
	}
}

func TestAnyViewControlsTheProcess(t *testing.T) {
	m := newMachine(t)
	for what, control := range map[string]struct {
		act    func(c *client, view uint32)
		signal int
	}{
		"signal": {func(c *client, v uint32) { c.send(frame.Signal, 0, v, frame.AppendU32(nil, 1, 15)) }, 15},
		"kill":   {func(c *client, v uint32) { c.send(frame.Kill, 0, v, nil) }, 9},
	} {
		one, other := m.connect(), m.connect()
		id := one.exec(detachedShell("sleep 100"))
		name, _, _ := one.started(id)
		view := other.attach(name)
		control.act(other, view)
		if a, b := one.finish(id), other.finish(view); a.u32(2) != control.signal || b.u32(2) != control.signal {
			t.Errorf("%s: %+v %+v", what, a, b)
		}
	}
	// At once: it may well come before the start.
	c := m.connect()
	id := c.exec(detachedShell("sleep 100"))
	c.send(frame.Kill, 0, id, nil)
	if o := c.finish(id); o.u32(2) != 9 {
		t.Errorf("%+v", o)
	}
}

func TestDetachedTerminal(t *testing.T) {
	m := newMachine(t)
	one, other := m.connect(), m.connect()
	id := one.exec(withTerminal(detachedShell("trap 'stty size; exit 3' WINCH; stty size; while :; do sleep 0.01; done"), true))
	name, _, _ := one.started(id)
	one.until(id, "37 91")
	view := other.attach(name)
	other.send(frame.Resize, 0, view, frame.AppendU32(frame.AppendU32(nil, 1, 120), 2, 50))
	if o := one.finish(id); string(o.output[1]) != "50 120\r\n" || o.u32(1) != 3 {
		t.Errorf("%+v", o)
	}
	if l := other.list(); len(l) != 1 || string(l[0][11]) != "\x01" {
		t.Errorf("%v", l)
	}
}

func TestSlowViewLosesOutput(t *testing.T) {
	m := newMachine(t)
	one, other := m.connect(), m.connect()
	const size = 4 << 20
	id := one.exec(detachedShell("head -c " + strconv.Itoa(size) + " /dev/zero; echo end >&2"))
	name, _, pid := one.started(id)
	eventually(t, "it ends, though nobody reads", func() bool { return !running(pid) })
	// The first view has its credit used up; the second comes when most is gone.
	o := collect(one, id)
	if o.got+o.lost != size || o.lost == 0 || o.skips == 0 || o.reported != o.lost || o.stderr != "end\n" {
		t.Errorf("%+v", o)
	}
	view := other.attach(name, 17)
	_, offset, _ := other.started(view)
	late := collect(other, view)
	if late.got != ringSize-4 || offset != size+4-ringSize || late.reported != 0 || late.skips != 0 || late.stderr != "end\n" {
		t.Errorf("from %d: %+v", offset, late)
	}
}

type collected struct {
	got, lost, reported, skips int
	stderr                     string
}

// collect reads a view to its end and follows its offset.
func collect(c *client, stream uint32) (o collected) {
	c.t.Helper()
	offset := uint64(0)
	started := true
	for {
		f := c.next()
		if f.Stream != stream {
			continue
		}
		switch f.Type {
		case frame.Data:
			offset += uint64(len(f.payload))
			if f.Channel == frame.Stdout {
				o.got += len(f.payload)
			} else {
				o.stderr += string(f.payload)
			}
			c.credit(stream, f.Channel, len(f.payload))
		case frame.Skipped:
			x, _, err := frame.NextField(f.payload)
			to, err2 := x.U64()
			if err != nil || err2 != nil || x.Tag != 1 || to <= offset || !started {
				c.t.Fatalf("skipped to %d from %d", to, offset)
			}
			o.skips++
			o.lost += int(to - offset)
			offset = to
		case frame.Exited:
			_ = frame.Each(f.payload, func(x frame.Field) error {
				if x.Tag == 3 || x.Tag == 4 {
					o.reported += int(number(x.Value))
				}
				return nil
			})
			return o
		case frame.Failed, frame.Fatal:
			c.t.Fatalf("%q", f.payload)
		}
	}
}

func TestSeveralWriters(t *testing.T) {
	m := newMachine(t)
	one, other := m.connect(), m.connect()
	id := one.exec(detachedTyping("exec wc -c"))
	name, _, _ := one.started(id)
	view := other.attach(name)
	other.started(view)
	// More than their windows: both get their own credit back, and no more than that.
	const each = 1 << 20
	var both sync.WaitGroup
	for _, w := range []struct {
		c  *client
		id uint32
	}{{one, id}, {other, view}} {
		w := w
		both.Add(1)
		go func() {
			defer both.Done()
			window := frame.InitialCredit
			for sent := 0; sent < each; {
				for window >= 32768 && sent < each {
					w.c.send(frame.Data, frame.Stdin, w.id, make([]byte, 32768))
					window, sent = window-32768, sent+32768
				}
				if sent < each {
					if f := w.c.next(); f.Type == frame.Credit {
						window += int(binary.BigEndian.Uint32(f.payload))
					}
				}
			}
			w.c.finish(w.c.attach("none")) // all before has been taken
		}()
	}
	both.Wait()
	other.send(frame.End, frame.Stdin, view, nil)
	if o := other.finish(view); strings.TrimSpace(string(o.output[1])) != strconv.Itoa(2*each) {
		t.Errorf("%q %+v", o.output[1], o)
	}
}

func TestStdinThatAnotherClosedIsDroppedAndCredited(t *testing.T) {
	m := newMachine(t)
	one, other := m.connect(), m.connect()
	id := one.exec(detachedTyping("cat; echo over; exec sleep 100"))
	name, _, _ := one.started(id)
	view := other.attach(name)
	other.started(view)
	other.send(frame.End, frame.Stdin, view, nil)
	one.until(id, "over")
	if l := one.list(); len(l) != 1 || l[0][12] != nil {
		t.Errorf("%v", l)
	}
	for round := 0; round < 20; round++ { // five windows
		one.send(frame.Data, frame.Stdin, id, make([]byte, 65536))
		for f := one.next(); ; f = one.next() {
			if f.Type != frame.Credit || number(f.payload) != 65536 {
				t.Fatalf("%x %q", f.Type, f.payload)
			}
			break
		}
	}
	other.typed(view, "after its own END")
	fatal(t, other, "EPROTO")
}

func TestViewsOfAProcessWithoutStdin(t *testing.T) {
	m := newMachine(t)
	one, other := m.connect(), m.connect()
	id := one.exec(detachedShell("sleep 100"))
	name, _, _ := one.started(id)
	// Who attaches does not know.
	view := other.attach(name)
	other.typed(view, "x")
	other.send(frame.Resize, 0, view, frame.AppendU32(frame.AppendU32(nil, 1, 1), 2, 1))
	other.send(frame.End, frame.Stdin, view, nil)
	other.finish(other.exec(request("true")))
	// Who started it does.
	one.typed(id, "x")
	fatal(t, one, "EPROTO")
}

func TestList(t *testing.T) {
	c := newMachine(t).connect()
	if l := c.list(); len(l) != 0 {
		t.Fatalf("%v", l)
	}
	id := c.exec(frame.AppendText(withTerminal(detachedTyping("echo hello; exec sleep 100"), false), 4, "root"))
	name, _, pid := c.started(id)
	c.until(id, "hello")
	long := strings.Repeat("\u00e9", 1000)
	ended := c.exec(frame.AppendBytes(request("true", long, "", ""), 12, []byte{1}))
	c.finish(ended)
	line := c.exec(frame.AppendBytes(frame.AppendText(nil, 8, "exit 3"), 12, []byte{1}))
	c.finish(line)
	l := c.list()
	if len(l) != 3 {
		t.Fatalf("%v", l)
	}
	first := l[0]
	if string(first[1]) != name || strconv.Itoa(int(number(first[2]))) != pid || string(first[10]) != "root" ||
		first[6] != nil || first[7] != nil || first[11] == nil || first[12] == nil || number(first[8]) != 0 ||
		number(first[9]) != 7 || number(first[5]) == 0 {
		t.Errorf("%q", first)
	}
	if second := l[1]; len(second[3]) > maxDescribed || !strings.HasPrefix(long, string(second[3])) || number(second[6]) != 0 {
		t.Errorf("%q", second)
	}
	if third := l[2]; string(third[4]) != "exit 3" || number(third[6]) != 3 || third[12] != nil {
		t.Errorf("%q", third)
	}
	c.send(frame.Kill, 0, id, nil)
	c.finish(id)
	if l := c.list(); number(l[0][7]) != 9 {
		t.Errorf("%q", l[0])
	}
}

func TestTheNumberOfDetachedProcessesIsBounded(t *testing.T) {
	m := newMachine(t)
	c := m.connect()
	var names []string
	var ids []uint32
	argv := []string{"sleep", "100"}
	for i := 0; i < 600; i++ {
		argv = append(argv, "")
	}
	for i := 0; i < maxDetached; i++ {
		// However long their arguments are, the list of all fits one frame.
		id := c.exec(frame.AppendBytes(request("/bin/sh", "-c", "exec sleep 100", strings.Repeat("x", 4000)), 12, []byte{1}))
		name, _, _ := c.started(id)
		names, ids = append(names, name), append(ids, id)
	}
	if o := c.finish(c.exec(detachedShell("true"))); o.text(1) != "EAGAIN" {
		t.Errorf("%+v", o)
	}
	for i, id := range ids {
		c.send(frame.Kill, 0, id, nil)
		c.finish(id)
		eventually(t, "its end is noted", func() bool {
			m.config.Processes.mu.Lock()
			defer m.config.Processes.mu.Unlock()
			return m.config.Processes.running == maxDetached-1-i
		})
	}
	for i := 0; i < maxDetached; i++ {
		id := c.exec(frame.AppendBytes(request(append([]string{"/bin/sh", "-c", "exec sleep 100"}, argv...)...), 12, []byte{1}))
		c.started(id)
	}
	if l := c.list(); len(l) != maxDetached+keptEnded {
		t.Errorf("%d", len(l))
	}
	for i, name := range names {
		o := ""
		id := c.attach(name)
		if f := c.finish(id); f.Type == frame.Failed {
			o = f.text(1)
		}
		if kept := i >= maxDetached-keptEnded; kept != (o == "") {
			t.Errorf("%d of %d: %q", i, len(names), o)
		}
	}
}

func TestTheRingOfAForgottenProcessStaysForItsViews(t *testing.T) {
	m := newMachine(t)
	one, other := m.connect(), m.connect()
	id := one.exec(detachedShell("head -c 200000 /dev/zero; head -c 100000 /dev/zero | tr '\\0' x >&2"))
	name, _, pid := one.started(id)
	eventually(t, "it ends", func() bool { return !running(pid) })
	d := m.config.Processes.find(name)
	view := one.attach(name) // and both of one wait for the lane
	for i := 0; i <= keptEnded; i++ {
		other.finish(other.exec(detachedShell("true")))
	}
	eventually(t, "it is forgotten", func() bool {
		m.config.Processes.mu.Lock()
		defer m.config.Processes.mu.Unlock()
		return m.config.Processes.byID(name) == nil
	})
	d.leave()
	if o := one.finish(view); len(o.output[1])+len(o.output[2]) != ringSize || o.u32(1) != 0 {
		t.Errorf("%d %d", len(o.output[1]), len(o.output[2]))
	}
	one.lane.hangUp()
	eventually(t, "its memory is given back", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.ring.data == nil
	})
}

func TestLeftBehindByADetachedProcess(t *testing.T) {
	c := newMachine(t).connect()
	id := c.exec(detachedShell("sleep 100 & echo $!"))
	pid := strings.TrimSpace(string(c.finish(id).output[1]))
	eventually(t, "what it left is killed", func() bool { return !running(pid) })
	// Kept ones are not its own any more, not even for a KILL.
	id = c.exec(frame.AppendBytes(detachedShell("setsid sleep 100 & sleep 100 & echo $!"), 7, []byte{1}))
	name, _, _ := c.started(id)
	pid = strings.TrimSpace(string(c.finish(id).output[1]))
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	process, _ := os.FindProcess(n)
	defer process.Kill()
	view := c.attach(name)
	c.send(frame.Kill, 0, view, nil)
	c.finish(view)
	c.finish(c.exec(request("true")))
	if !running(pid) {
		t.Error("the orphan is gone")
	}
}

func TestFiftyAtOnce(t *testing.T) {
	c := newMachine(t).connect()
	var ids []uint32
	for i := 0; i < 50; i++ {
		switch p := request("/bin/sh", "-c", "head -c 10000 /dev/zero; exit "+strconv.Itoa(i)); i % 3 {
		case 0:
			ids = append(ids, c.exec(p))
		case 1:
			ids = append(ids, c.exec(frame.AppendBytes(p, 12, []byte{1})))
		case 2:
			ids = append(ids, c.exec(withTerminal(p, true)))
		}
	}
	outputs, codes := map[uint32]int{}, map[uint32]int{}
	for len(codes) < len(ids) {
		switch f := c.next(); f.Type {
		case frame.Data:
			outputs[f.Stream] += len(bytes.Trim(f.payload, "x"))
		case frame.Exited:
			x, _, _ := frame.NextField(f.payload)
			codes[f.Stream] = int(number(x.Value))
		case frame.Failed, frame.Fatal:
			t.Fatalf("%q", f.payload)
		}
	}
	for i, id := range ids {
		if codes[id] != i || outputs[id] != 10000 {
			t.Errorf("%d: code %d, %d bytes", i, codes[id], outputs[id])
		}
	}
}
