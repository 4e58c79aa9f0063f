package frame

import (
	"bytes"
	"math/rand"
	"testing"
)

func TestMatcherFindsAcrossAllBorders(t *testing.T) {
	before := append(append([]byte("text"), Preamble[:9]...), 0xff, 0xff, 0xfe)
	stream := append(append(append([]byte(nil), before...), Preamble...), "after"...)
	for first := 0; first <= len(stream); first++ {
		for second := first; second <= len(stream); second++ {
			var m Matcher
			found, base := -1, 0
			for _, piece := range [][]byte{stream[:first], stream[first:second], stream[second:]} {
				if at := m.Find(piece); at >= 0 {
					found = base + at
					break
				}
				base += len(piece)
			}
			if found != len(before)+PreambleSize {
				t.Fatalf("cut at %d and %d: found %d", first, second, found)
			}
		}
	}
}

func TestMatcherAgreesWithPlainSearch(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	alphabet := append(append([]byte(nil), Preamble...), 0xff, 0xff, 0)
	for round := 0; round < 2000; round++ {
		stream := make([]byte, random.Intn(200))
		for i := range stream {
			stream[i] = alphabet[random.Intn(len(alphabet))]
		}
		if random.Intn(2) == 0 && len(stream) > PreambleSize {
			copy(stream[random.Intn(len(stream)-PreambleSize):], Preamble)
		}
		want := bytes.Index(stream, Preamble)
		var m Matcher
		got := -1
		for base := 0; base < len(stream) && got < 0; {
			n := 1 + random.Intn(len(stream)-base)
			if at := m.Find(stream[base : base+n]); at >= 0 {
				got = base + at - PreambleSize
			}
			base += n
		}
		if got != want {
			t.Fatalf("%x: got %d, want %d", stream, got, want)
		}
	}
}

func TestMatcherAfterAnAbandonedPreamble(t *testing.T) {
	for cut := 0; cut < PreambleSize; cut++ {
		for _, chunk := range []int{1, 5, 100} {
			stream := append(append(append([]byte(nil), Preamble[:cut]...), Preamble...), "SM"...)
			var m Matcher
			last := -1
			for base := 0; base < len(stream); {
				end := base + chunk
				if end > len(stream) {
					end = len(stream)
				}
				if at := m.Find(stream[base:end]); at >= 0 {
					last, end = base+at, base+at
				}
				base = end
			}
			if last != cut+PreambleSize {
				t.Errorf("%d bytes before, in pieces of %d: last found at %d", cut, chunk, last)
			}
		}
	}
}

func TestFieldTypes(t *testing.T) {
	for _, bad := range []Field{{1, []byte("a\x00b")}, {1, []byte{0xff}}} {
		if _, err := bad.Text(); err == nil {
			t.Errorf("%x passes as text", bad.Value)
		}
	}
	if _, err := (Field{1, []byte{2}}).Flag(); err == nil {
		t.Error("2 passes as a flag")
	}
	if _, err := (Field{1, []byte{1, 2, 3}}).U32(); err == nil {
		t.Error("three bytes pass as u32")
	}
	if _, err := (Field{1, nil}).U64(); err == nil {
		t.Error("nothing passes as u64")
	}
}

func TestDecoderDoesNotBelieveLengths(t *testing.T) {
	var head [HeaderSize]byte
	PutHeader(head[:], Header{Type: Exec, Stream: 1, Length: MaxClientPayload})
	d := Decoder{From: FromClient}
	if err := d.Feed(append(head[:], "few"...), nil); err != nil {
		t.Fatal(err)
	}
	if cap(d.payload) > 1024 {
		t.Errorf("a header alone reserves %d bytes", cap(d.payload))
	}
}

func FuzzFrameDecoder(f *testing.F) {
	for _, c := range goldenCases() {
		payload := c.payload
		for _, field := range c.fields {
			payload = AppendBytes(payload, field.Tag, field.Value)
		}
		f.Add(Append(nil, c.header, payload), uint8(3), c.from == "client")
	}
	f.Fuzz(func(t *testing.T, stream []byte, chunk uint8, client bool) {
		from := FromAgent
		if client {
			from = FromClient
		}
		// The way in which the bytes arrive must not matter, and what was decoded must encode to the same bytes.
		var whole, pieces []byte
		err1 := feed(&Decoder{From: from}, stream, len(stream)+1, func(h Header, p []byte) error {
			_ = Each(p, func(f Field) error { _, _ = f.Text(); return nil })
			whole = Append(whole, h, p)
			return nil
		})
		err2 := feed(&Decoder{From: from}, stream, int(chunk)+1, func(h Header, p []byte) error {
			pieces = Append(pieces, h, p)
			return nil
		})
		if err1 != err2 || !bytes.Equal(whole, pieces) || !bytes.HasPrefix(stream, whole) {
			t.Fatalf("whole %x %v, in pieces %x %v", whole, err1, pieces, err2)
		}
	})
}
