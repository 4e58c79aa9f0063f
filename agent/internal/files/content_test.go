package files

import (
	"bytes"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	all := strings.Repeat("0123456789", 10000)
	put(t, dir+"/f", all)
	for _, c := range []struct {
		want string
		list []field
	}{
		{all, nil},
		{all[99990:], []field{u64(tagOffset, 99990)}},
		{all[5:12], []field{u64(tagOffset, 5), u64(tagLength, 7)}},
		{"", []field{u64(tagLength, 0)}},
		{"", []field{u64(tagOffset, 1<<40)}},
		{all[1:], []field{u64(tagOffset, 1), u64(tagLength, everything-1)}},
	} {
		x := newExchange(nil)
		expect(t, "", x, "read", append(c.list, text(tagPath, dir+"/f"))...)
		if x.output.String() != c.want {
			t.Errorf("%v: %d bytes, want %d", c.list, x.output.Len(), len(c.want))
		}
	}
	expect(t, "EINVAL", nil, "read", text(tagPath, dir+"/f"), u64(tagOffset, 1<<63))
	expect(t, "ENOENT", nil, "read", text(tagPath, dir+"/g"))
	expect(t, "EISDIR", nil, "read", text(tagPath, dir))
	x := newExchange(nil)
	expect(t, "", x, "read", text(tagPath, "/proc/self/status"))
	if !strings.Contains(x.output.String(), "Umask") {
		t.Errorf("%q", x.output.String())
	}
}

func TestEndlessReading(t *testing.T) {
	for _, path := range []string{"/dev/zero", "/dev/urandom"} {
		x := newExchange(nil)
		x.limit = 1 << 20
		expect(t, "ECANCELED", x, "read", text(tagPath, path))
		x = newExchange(nil)
		expect(t, "", x, "read", text(tagPath, path), u64(tagLength, 100001))
		if x.output.Len() != 100001 {
			t.Errorf("%d bytes of %s", x.output.Len(), path)
		}
	}
}

func TestPipes(t *testing.T) {
	pipe := t.TempDir() + "/p"
	must(t, syscall.Mkfifo(pipe, 0600))
	// Nobody at the other end.
	expect(t, "ENXIO", newExchange([]byte("x")), "write", text(tagPath, pipe))
	x := newExchange(nil)
	time.AfterFunc(20*time.Millisecond, x.cancel)
	expect(t, "ECANCELED", x, "read", text(tagPath, pipe))
	expect(t, "ESPIPE", nil, "read", text(tagPath, pipe), u64(tagOffset, 1))
	// A writer that comes later, and goes.
	go func() {
		time.Sleep(20 * time.Millisecond)
		w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
		if err == nil {
			_, _ = w.WriteString("through the pipe")
			time.Sleep(20 * time.Millisecond)
			_, _ = w.WriteString("!")
			w.Close()
		}
	}()
	x = newExchange(nil)
	expect(t, "", x, "read", text(tagPath, pipe))
	if x.output.String() != "through the pipe!" {
		t.Errorf("%q", x.output.String())
	}
	// A reader that reads nothing, then one that does.
	r, err := os.OpenFile(pipe, os.O_RDWR, 0)
	must(t, err)
	defer r.Close()
	x = newExchange(make([]byte, 1<<20))
	time.AfterFunc(20*time.Millisecond, x.cancel)
	expect(t, "ECANCELED", x, "write", text(tagPath, pipe))
	go func() { _, _ = io.Copy(io.Discard, r) }()
	reply := expect(t, "", newExchange(make([]byte, 1<<20)), "write", text(tagPath, pipe))
	if number(reply[tagWritten]) != 1<<20 {
		t.Error(number(reply[tagWritten]))
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/f"
	big := bytes.Repeat([]byte("abc"), 200000)
	steps := []struct {
		code, input, want string
		list              []field
	}{
		{"ENOENT", "x", "", []field{u32(tagFlags, flagMustExist)}},
		{"", string(big), string(big), []field{u32(tagMode, 0602)}},
		{"EEXIST", "x", string(big), []field{u32(tagFlags, flagMustNotExist)}},
		{"", "hello", "hello", []field{u32(tagFlags, flagMustExist), u32(tagMode, 0777)}},
		{"", " you", "hello you", []field{u32(tagFlags, flagAppend)}},
		{"", "J", "Jello you", []field{u32(tagFlags, flagKeepContent)}},
		{"", "y", "Jelly you", []field{u32(tagFlags, flagKeepContent|flagMustExist), u64(tagOffset, 4)}},
		{"", "x", "\x00\x00x", []field{u64(tagOffset, 2)}},
		{"EINVAL", "x", "", []field{u64(tagOffset, 1<<63)}},
		{"", "", "", nil},
	}
	for i, step := range steps {
		reply := expect(t, step.code, newExchange([]byte(step.input)), "write", append(step.list, text(tagPath, path))...)
		if step.code == "" && number(reply[tagWritten]) != uint64(len(step.input)) {
			t.Errorf("step %d: %d bytes written", i, number(reply[tagWritten]))
		}
		if got, _ := os.ReadFile(path); string(got) != step.want {
			t.Errorf("step %d: %d bytes, want %d", i, len(got), len(step.want))
		}
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0600 {
		t.Errorf("mode %v", info.Mode())
	}
	expect(t, "EISDIR", newExchange(nil), "write", text(tagPath, dir))
	expect(t, "ENOENT", newExchange(nil), "write", text(tagPath, dir+"/a/b"))
	expect(t, "", newExchange([]byte("x")), "write", text(tagPath, "/dev/null"))
	expect(t, "ENOSPC", newExchange([]byte("x")), "write", text(tagPath, "/dev/full"))
	x := newExchange(big)
	x.limit = 100000
	expect(t, "ECANCELED", x, "write", text(tagPath, path))
}

// TestNothingStaysOpen runs what ends early, in every way, and counts descriptors.
func countDescriptors(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(list)
}
