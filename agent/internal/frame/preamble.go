package frame

import "bytes"

// PreambleSize is the length of the preamble in bytes.
const PreambleSize = 16

// Preamble starts every connection, in both directions. It is not valid UTF-8, so it cannot occur in text.
var Preamble = []byte{0xff, 0xfe, 'S', 'M', 'O', 'L', 'V', 'M', 0xff, 0xfd, 'P', 'R', 'E', 'A', 'M', 0xff}

// fallback[k] is the length of the longest proper prefix of the preamble that ends its first k bytes: where
// matching goes on after a mismatch (Knuth, Morris, Pratt).
var fallback = makeFallback()

func makeFallback() (f [PreambleSize + 1]int) {
	for i, k := 1, 0; i < PreambleSize; i++ {
		for k > 0 && Preamble[i] != Preamble[k] {
			k = f[k]
		}
		if Preamble[i] == Preamble[k] {
			k++
		}
		f[i+1] = k
	}
	return f
}

// overlap is how many bytes the end of one preamble shares with the start of the next. They count: a client that
// leaves 15 bytes of a preamble behind must not cost the next client the first byte of its own.
var overlap = fallback[PreambleSize]

// Matcher finds the preamble in a stream that arrives in pieces.
type Matcher struct {
	matched int // how many bytes of the preamble the stream ends with
}

func (m *Matcher) step(b byte) bool {
	for m.matched > 0 && b != Preamble[m.matched] {
		m.matched = fallback[m.matched]
	}
	if b == Preamble[m.matched] {
		m.matched++
	}
	if m.matched == PreambleSize {
		m.matched = overlap
		return true
	}
	return false
}

// Find returns the offset in p just behind the first preamble that ends in p, or -1. Bytes behind that offset
// are not looked at: pass them to the next call.
func (m *Matcher) Find(p []byte) int {
	i := 0
	for ; i < len(p) && m.matched > 0; i++ {
		if m.step(p[i]) {
			return i + 1
		}
	}
	// Nothing is pending, so the fast search may do the bulk and only the tail can hold the start of a match.
	rest := p[i:]
	if at := bytes.Index(rest, Preamble); at >= 0 {
		m.matched = overlap
		return i + at + PreambleSize
	}
	if len(rest) >= PreambleSize {
		rest = rest[len(rest)-PreambleSize+1:]
	}
	for _, b := range rest {
		m.step(b)
	}
	return -1
}
