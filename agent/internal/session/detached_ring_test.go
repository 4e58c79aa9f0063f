package session

import (
	"bytes"
	"math/rand"
	"testing"

	"smolvm.dev/agent/internal/frame"
)

// The ring against all that was ever written to it.
func TestRing(t *testing.T) {
	r, err := newRing()
	if err != nil {
		t.Fatal(err)
	}
	defer r.free()
	random := rand.New(rand.NewSource(1))
	var data, channels []byte
	for len(data) < 3*ringSize {
		size := 1 + random.Intn(40)
		if random.Intn(10) == 0 {
			size = 1 + random.Intn(maxChunk)
		}
		channel := frame.Stdout + uint8(random.Intn(2))
		p := make([]byte, size)
		random.Read(p)
		r.write(channel, p)
		data = append(data, p...)
		channels = append(channels, bytes.Repeat([]byte{channel}, size)...)
		if r.end != uint64(len(data)) || r.end-r.start > ringSize || r.end > ringSize && r.end-r.start != ringSize {
			t.Fatalf("from %d to %d after %d bytes", r.start, r.end, len(data))
		}
		if random.Intn(100) != 0 {
			continue
		}
		offset := r.start + uint64(random.Intn(int(r.end-r.start)))
		lost := r.lost.plus(r.count(r.start, offset-r.start))
		for channel := frame.Stdout; channel <= frame.Stderr; channel++ {
			if want := bytes.Count(channels[:offset], []byte{channel}); lost[channel] != uint64(want) {
				t.Fatalf("%d bytes of channel %d before %d, want %d", lost[channel], channel, offset, want)
			}
		}
		for offset < r.end {
			channel, p := r.run(offset)
			end := offset + uint64(len(p))
			if len(p) == 0 || !bytes.Equal(p, data[offset:end]) ||
				bytes.Count(channels[offset:end], []byte{channel}) != len(p) {
				t.Fatalf("wrong at %d", offset)
			}
			if end < r.end && end%ringSize != 0 && channels[end] == channel {
				t.Fatalf("the run at %d ends early, at %d", offset, end)
			}
			offset = end
		}
	}
}
