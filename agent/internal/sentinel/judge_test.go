package sentinel

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"smolvm.dev/agent/internal/netlink"
)

// fakeDevice answers isUp with whether it is up, or with unknown, and fails to be turned where there is an x.
type fakeDevice struct {
	up, isGone bool
	unknown    error
	fails      string
	turned     []string
	onTurn     func()
}

func (d *fakeDevice) isUp() (bool, error) {
	if d.isGone {
		return false, syscall.ENODEV
	}
	// What a caller sees who does not look at the error.
	return d.up && d.unknown == nil, d.unknown
}

func (d *fakeDevice) turn(up bool) error {
	if d.onTurn != nil {
		defer d.onTurn()
	}
	if d.isGone {
		return syscall.ENODEV
	}
	if turn := len(d.turned); turn < len(d.fails) && d.fails[turn] == 'x' {
		d.turned = append(d.turned, "failed")
		return syscall.EBUSY
	}
	d.up = up
	d.turned = append(d.turned, map[bool]string{true: "up", false: "down"}[up])
	return nil
}

func testSentinel(t *testing.T, device *fakeDevice) (s *sentinel, log *strings.Builder) {
	log = &strings.Builder{}
	s = &sentinel{options: Options{Device: "svm12"}, vmm: -1, device: device, world: testWorld(t), log: log}
	s.missing = func() (string, error) { return "", nil }
	return s, log
}

func TestJudge(t *testing.T) {
	unseen := errors.New("timed out")
	for _, test := range []struct {
		name     string
		device   fakeDevice
		isClosed bool
		missing  string
		unseen   error
		turned   string
		closed   bool // By this, afterwards.
		unsure   bool
	}{
		{name: "all is well", device: fakeDevice{up: true}},
		{name: "missing", device: fakeDevice{up: true}, missing: "x", turned: "down", closed: true},
		{name: "rules unseen", device: fakeDevice{up: true}, unseen: unseen, turned: "down", closed: true, unsure: true},
		{name: "missing, closed", isClosed: true, missing: "x", closed: true},
		{name: "rules unseen, closed", isClosed: true, unseen: unseen, closed: true, unsure: true},
		{name: "whole again", isClosed: true, turned: "up"},
		{name: "whole again, cannot be opened", isClosed: true, device: fakeDevice{fails: "x"}, turned: "failed", closed: true, unsure: true},
		{name: "down by others", missing: "x"},
		{name: "gone", device: fakeDevice{isGone: true}, isClosed: true, missing: "x", closed: true},
		{name: "cannot be closed", device: fakeDevice{up: true, fails: "x"}, missing: "x", turned: "failed", unsure: true},
		{name: "unknown, whole", device: fakeDevice{unknown: unseen}, unsure: true},
		{name: "unknown, whole, closed", device: fakeDevice{unknown: unseen}, isClosed: true, closed: true, unsure: true},
		{name: "unknown, missing", device: fakeDevice{up: true, unknown: unseen}, missing: "x", turned: "down", unsure: true},
		{name: "unknown, missing, closed", device: fakeDevice{unknown: unseen}, isClosed: true, missing: "x", turned: "down", closed: true, unsure: true},
		{name: "unknown, rules unseen", device: fakeDevice{up: true, unknown: unseen}, unseen: unseen, turned: "down", unsure: true},
	} {
		device := test.device
		s, _ := testSentinel(t, &device)
		s.isClosed = test.isClosed
		s.missing = func() (string, error) { return test.missing, test.unseen }
		s.judge()
		if got := strings.Join(device.turned, " "); got != test.turned || s.isClosed != test.closed || s.isUnsure != test.unsure {
			t.Errorf("%s: turned %q, closed by this %v, unsure %v", test.name, got, s.isClosed, s.isUnsure)
		}
	}
}

// watching runs a sentinel that hears of nothing; stop is the end of its guard.
func watching(t *testing.T, s *sentinel) (stop func()) {
	t.Helper()
	var err error
	for _, socket := range []**netlink.Socket{&s.events, &s.links} {
		if *socket, err = netlink.Open(syscall.NETLINK_ROUTE, 0); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.link, s.lock = pair[0], -1
	ended := make(chan error, 1)
	go func() { ended <- s.watch() }()
	return func() {
		_ = syscall.Close(pair[1])
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("it goes on")
		}
	}
}

func TestWhatCannotBeClosedIsTriedAgain(t *testing.T) {
	turns := make(chan struct{}, 10)
	device := &fakeDevice{up: true, fails: "xxx.xx", onTurn: func() { turns <- struct{}{} }}
	s, log := testSentinel(t, device)
	s.missing = func() (string, error) { return "table", nil }
	stop := watching(t, s)
	for i := 0; i < len("xxx."); i++ {
		select {
		case <-turns:
		case <-time.After(20 * time.Second):
			t.Fatalf("tried %d times", i)
		}
	}
	stop()
	const want = "failed failed failed down failed failed down"
	if got := strings.Join(device.turned, " "); got != want {
		t.Errorf("%s, not %s", got, want)
	}
	const said = "sentinel: svm12: not in force: table: down (device or resource busy)\n" +
		"sentinel: svm12: not in force: table: down\n" +
		"sentinel: svm12: its guard has ended: down (device or resource busy)\n" +
		"sentinel: svm12: its guard has ended: down\n"
	if log.String() != said {
		t.Errorf("said: %s", log)
	}
}
