package netguard

import (
	"encoding/binary"
	"testing"
	"time"
)

// synWith is a SYN with these options.
func synWith(options ...byte) []byte {
	segment := tcp(40000, 80, tcpSyn)
	segment[12] = byte(tcpSize+len(options)) / 4 << 4
	return frame(protocolTCP, guest, "203.0.113.7", append(segment, options...))
}

func TestWindowScale(t *testing.T) {
	for name, c := range map[string]struct {
		options []byte
		want    uint8
	}{
		"none": {nil, 0}, "alone": {[]byte{3, 3, 7, 0}, 7}, "as Linux": {[]byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 9}, 9},
		"after the end": {[]byte{0, 3, 3, 7}, 0}, "too large": {[]byte{3, 3, 99, 0}, widestScale},
		"no length": {[]byte{1, 1, 1, 3}, 0}, "length 0": {[]byte{2, 0, 3, 3}, 0}, "length 1": {[]byte{2, 1, 3, 3}, 0},
		"too long": {[]byte{2, 200, 3, 3}, 0}, "cut": {[]byte{1, 1, 3, 3}, 0}, "other length": {[]byte{3, 4, 7, 7}, 0},
	} {
		p, whole := parseOutbound(synWith(c.options...)[ethernetSize:])
		if got := p.windowScale(); !whole || got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestWindowIsLimited(t *testing.T) {
	for _, c := range []struct {
		scale        uint8
		window, want uint16
	}{
		{0, 65535, 65535}, {7, 1000, 1000}, {7, 16384, 16384}, {7, 16385, 16384}, {7, 65535, 16384}, {14, 65535, 128}, {14, 0, 0},
	} {
		it := newTested(t, openPolicy)
		it.sends(synWith(3, 3, c.scale, 0))
		f := frame(protocolTCP, guest, "203.0.113.7", append(tcp(40000, 80, tcpAck), "data"...))
		segment := f[ethernetSize+ipv4Size:]
		binary.BigEndian.PutUint16(segment[tcpWindowAt:], c.window)
		binary.BigEndian.PutUint16(segment[tcpSumAt:], transportSum(f[ethernetSize:], segment))
		if it.sends(f) != "host" {
			t.Fatal("dropped")
		}
		if got := binary.BigEndian.Uint16(segment[tcpWindowAt:]); got != c.want {
			t.Errorf("scale %d: %d becomes %d, want %d", c.scale, c.window, got, c.want)
		}
		if transportSum(f[ethernetSize:], segment) != 0 {
			t.Errorf("scale %d: %d: the checksum is wrong", c.scale, c.window)
		}
	}
}

// passt's window is limited by how long its answer to the SYN took.
func TestWindowOfPasstIsLimited(t *testing.T) {
	for _, c := range []struct {
		way  time.Duration
		want uint16
	}{{0, 2048}, {100 * time.Microsecond, 2048}, {time.Millisecond, 10240}, {20 * time.Millisecond, 65535}, {time.Hour, 65535}} {
		it := newTested(t, openPolicy)
		it.sends(syn("203.0.113.7", 80))
		it.at = it.at.Add(c.way)
		answer := tcp(80, 40000, tcpSyn|tcpAck)
		answer[12] = (tcpSize + 4) / 4 << 4
		if !it.Inbound(frame(protocolTCP, "203.0.113.7", guest, append(answer, 3, 3, 7, 0)), ToHost) {
			t.Fatal("dropped")
		}
		f := frame(protocolTCP, "203.0.113.7", guest, tcp(80, 40000, tcpAck))
		segment := f[ethernetSize+ipv4Size:]
		binary.BigEndian.PutUint16(segment[tcpWindowAt:], 0xffff)
		binary.BigEndian.PutUint16(segment[tcpSumAt:], transportSum(f[ethernetSize:], segment))
		if !it.Inbound(f, ToHost) {
			t.Fatal("dropped")
		}
		if got := binary.BigEndian.Uint16(segment[tcpWindowAt:]); got != c.want || transportSum(f[ethernetSize:], segment) != 0 {
			t.Errorf("%s: %d, want %d", c.way, got, c.want)
		}
	}
}

// The sum's carries depend on what else is in the segment.
func TestWindowIsLimitedWithEveryChecksum(t *testing.T) {
	for number := 0; number <= 0xffff; number++ {
		f := frame(protocolTCP, guest, "203.0.113.7", tcp(40000, 80, tcpAck))
		segment := f[ethernetSize+ipv4Size:]
		binary.BigEndian.PutUint16(segment[4:], uint16(number))
		binary.BigEndian.PutUint16(segment[tcpWindowAt:], 0xffff)
		binary.BigEndian.PutUint16(segment[tcpSumAt:], transportSum(f[ethernetSize:], segment))
		p, _ := parseOutbound(f[ethernetSize:])
		p.limitWindow(narrowestWindow, 7)
		if transportSum(f[ethernetSize:], segment) != 0 {
			t.Fatalf("% x", segment)
		}
	}
}

func TestWindowLimitFollowsTheRate(t *testing.T) {
	for _, c := range []struct {
		limit               limit
		way                 time.Duration
		crowd, want, remote int
	}{
		{limit{0, 65520}, 0, 9, widestWindow, narrowestRemoteWindow},
		{limit{0, 65520}, time.Hour, 9, widestWindow, remoteBytesPerSecond},
		{limit{125_000, 1500}, 0, 1, narrowestWindow, narrowestWindow},
		{limit{125_000, 1500}, 200 * time.Millisecond, 1, 31_250, 31_250},
		{limit{125_000, 1500}, time.Hour, 1, 131_250, 131_250},
		{limit{125_000, 1500}, 0, 4, 7_812, 7_812},
		{limit{125_000, 1500}, 0, 100, 3_000, 3_000},
		{limit{2_000_000, 65520}, 0, 1, 131_040, 131_040},
		{limit{12_500_000, 65520}, 0, 1, 625_000, narrowestRemoteWindow},
		{limit{1_250_000_000, 65520}, 0, 1, widestWindow, narrowestRemoteWindow},
	} {
		if window, remote := c.limit.window(c.way, c.crowd), c.limit.remoteWindow(c.way, c.crowd); window != c.want || remote != c.remote {
			t.Errorf("%+v: %d and %d", c, window, remote)
		}
	}
}

// A window that is open stays so, however large its unit: nobody says when one that netguard closed opens again.
func TestNoWindowIsClosed(t *testing.T) {
	for before, want := range map[uint16]uint16{0: 0, 1: 1, 9: 1} {
		f := frame(protocolTCP, guest, "203.0.113.7", tcp(40000, 80, tcpAck))
		segment := f[ethernetSize+ipv4Size:]
		binary.BigEndian.PutUint16(segment[tcpWindowAt:], before)
		binary.BigEndian.PutUint16(segment[tcpSumAt:], transportSum(f[ethernetSize:], segment))
		p, _ := parseOutbound(f[ethernetSize:])
		p.limitWindow(1<<widestScale-1, widestScale)
		if got := binary.BigEndian.Uint16(segment[tcpWindowAt:]); got != want || transportSum(f[ethernetSize:], segment) != 0 {
			t.Errorf("%d becomes %d, want %d", before, got, want)
		}
	}
}

// Among many that wait, each has less under way.
func TestWindowsOfManyAreSmaller(t *testing.T) {
	it := newTested(t, openPolicy)
	it.limit = limit{125_000, 1500}
	it.toGuest, it.toPasst = newFairQueue(it.limit), newFairQueue(it.limit)
	it.sends(syn("203.0.113.7", 80))
	it.Inbound(frame(protocolTCP, "203.0.113.7", guest, tcp(80, 40000, tcpSyn|tcpAck)), ToHost)
	windows := func() (out [2]uint16) {
		up, down := frame(protocolTCP, guest, "203.0.113.7", tcp(40000, 80, tcpAck)), frame(protocolTCP, "203.0.113.7", guest, tcp(80, 40000, tcpAck))
		for i, f := range [][]byte{up, down} {
			binary.BigEndian.PutUint16(f[ethernetSize+ipv4Size+tcpWindowAt:], 0xffff)
			if i == 0 && it.sends(f) != "host" || i == 1 && !it.Inbound(f, ToHost) {
				t.Fatal("dropped")
			}
			out[i] = binary.BigEndian.Uint16(f[ethernetSize+ipv4Size+tcpWindowAt:])
		}
		return out
	}
	if got := windows(); got != [2]uint16{narrowestWindow, narrowestWindow} {
		t.Errorf("alone: %d", got)
	}
	for port := uint16(1); port <= 5; port++ {
		it.toGuest.push(waiting{message: message(frame(protocolTCP, "203.0.113.7", guest, tcp(80, port, tcpAck)))})
		it.toPasst.push(waiting{message: message(frame(protocolUDP, guest, "203.0.113.7", udp(port%4, 80, "x")))})
	}
	if got := windows(); got != [2]uint16{31_250 / 5, 31_250 / 4} {
		t.Errorf("among five that wait for the guest, and four for passt: %d", got)
	}
}
