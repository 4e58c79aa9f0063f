package netguard

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"smolvm.dev/agent/internal/egress"
)

// patience bounds what a test waits for.
const patience = 5 * time.Second

// vm is a guest at a switch with passts that are not real.
type vm struct {
	*Switch
	t       *testing.T
	socket  net.Conn // The VMM's end.
	journal string
	carried chan struct{} // closed at the end of FromGuest
	log     bytes.Buffer
}

func startVM(t *testing.T, text string, hasNames bool) *vm {
	return startLimitedVM(t, text, hasNames, 0)
}

func startLimitedVM(t *testing.T, text string, hasNames bool, rate int64) *vm {
	t.Helper()
	v := &vm{t: t, journal: filepath.Join(t.TempDir(), "journal"), carried: make(chan struct{})}
	v.Switch = NewSwitch(Config{
		Identity: Identity{MAC: guestMAC, Address: net.ParseIP(guest), Gateway: net.ParseIP(gateway), DNS: net.ParseIP(dns)},
		Network:  netip.MustParsePrefix("10.0.2.0/24"),
		Passt:    []string{os.Args[0], fakePasst, v.journal}, HasNames: hasNames,
		Policy: policy(t, text), Host: egress.FixedHost(),
		RateLimit: rate, MTU: 1500, StartTimeout: patience, Log: NewMessages(os.Stderr),
	})
	t.Cleanup(v.Stop)
	if err := v.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	v.socket = theirs
	go func() {
		v.FromGuest(ours)
		close(v.carried)
	}()
	t.Cleanup(func() { theirs.Close() })
	return v
}

func (v *vm) send(frame []byte) {
	v.t.Helper()
	_ = v.socket.SetDeadline(time.Now().Add(patience))
	if _, err := v.socket.Write(message(frame)); err != nil {
		v.t.Fatal(err)
	}
}

// gets reads the next frame, which must be one of IPv4.
func (v *vm) gets() packet {
	v.t.Helper()
	frame := make([]byte, frameLimit)
	_ = v.socket.SetDeadline(time.Now().Add(patience))
	size, err := readFrame(v.socket, frame)
	if err != nil {
		v.t.Fatal("nothing came: ", err)
	}
	p, whole := parseInbound(frame[ethernetSize:size], addressOf(net.ParseIP(guest)))
	if !whole && p.protocol != protocolICMP {
		v.t.Fatalf("% x came", frame[:size])
	}
	return p
}

// journalHas waits until a passt has written that many such lines, and returns the last one.
func (v *vm) journalHas(count int, text string) string {
	v.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		data, _ := os.ReadFile(v.journal)
		var found []string
		for _, line := range strings.Split(string(data), "\n") {
			if strings.HasPrefix(line, text) {
				found = append(found, line)
			}
		}
		if len(found) >= count {
			return found[len(found)-1]
		}
		if time.Now().After(end) {
			v.t.Fatalf("%d of %d lines %q in %q", len(found), count, text, data)
		}
	}
}

func datagram(text string) []byte {
	return frame(protocolUDP, guest, "203.0.113.7", udp(40000, 80, text))
}

func TestFramesGoBothWays(t *testing.T) {
	v := startVM(t, openPolicy, false)
	v.send(datagram("hello"))
	if p := v.gets(); p.protocol != protocolUDP || string(p.bytes[ipv4Size+udpSize:]) != "hello" {
		t.Errorf("% x came", p.bytes)
	}
	v.send(syn("127.0.0.1", 80))
	if p := v.gets(); p.flags&tcpRst == 0 || p.remote != 0x7f000001 {
		t.Errorf("% x came", p.bytes)
	}
	v.socket.Close()
	select {
	case <-v.carried:
	case <-time.After(patience):
		t.Error("the end of the VMM's connection is not seen")
	}
}

// The guest can send more than the limit takes: it is read, and what has no room is lost.
func TestALimitIsNoReasonNotToRead(t *testing.T) {
	v := startLimitedVM(t, openPolicy, false, 1000)
	for i := 0; i < 2*leastQueue/1000; i++ {
		v.send(datagram(strings.Repeat("x", 1000)))
	}
	v.send(frame(protocolUDP, guest, "203.0.113.7", udp(50001, 4000, "hello"))) // Of another conversation.
	v.socket.Close()
	select {
	case <-v.carried:
	case <-time.After(patience):
		t.Fatal("it is not read")
	}
	var cost int
	for _, q := range []*fairQueue{v.up.queue} {
		q.mutex.Lock()
		cost = q.cost
		q.mutex.Unlock()
	}
	if cost < leastQueue/3 || cost > leastQueue {
		t.Errorf("%d wait", cost)
	}
}

// Frames that wait go on, also to the guest, but not under other rules.
func TestWhatWaitsIsDroppedWithTheRules(t *testing.T) {
	v := startLimitedVM(t, openPolicy, false, 1000)
	v.send(datagram("first"))
	if p := v.gets(); string(p.payload()) != "first" {
		t.Fatalf("% x came", p.bytes)
	}
	v.send(datagram(strings.Repeat("x", 1400)))
	v.send(syn("203.0.113.7", 4321)) // Waits for more than a second.
	if err := v.Update(policy(t, offPolicy)); err != nil {
		t.Fatal(err)
	}
	for w, some := v.up.queue.pop(); some; w, some = v.up.queue.pop() {
		if !v.isStale(w) {
			t.Errorf("% x goes on", w.message)
		}
	}
	if v.isStale(waiting{isOurs: true}) {
		t.Error("an answer of ours is dropped")
	}
}

func TestPasstIsStartedAgain(t *testing.T) {
	v := startVM(t, `{"mode":"allow","networks":[{"cidr":"203.0.113.0/24"},{"cidr":"1.1.1.1/32"}]}`, false)
	first := v.journalHas(1, "start ")
	v.send(frame(protocolTCP, guest, "203.0.113.7", tcp(40000, 6666, tcpSyn))) // of which it dies
	if p := v.gets(); p.remotePort != 6666 || p.flags&tcpRst == 0 {
		t.Errorf("% x came when passt died", p.bytes)
	}
	if second := v.journalHas(2, "start "); second == first {
		t.Error("the same one is still there")
	}
	for end := time.Now().Add(patience); ; {
		v.send(datagram("x")) // Lost until passt answers.
		_ = v.socket.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := readFrame(v.socket, make([]byte, frameLimit)); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nothing comes back")
		}
	}
}

func TestStopEndsPasst(t *testing.T) {
	v := startVM(t, openPolicy, false)
	pid, _ := strconv.Atoi(strings.Fields(v.journalHas(1, "start "))[1])
	v.Stop()
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Error("passt is still there: ", err)
	}
}

func TestAnUpdateTellsBothSides(t *testing.T) {
	v := startVM(t, openPolicy, false)
	v.send(syn("203.0.113.7", 80))
	if p := v.gets(); p.flags != tcpSyn|tcpAck {
		t.Fatalf("% x came", p.bytes)
	}
	if err := v.Update(policy(t, offPolicy)); err != nil {
		t.Fatal(err)
	}
	if p := v.gets(); p.flags&tcpRst == 0 || p.remotePort != 80 {
		t.Errorf("% x came", p.bytes)
	}
	v.journalHas(1, "203.0.113.7:80 flags 20") // RST and ACK
	v.send(datagram("x"))
	if p := v.gets(); p.bytes[9] != protocolICMP {
		t.Errorf("% x came", p.bytes)
	}
}

// In the namespace of the names passt reaches our listeners on every address.
func TestNamesHaveANamespaceOfTheirOwn(t *testing.T) {
	v := startVM(t, `{"mode":"allow","names":[{"name":"x.example","port":443}]}`, false)
	reaches := func(address string, port uint16, want byte) {
		t.Helper()
		v.send(frame(protocolTCP, guest, address, tcp(41000+port%1000, port, tcpSyn)))
		if p := v.gets(); p.flags != want {
			t.Errorf("%s port %d: flags %d, want %d", address, port, p.flags, want)
		}
	}
	reaches("203.0.113.7", 443, tcpSyn|tcpAck)
	reaches("8.8.4.4", 443, tcpSyn|tcpAck)
	reaches("8.8.4.4", 80, tcpRst|tcpAck)
	reaches(dns, 53, tcpSyn|tcpAck)
	if err := v.Update(policy(t, `{"mode":"allow","names":[{"name":"x.example","port":80}]}`)); err != nil {
		t.Fatal(err)
	}
	for range [2]int{} { // Those that are refused now.
		if p := v.gets(); p.remotePort != 443 || p.flags&tcpRst == 0 {
			t.Errorf("% x came", p.bytes)
		}
	}
	reaches("8.8.4.4", 80, tcpSyn|tcpAck)
	v.mutex.Lock()
	open := len(v.room.listeners)
	v.mutex.Unlock()
	if open != 2 { // 80, and 53 for DNS.
		t.Errorf("%d listeners are open", open)
	}
	if err := v.Update(policy(t, offPolicy)); err != nil {
		t.Fatal(err)
	}
	if v.toNames.link != nil || v.room != nil || v.guard.HasNames() {
		t.Error("something of the names is left")
	}
}

func TestAHelperThatEndsIsStartedAgain(t *testing.T) {
	v := startVM(t, openPolicy, true)
	v.journalHas(2, "start ")
	v.mutex.Lock()
	pid := v.room.helper.command.Process.Pid
	v.mutex.Unlock()
	_ = syscall.Kill(pid, syscall.SIGKILL)
	v.journalHas(3, "start ")
	if err := v.Update(policy(t, allowPolicy)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		v.mutex.Lock()
		again := v.room != nil && v.room.helper.command.Process.Pid != pid && len(v.room.listeners) == 3
		v.mutex.Unlock()
		if again {
			return
		}
		if time.Now().After(end) {
			t.Fatal("it does not come back")
		}
	}
}

func TestAPasstThatDoesNotStart(t *testing.T) {
	s := NewSwitch(Config{
		Identity: Identity{MAC: guestMAC, Address: net.ParseIP(guest), Gateway: net.ParseIP(gateway)},
		Network:  netip.MustParsePrefix("10.0.2.0/24"), Passt: []string{"/bin/false"},
		Policy: policy(t, openPolicy), Host: egress.FixedHost(), StartTimeout: patience, Log: NewMessages(os.Stderr),
	})
	defer s.Stop()
	if err := s.Start(); err == nil {
		t.Error("it is said to work")
	}
}

func TestNoNamespaceIsEPERM(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EACCES, syscall.EPERM} {
		if err := permission(&os.PathError{Op: "fork/exec", Err: cause}); !errors.Is(err, syscall.EPERM) {
			t.Errorf("%v becomes %v", cause, err)
		}
	}
	if err := permission(syscall.EIO); errors.Is(err, syscall.EPERM) {
		t.Errorf("EIO becomes %v", err)
	}
}

func TestBytesInFlightAreNotForwardedUnderOtherRules(t *testing.T) {
	b := newBackend("test", NewMessages(os.Stderr))
	ours, theirs := net.Pipe()
	defer theirs.Close()
	b.link = &link{Conn: ours}
	b.write([]byte("old"), func() bool { return false })
	written := make(chan struct{})
	go func() {
		b.write([]byte("new"), always)
		close(written)
	}()
	got := make([]byte, 3)
	_ = theirs.SetDeadline(time.Now().Add(patience))
	if _, err := theirs.Read(got); err != nil || string(got) != "new" {
		t.Fatalf("%q %v", got, err) // With Errorf the next line would wait for ever.
	}
	<-written
	// One that nobody reads is not waited for.
	go b.write([]byte("stuck"), always)
	for len(b.writing) == 1 {
		time.Sleep(time.Millisecond)
	}
	b.settle()
	_ = ours.SetDeadline(time.Now().Add(patience))
	if _, err := ours.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Error("passt was not ended")
	}
}
