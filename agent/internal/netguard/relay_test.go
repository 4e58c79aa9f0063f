package netguard

import (
	"bytes"
	"encoding/binary"
	"io"
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
func sift(from io.Reader, keep func([]byte) bool, wait func(int)) (string, error) {
	var to strings.Builder
	way := batch{write: func(messages []byte) { to.Write(messages) }, wait: wait}
	err := relay(from, func(buffer []byte, start, end int) {
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
		if got, err := sift(from(), keep, nil); err != io.EOF || got != want {
			t.Errorf("%s: %v, %d bytes, want %d", name, err, len(got), len(want))
		}
		waited := 0
		if got, _ := sift(from(), keep, func(n int) { waited += n }); got != want || waited != len(want) {
			t.Errorf("%s: %d bytes after waiting for %d, want %d", name, len(got), waited, len(want))
		}
	}
	for _, size := range []uint32{0, 13, frameLimit + 1, 0xffffffff} {
		bad := make([]byte, 100)
		binary.BigEndian.PutUint32(bad, size)
		if _, err := sift(bytes.NewReader(bad), keep, nil); err != ErrBadFrame {
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
