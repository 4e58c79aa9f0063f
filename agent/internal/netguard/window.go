package netguard

import (
	"encoding/binary"
	"time"
)

// passt sends as much at once as the guest's TCP window takes, and loses what does not fit into its socket: with the
// windows of Linux a guest received 10 to 100 Mbit/s from a fast neighbour, and some Gbit/s with these limits. passt
// gives the guest's window to the other side too, so a limit is felt over a long way: 2 MiB and 100 ms are 160 Mbit/s.
//
// The other way passt shows the guest the other side's window, and loses what its own socket does not take: uploads to a
// fast neighbour had from 10 Mbit/s to 5 Gbit/s. It acknowledges what the other side has acknowledged, so this limit has
// to grow with the way. passt answers a SYN when it has connected itself: that is how long the way takes.
//
// Where the rate is limited, windows also bound what waits in netguard. passt resets a connection whose bytes were not
// acknowledged for 2 s some times in a row, and a guest sends its own again when they take longer than they did before:
// with windows for a fast network a slow one carried mostly what it had carried already.

const (
	// widestWindow is the limit where no rate is, in bytes.
	widestWindow = 2 << 20
	// leastFrames is how many of the largest frames a window takes, and narrowestWindow what it takes at least, in bytes.
	leastFrames     = 2
	narrowestWindow = 16 << 10
	// queueTime is for how long a connection may have bytes waiting where the rate is limited.
	queueTime = 50 * time.Millisecond
	// queueTimeOfAll is for how long all connections together may.
	queueTimeOfAll = 250 * time.Millisecond
	// narrowestRemoteWindow is the limit over a short way, in bytes, and remoteBytesPerSecond what a longer one allows:
	// 10 Gbit/s.
	narrowestRemoteWindow = 256 << 10
	remoteBytesPerSecond  = 1250 << 20
	// longestWay is the longest time that counts; the limit is far above any window then.
	longestWay = time.Second

	tcpWindowAt       = 14 // in the TCP header
	tcpSumAt          = 16
	optionEnd         = 0
	optionNothing     = 1
	optionWindowScale = 3
	// widestScale is the largest window scale (RFC 7323, 2.3).
	widestScale = 14
)

// limit is that of each direction.
type limit struct {
	rate int64 // In bytes a second; 0 for none.
	mtu  int   // Of the guest's interface, in bytes.
}

// window is what a connection's window is limited to that waits so long for its answers, when as many conversations
// have frames waiting here: what is under way, and some that waits.
func (l limit) window(way time.Duration, crowd int) int {
	if l.rate == 0 {
		return widestWindow
	}
	if way > longestWay {
		way = longestWay
	}
	window, least := l.during(queueTime+way), leastFrames*l.mtu
	if window < narrowestWindow {
		window = narrowestWindow
	}
	if share := l.during(queueTimeOfAll+way) / crowd; window > share {
		window = share
	}
	switch {
	case window > widestWindow:
		return widestWindow
	case window < least:
		return least
	}
	return window
}

// remoteWindow is what passt's window is limited to where its answer to a SYN took that long.
func (l limit) remoteWindow(way time.Duration, crowd int) int {
	free := remoteWindowLimit(way)
	if l.rate == 0 {
		return free
	}
	if window := l.window(way, crowd); window < free {
		return window
	}
	return free
}

func (l limit) during(time time.Duration) int { return int(float64(l.rate) * time.Seconds()) }

// remoteWindowLimit is that without a limit of the rate.
func remoteWindowLimit(way time.Duration) int {
	if way > longestWay {
		way = longestWay
	}
	if limit := int(way.Seconds() * remoteBytesPerSecond); limit > narrowestRemoteWindow {
		return limit
	}
	return narrowestRemoteWindow
}

// windowScale reads the option of a SYN; 0 where there is none.
func (p *packet) windowScale() uint8 {
	segment := p.bytes[ipv4Size:]
	options := segment[tcpSize : int(segment[12]>>4)*4]
	for len(options) > 0 && options[0] != optionEnd {
		if options[0] == optionNothing {
			options = options[1:]
			continue
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return 0
		}
		if options[0] == optionWindowScale && options[1] == 3 {
			if options[2] > widestScale {
				return widestScale
			}
			return options[2]
		}
		options = options[options[1]:]
	}
	return 0
}

// limitWindow makes the window of a segment smaller. It is never closed: with a large scale the smallest one that is open
// may be above the limit.
func (p *packet) limitWindow(limit int, scale uint8) {
	segment := p.bytes[ipv4Size:]
	before, after := binary.BigEndian.Uint16(segment[tcpWindowAt:]), limit>>scale
	if after == 0 {
		after = 1
	}
	if int(before) <= after {
		return
	}
	binary.BigEndian.PutUint16(segment[tcpWindowAt:], uint16(after))
	// RFC 1624, equation 3.
	check := uint32(^binary.BigEndian.Uint16(segment[tcpSumAt:])) + uint32(^before) + uint32(after)
	check = check>>16 + check&0xffff
	check = check>>16 + check&0xffff
	binary.BigEndian.PutUint16(segment[tcpSumAt:], ^uint16(check))
}
