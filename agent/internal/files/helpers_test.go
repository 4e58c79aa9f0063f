package files

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/session"
)

// fakeExchange is an exchange whose client is the test.
type fakeExchange struct {
	input  io.Reader
	output bytes.Buffer
	writes int
	// limit: once so many bytes were read or written, the client cancels. 0: never.
	limit, moved int
	first        func() // is called when something is written for the first time
	once         sync.Once
	cancelled    chan struct{}
}

func newExchange(input []byte) *fakeExchange {
	return &fakeExchange{input: bytes.NewReader(input), cancelled: make(chan struct{})}
}

func (x *fakeExchange) Cancelled() <-chan struct{} { return x.cancelled }

func (x *fakeExchange) cancel() { x.once.Do(func() { close(x.cancelled) }) }

func (x *fakeExchange) move(n int) error {
	x.moved += n
	if x.limit > 0 && x.moved >= x.limit {
		x.cancel()
	}
	if isCancelled(x) {
		return session.ErrCancelled
	}
	return nil
}

func (x *fakeExchange) Read(p []byte) (int, error) {
	if err := x.move(0); err != nil {
		return 0, err
	}
	if x.limit > 0 && len(p) > 1000 {
		p = p[:1000]
	}
	n, err := x.input.Read(p)
	_ = x.move(n)
	return n, err
}

func (x *fakeExchange) Write(p []byte) (int, error) {
	if x.writes++; x.writes == 1 && x.first != nil {
		x.first()
	}
	if err := x.move(len(p)); err != nil {
		return 0, err
	}
	return x.output.Write(p)
}

// ReadFrom does as the real one: a frame's worth at a time.
func (x *fakeExchange) ReadFrom(source io.Reader) (int64, error) {
	buffer := make([]byte, chunkSize)
	total := int64(0)
	for {
		n, readErr := source.Read(buffer)
		if n > 0 {
			if _, err := x.Write(buffer[:n]); err != nil {
				return total, err
			}
			total += int64(n)
		}
		if readErr == io.EOF {
			return total, nil
		}
		if readErr != nil {
			return total, readErr
		}
	}
}

// field and fields make requests and records.
type field struct {
	tag   uint8
	value []byte
}

func fields(list ...field) (p []byte) {
	for _, f := range list {
		p = frame.AppendBytes(p, f.tag, f.value)
	}
	return p
}

func text(tag uint8, s string) field  { return field{tag, []byte(s)} }
func flag(tag uint8) field            { return field{tag, []byte{1}} }
func u8(tag uint8, n uint8) field     { return field{tag, []byte{n}} }
func u32(tag uint8, n uint32) field   { return field{tag, frame.AppendU32(nil, tag, n)[5:]} }
func u64(tag uint8, n uint64) field   { return field{tag, frame.AppendU64(nil, tag, n)[5:]} }
func mtimeOf(nanoseconds int64) field { return u64(treeMtime, uint64(nanoseconds)) }

// perform runs an operation and returns its reply, or its error's name.
func perform(t testing.TB, x exchange, name string, list ...field) (map[uint8][]byte, string) {
	t.Helper()
	var result session.Result
	if operation := Operations()["fs."+name]; operation != nil {
		answer, err := operation(fields(list...))
		if err != nil {
			t.Fatal(err)
		}
		result = answer()
	} else {
		work := map[string]func(*request, exchange) ([]byte, error){"readdir": readDirectory, "rm": remove,
			"read": read, "write": write, "send": send, "receive": receive}[name]
		r, err := parse(fields(list...))
		if err != nil {
			t.Fatal(err)
		}
		if x == nil {
			x = newExchange(nil)
		}
		result = r.run(name, func() ([]byte, error) { return work(r, x) })
	}
	if result.Failed != nil {
		if !strings.HasPrefix(result.Failed.Message, "Cannot ") {
			t.Errorf("message %q", result.Failed.Message)
		}
		return nil, result.Failed.Code
	}
	found := map[uint8][]byte{}
	if err := frame.Each(result.Reply, func(f frame.Field) error {
		found[f.Tag] = f.Value
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return found, ""
}

func expect(t testing.TB, code string, x exchange, name string, list ...field) map[uint8][]byte {
	t.Helper()
	reply, got := perform(t, x, name, list...)
	if got != code {
		t.Fatalf("fs.%s gave %q, want %q", name, got, code)
	}
	return reply
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, path, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0755))
	must(t, os.WriteFile(path, []byte(content), 0644))
}

func number(value []byte) uint64 {
	switch len(value) {
	case 4:
		return uint64(binary.BigEndian.Uint32(value))
	case 8:
		return binary.BigEndian.Uint64(value)
	}
	return ^uint64(0)
}

// look describes all below a directory, but for the times of the directory itself: what an operation must not change.
func look(t testing.TB, root string) string {
	t.Helper()
	var lines []string
	must(t, filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		s := info.Sys().(*syscall.Stat_t)
		line := path[len(root):] + " " + info.Mode().String()
		if path != root {
			line += " " + info.ModTime().Format(time.RFC3339Nano)
		}
		switch s.Mode & syscall.S_IFMT {
		case syscall.S_IFLNK:
			target, _ := os.Readlink(path)
			line += " -> " + target
		case syscall.S_IFREG:
			content, _ := os.ReadFile(path)
			line += " " + string(content)
		}
		lines = append(lines, line)
		return nil
	}))
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

func record(kind uint8, payload []byte) []byte {
	p := make([]byte, recordHead, recordHead+len(payload))
	p[0] = kind
	binary.BigEndian.PutUint32(p[1:], uint32(len(payload)))
	return append(p, payload...)
}

func directoryRecord(path string) []byte {
	return record(recordDirectory, fields(text(treePath, path), u32(treeMode, 0755), mtimeOf(1)))
}

func fileRecord(path string, size uint64) []byte {
	return record(recordFile, fields(text(treePath, path), u32(treeMode, 0644), mtimeOf(2), u64(treeSize, size)))
}

func contentRecord(offset uint64, content string) []byte {
	return record(recordContent, append(frame.AppendU64(nil, 0, offset)[5:], content...))
}

func linkRecord(path, target string) []byte {
	return record(recordLink, fields(text(treePath, path), mtimeOf(3), text(treeTarget, target)))
}

func leftOutRecord(path string) []byte {
	return record(recordLeftOut, fields(text(treePath, path), u8(treeType, 6)))
}

func endRecord(count int) []byte { return record(recordEnd, fields(u64(treeRecords, uint64(count)))) }

// tree joins records and ends them properly.
func tree(records ...[]byte) []byte {
	return append(bytes.Join(records, nil), endRecord(len(records))...)
}
