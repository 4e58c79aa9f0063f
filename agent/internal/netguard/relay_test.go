package netguard

import (
	"bytes"
	"encoding/binary"
	"io"
	"reflect"
	"strings"
	"testing"
)

// oneByte hands out its data in pieces of one byte.
type oneByte struct{ data []byte }

func (r *oneByte) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		return 0, io.EOF
	}
	p[0] = r.data[0]
	r.data = r.data[1:]
	return 1, nil
}

// sift relays the frames that keep says yes to.
func sift(from io.Reader, keep func([]byte) bool, isQueued bool) (string, error) {
	var to strings.Builder
	way := batch{write: func(messages []byte) { to.Write(messages) }}
	if isQueued {
		way.queue = func(message []byte) {
			if len(message) != lengthSize+int(binary.BigEndian.Uint32(message)) {
				panic("not one frame")
			}
			to.Write(message)
		}
	}
	err := relay(from, &splitter{}, func(buffer []byte, start, end int) {
		if keep(buffer[start+lengthSize : end]) {
			way.add(buffer, start, end)
		}
	}, way.flush)
	return to.String(), err
}

func TestRelayKeepsWholeFrames(t *testing.T) {
	a, b, c := bytes.Repeat([]byte{'a'}, 60), bytes.Repeat([]byte{'b'}, frameLimit), bytes.Repeat([]byte{'c'}, ethernetSize)
	stream := bytes.Join([][]byte{message(a), message(b), message(c), message(a), message(b), message(b), message(a)}, nil)
	want := string(bytes.Join([][]byte{message(a), message(c), message(a), message(a)}, nil))
	keep := func(f []byte) bool { return f[0] != 'b' }
	for name, from := range map[string]func() io.Reader{
		"whole": func() io.Reader { return bytes.NewReader(stream) }, "pieces": func() io.Reader { return &oneByte{data: stream} },
	} {
		for _, isQueued := range []bool{false, true} {
			if got, err := sift(from(), keep, isQueued); err != io.EOF || got != want {
				t.Errorf("%s: %v, %d bytes, want %d", name, err, len(got), len(want))
			}
		}
	}
	for _, size := range []uint32{0, 13, frameLimit + 1, 0xffffffff} {
		bad := make([]byte, 100)
		binary.BigEndian.PutUint32(bad, size)
		if _, err := sift(bytes.NewReader(bad), keep, false); err != errBadFrame {
			t.Errorf("length %d: %v", size, err)
		}
	}
}

func TestMessagesAreBounded(t *testing.T) {
	var to bytes.Buffer
	line := "Failed to send 7 bytes to syslog\n\n" + string(bytes.Repeat([]byte{'m'}, 999)) + "\n"
	log := NewMessages(&to)
	log.Copy(bytes.NewReader(bytes.Repeat([]byte(line), 60)))
	log.Copy(bytes.NewReader(bytes.Repeat([]byte(line), 60)))
	log.Printf("one more")
	if to.Len() != logLimit || bytes.Contains(to.Bytes(), []byte("syslog")) {
		t.Errorf("%d bytes kept", to.Len())
	}
}

// A VMM goes on with the rest of a frame whose beginning an earlier netguard got.
func TestAStreamThatBeginsInTheMiddleOfAFrame(t *testing.T) {
	own := func(size int) []byte {
		f := bytes.Repeat([]byte{0, 0, 0, 40, 7}, size/5+1)[:size]
		copy(f[6:], guestMAC)
		return message(f)
	}
	stream := bytes.Join([][]byte{own(60), own(frameLimit), own(ethernetSize), own(1500), own(61)}, nil)
	for _, cut := range []int{1, 3, 4, 10, 16, 17, 18, 40, 63, 64, 65, 1000, 64 + frameLimit + 3} {
		for name, from := range map[string]io.Reader{"whole": bytes.NewReader(stream[cut:]), "pieces": &oneByte{data: stream[cut:]}} {
			var sizes []int
			frames := &splitter{source: guestMAC}
			err := relay(from, frames, func(_ []byte, start, end int) { sizes = append(sizes, end-start-lengthSize) }, func() {})
			want := []int{frameLimit, ethernetSize, 1500, 61}
			if cut > 64 {
				want = want[1:]
			}
			if err != io.EOF || !reflect.DeepEqual(sizes, want) {
				t.Errorf("cut %d, %s: %v %v, want %v", cut, name, err, sizes, want)
			}
		}
	}
	// Frames of others are no reason to lose the stream once it is followed.
	foreign := bytes.Repeat([]byte{9}, 60)
	var count int
	_ = relay(bytes.NewReader(bytes.Join([][]byte{own(60), message(foreign), own(70)}, nil)), &splitter{source: guestMAC},
		func([]byte, int, int) { count++ }, func() {})
	if count != 3 {
		t.Errorf("%d frames, want 3", count)
	}
}
