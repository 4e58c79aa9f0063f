package files

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/session"
)

// lane is a session on a pair of sockets, and the client at the other end.
type lane struct {
	t        testing.TB
	file     *os.File
	sequence uint32
	stream   uint32
	decoder  frame.Decoder
	frames   int
}

func newLane(t testing.TB) *lane {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	must(t, err)
	for _, fd := range pair {
		must(t, syscall.SetNonblock(fd, true))
	}
	theirs := os.NewFile(uintptr(pair[1]), "agent")
	l := &lane{t: t, file: os.NewFile(uintptr(pair[0]), "client"), decoder: frame.Decoder{From: frame.FromAgent}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = session.Serve(theirs, &session.Config{Operations: Operations(), Exchanges: Exchanges(), Version: "test",
			Log: func(s string) { t.Error(s) }})
		theirs.Close()
	}()
	t.Cleanup(func() {
		l.file.Close()
		<-done
	})
	hello := frame.AppendBytes(frame.AppendU32(nil, 1, frame.Version), 2, make([]byte, frame.NonceSize))
	_, err = l.file.Write(frame.Preamble)
	must(t, err)
	l.send(frame.Hello, 0, hello)
	welcome := make([]byte, len(frame.Preamble))
	_, err = l.file.Read(welcome)
	must(t, err)
	return l
}

func (l *lane) send(kind frame.Type, stream uint32, payload []byte) {
	h := frame.Header{Type: kind, Stream: stream, Sequence: l.sequence}
	if kind == frame.Credit {
		h.Channel = frame.Stdout
	}
	l.sequence++
	_, err := l.file.Write(frame.Append(nil, h, payload))
	must(l.t, err)
}

// call runs an operation with some input, and returns what it gives and its reply or the code of its failure.
func (l *lane) call(name string, input []byte, list ...field) (output []byte, code string, reply map[uint8][]byte) {
	l.stream++
	id := l.stream
	l.send(frame.Call, id, fields(append([]field{text(1, name)}, list...)...))
	window, ended, over := frame.InitialCredit, false, false
	buffer := make([]byte, 256<<10)
	for !over {
		for len(input) > 0 && window > 0 {
			n := frame.MaxData
			if n > len(input) {
				n = len(input)
			}
			if n > window {
				n = window
			}
			l.send(frame.Data, id, input[:n])
			input = input[n:]
			window -= n
		}
		if len(input) == 0 && !ended && !strings.HasSuffix(name, "send") && Exchanges()[name] != nil {
			ended = true
			l.send(frame.End, id, nil)
		}
		n, err := l.file.Read(buffer)
		must(l.t, err)
		must(l.t, l.decoder.Feed(buffer[:n], func(h frame.Header, p []byte) error {
			switch h.Type {
			case frame.Data:
				l.frames++
				output = append(output, p...)
				var credit [4]byte
				binary.BigEndian.PutUint32(credit[:], uint32(len(p)))
				l.send(frame.Credit, id, credit[:])
			case frame.Credit:
				window += int(binary.BigEndian.Uint32(p))
			case frame.Failed, frame.Reply, frame.Fatal:
				over = true
				reply = map[uint8][]byte{}
				return frame.Each(p, func(f frame.Field) error {
					if h.Type != frame.Reply && f.Tag == 1 {
						code = string(f.Value)
					}
					reply[f.Tag] = append([]byte(nil), f.Value...)
					return nil
				})
			}
			return nil
		}))
	}
	return output, code, reply
}

func TestOverASession(t *testing.T) {
	dir := t.TempDir()
	makeSample(t, dir+"/from")
	l := newLane(t)
	data, code, _ := l.call("fs.send", nil, text(tagPath, dir+"/from"))
	if code != "" {
		t.Fatal(code)
	}
	if _, code, _ := l.call("fs.receive", data, text(tagPath, dir+"/to")); code != "" {
		t.Fatal(code)
	}
	same(t, describe(t, dir+"/to"), describe(t, dir+"/from"))
	if _, code, _ := l.call("fs.stat", nil, text(tagPath, dir+"/none")); code != "ENOENT" {
		t.Error(code)
	}
	big := bytes.Repeat([]byte("0123456789"), 100000)
	if _, code, reply := l.call("fs.write", big, text(tagPath, dir+"/big")); code != "" || number(reply[tagWritten]) != 1000000 {
		t.Error(code)
	}
	if got, code, _ := l.call("fs.read", nil, text(tagPath, dir+"/big")); code != "" || !bytes.Equal(got, big) {
		t.Error(code, len(got))
	}
	if _, code, _ := l.call("fs.receive", data[:len(data)-1], text(tagPath, dir+"/cut")); code != "EBADMSG" {
		t.Error(code)
	}
	if _, code, _ := l.call("fs.rm", nil, text(tagPath, dir+"/to"), flag(tagRecursive)); code != "" {
		t.Error(code)
	}
	if _, err := os.Lstat(dir + "/to"); err == nil {
		t.Error("it is still there")
	}
}

// files4k makes many small files, as they are uploaded.
func files4k(b *testing.B, dir string, count int) {
	b.Helper()
	for i := 0; i < count; i++ {
		put(b, fmt.Sprintf("%s/d%02d/file-%04d", dir, i%20, i), strings.Repeat("0123456789abcdef", 256))
	}
}

func benchmarkTree(b *testing.B, make func(dir string), receiving bool) {
	dir, err := os.MkdirTemp("/dev/shm", "smolvm-files-bench-")
	must(b, err)
	defer os.RemoveAll(dir)
	make(dir + "/from")
	l := newLane(b)
	data, code, _ := l.call("fs.send", nil, text(tagPath, dir+"/from"))
	if code != "" {
		b.Fatal(code)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		if !receiving {
			if _, code, _ := l.call("fs.send", nil, text(tagPath, dir+"/from")); code != "" {
				b.Fatal(code)
			}
			continue
		}
		if _, code, _ := l.call("fs.receive", data, text(tagPath, dir+"/to")); code != "" {
			b.Fatal(code)
		}
		b.StopTimer()
		must(b, os.RemoveAll(dir+"/to"))
		b.StartTimer()
	}
}

func BenchmarkSendManyFiles(b *testing.B) {
	benchmarkTree(b, func(dir string) { files4k(b, dir, 2000) }, false)
}

func BenchmarkReceiveManyFiles(b *testing.B) {
	benchmarkTree(b, func(dir string) { files4k(b, dir, 2000) }, true)
}

func BenchmarkSendLargeFile(b *testing.B) {
	benchmarkTree(b, func(dir string) { put(b, dir, strings.Repeat("0123456789abcdef", 4<<20)) }, false)
}

func BenchmarkReceiveLargeFile(b *testing.B) {
	benchmarkTree(b, func(dir string) { put(b, dir, strings.Repeat("0123456789abcdef", 4<<20)) }, true)
}
