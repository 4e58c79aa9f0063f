package egress

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// denialBook is a Denials with a clock that the test moves.
type denialBook struct {
	*Denials
	t     *testing.T
	clock time.Time
	next  func()
}

func newDenialBook(t *testing.T) *denialBook {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(t.TempDir(), "denials.log"), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	b := &denialBook{Denials: NewDenials(file), t: t, clock: time.UnixMilli(1732470000000)}
	b.now = func() time.Time { return b.clock }
	b.wake = func(_ time.Duration, f func()) { b.next = f }
	return b
}

// pass moves the clock second by second.
func (b *denialBook) pass(d time.Duration) {
	for ; d > 0; d -= time.Second {
		b.clock = b.clock.Add(time.Second)
		if f := b.next; f != nil {
			b.next = nil
			f()
		}
	}
}

func (b *denialBook) lines() []denialLine {
	b.t.Helper()
	data, err := os.ReadFile(b.file.Name())
	if err != nil {
		b.t.Fatal(err)
	}
	var lines []denialLine
	for _, text := range bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
		var line denialLine
		if len(text) == 0 {
			continue
		}
		if err := json.Unmarshal(text, &line); err != nil {
			b.t.Fatalf("%q: %v", text, err)
		}
		lines = append(lines, line)
	}
	return lines
}

func smtp(host byte) Denial {
	return Denial{Protocol: ProtocolTCP, Address: netip.AddrFrom4([4]byte{203, 0, 113, host}), Port: 25,
		Rule: RuleNotAllowed, Allow: fmt.Sprintf("203.0.113.%d:25", host)}
}

func TestDenialLine(t *testing.T) {
	b := newDenialBook(t)
	b.Note(smtp(9))
	b.Note(Denial{Protocol: ProtocolDNS, Name: "evil.com\n\xff", Rule: RuleNameNotAllowed, Allow: "evil.com"})
	b.Note(Denial{Protocol: ProtocolIPv6, Rule: RuleIPv6})
	data, _ := os.ReadFile(b.file.Name())
	want := `{"at":1732470000000,"protocol":"tcp","address":"203.0.113.9","port":25,"name":null,"rule":"not-allowed","count":1,"allow":"203.0.113.9:25"}
{"at":1732470000000,"protocol":"dns","address":null,"port":null,"name":"evil.com\n\ufffd","rule":"name-not-allowed","count":1,"allow":"evil.com"}
{"at":1732470000000,"protocol":"ip6","address":null,"port":null,"name":null,"rule":"ip6","count":1,"allow":null}
`
	if string(data) != want {
		t.Errorf("got\n%s", data)
	}
}

func TestDenialsOfOneKindAreCounted(t *testing.T) {
	b := newDenialBook(t)
	for i := 0; i < 1000; i++ {
		b.Note(smtp(1))
	}
	if lines := b.lines(); len(lines) != 1 || lines[0].Count != 1 {
		t.Fatalf("%+v", lines)
	}
	b.pass(9 * time.Second)
	if lines := b.lines(); len(lines) != 1 {
		t.Fatalf("%+v", lines)
	}
	b.pass(2 * time.Second)
	if lines := b.lines(); len(lines) != 2 || lines[1].Count != 999 || lines[1].At != lines[0].At {
		t.Fatalf("%+v", lines)
	}
	b.pass(15 * time.Second)
	if len(b.known) != 0 || b.next != nil {
		t.Error("it is still remembered")
	}
	b.Note(smtp(1))
	b.Note(smtp(1))
	b.Flush()
	b.Flush()
	if lines := b.lines(); len(lines) != 4 || lines[2].Count != 1 || lines[3].Count != 1 {
		t.Fatalf("%+v", lines)
	}
}

func TestDenialsAreFew(t *testing.T) {
	b := newDenialBook(t)
	const kinds = denialsRemembered + 1000
	noted := 0
	for i := 0; i < kinds; i++ {
		d := smtp(1)
		d.Port = uint16(i + 1)
		b.Note(d)
		noted++
	}
	if lines := b.lines(); len(lines) != denialLinesPerSecond {
		t.Fatalf("%d lines in a second", len(lines))
	}
	if len(b.known) > denialsRemembered+1 {
		t.Errorf("%d kinds are remembered", len(b.known))
	}
	b.pass(time.Second)
	if lines := b.lines(); len(lines) != 2*denialLinesPerSecond {
		t.Fatalf("%d lines in two seconds", len(lines))
	}
	b.pass(5 * time.Minute)
	counted, folded := 0, 0
	for _, line := range b.lines() {
		counted += line.Count
		if line.Port == nil {
			folded += line.Count
		}
	}
	if counted != noted || folded != 1000 {
		t.Errorf("%d of %d were counted, %d without a port", counted, noted, folded)
	}
}

func TestDenialFileIsBounded(t *testing.T) {
	b := newDenialBook(t)
	for i := 0; i < 12000; i++ {
		d := smtp(byte(i))
		d.Port, d.Name = uint16(i+1), strings.Repeat("n", 300)
		b.Note(d)
		b.Flush()
		b.clock = b.clock.Add(time.Minute)
		b.next()
	}
	info, err := b.file.Stat()
	if err != nil || info.Size() > denialFileLimit || info.Size() < denialFileLimit/2 {
		t.Errorf("%d bytes %v", info.Size(), err)
	}
	lines := b.lines()
	for i, line := range lines {
		if want := 12000 - len(lines) + i + 1; int(*line.Port) != want {
			t.Fatalf("line %d is %d, wanted %d", i, *line.Port, want)
		}
	}
}

func TestNoDenials(t *testing.T) {
	d := NewDenials(nil)
	d.Note(smtp(1))
	d.Flush()
}
