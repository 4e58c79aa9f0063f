package ramcopy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

const (
	childVariable    = "RAMCOPY_TEST_CHILD"
	strangerVariable = "RAMCOPY_TEST_STRANGER"
	nobody           = 65534
	testPages        = 3*chunkPages + 17
	testSize         = testPages * pageSize
)

// TestMain makes this program also the process that is copied: it maps a file privately, or nothing, changes pages as
// it is told on stdin, and says where they are.
func TestMain(m *testing.M) {
	if base, ok := os.LookupEnv(childVariable); ok {
		child(base)
		return
	}
	if pid, ok := os.LookupEnv(strangerVariable); ok {
		stranger(pid)
		return
	}
	os.Exit(m.Run())
}

func child(base string) {
	fd, flags := -1, syscall.MAP_PRIVATE|syscall.MAP_ANON
	if base != "" {
		file, err := os.OpenFile(base, os.O_RDWR, 0)
		if err != nil {
			panic(err)
		}
		fd, flags = int(file.Fd()), syscall.MAP_PRIVATE
	}
	memory, err := syscall.Mmap(fd, 0, testSize, syscall.PROT_READ|syscall.PROT_WRITE, flags)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%#x\n", uintptr(unsafe.Pointer(&memory[0])))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var page, value int
		if _, err := fmt.Sscan(lines.Text(), &page, &value); err != nil {
			panic(err)
		}
		part := memory[page*pageSize : (page+1)*pageSize]
		for i := range part {
			part[i] = byte(value)
		}
		fmt.Println("done")
	}
}

type victim struct {
	t       *testing.T
	pid     int
	stdin   io.Writer
	lines   *bufio.Scanner
	address uint64
	// expected is what its memory holds.
	expected []byte
}

// startVictim starts a process whose memory is the base, or empty.
func startVictim(t *testing.T, base string) *victim {
	t.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), childVariable+"="+base)
	stdin, _ := command.StdinPipe()
	stdout, _ := command.StdoutPipe()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	v := &victim{t: t, pid: command.Process.Pid, stdin: stdin, lines: bufio.NewScanner(stdout), expected: make([]byte, testSize)}
	if base != "" {
		v.expected, _ = os.ReadFile(base)
	}
	v.lines.Scan()
	v.address, _ = strconv.ParseUint(v.lines.Text(), 0, 64)
	return v
}

// fill sets all bytes of pages.
func (v *victim) fill(first, count, value int) {
	for page := first; page < first+count; page++ {
		fmt.Fprintln(v.stdin, page, value)
		v.lines.Scan()
		for i := page * pageSize; i < (page+1)*pageSize; i++ {
			v.expected[i] = byte(value)
		}
	}
}

func (v *victim) options(target, base *os.File) Options {
	return Options{
		Pid: v.pid, StartTime: startTime(v.t, v.pid), Address: v.address, Size: testSize,
		Target: target, Base: base, BufferLimit: DefaultBufferLimit(),
	}
}

func startTime(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))[startTimeField]
}

// makeBase has data in pages 10 to 199, in the whole second chunk, and in the last page.
func makeBase(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "base with space")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, r := range []run{{10, 190}, {chunkPages, chunkPages}, {testPages - 1, 1}} {
		data := make([]byte, r.count*pageSize)
		for i := range data {
			data[i] = byte(i/pageSize*7 + 1)
		}
		if _, err := file.WriteAt(data, r.first*pageSize); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Truncate(testSize); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func newTarget(t *testing.T) *os.File {
	t.Helper()
	file, err := os.OpenFile(filepath.Join(t.TempDir(), "target"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func content(t *testing.T, file *os.File) []byte {
	t.Helper()
	data, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func expectSame(t *testing.T, got, want []byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d bytes, not %d", len(got), len(want))
	}
	for page := 0; page < len(want)/pageSize; page++ {
		if a, b := got[page*pageSize], want[page*pageSize]; !bytes.Equal(got[page*pageSize:(page+1)*pageSize], want[page*pageSize:(page+1)*pageSize]) {
			t.Fatalf("page %d differs: begins with %d, not %d", page, a, b)
		}
	}
}

// copyAll changes memory before the preparation, and in `between` after it.
func copyAll(t *testing.T, o Options, between func()) *Copier {
	t.Helper()
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{c.Prepare, func() error { between(); return nil }, c.Copy, c.Write} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func changeBefore(v *victim) {
	v.fill(0, 1, 5)             // A hole becomes data.
	v.fill(20, shortestGap, 99) // Data becomes other data, in a long run,
	v.fill(150, 3, 98)          // and in a short one.
	v.fill(170, 2, 0)           // Data becomes zeros.
}

func changeAfter(v *victim) {
	v.fill(21, 2, 77)
	v.fill(180, 5, 0)             // Zeros where the base was copied already.
	v.fill(chunkPages-1, 2, 42)   // Across chunks.
	v.fill(2*chunkPages+30, 4, 0) // Zeros in a hole.
	v.fill(testPages-1, 1, 43)    // The last page.
	v.fill(3*chunkPages, testPages%7, 1)
}

func TestCopyOfABase(t *testing.T) {
	base := makeBase(t)
	before, _ := os.ReadFile(base)
	for name, limit := range map[string]int64{"buffered": DefaultBufferLimit(), "small buffer": 20 * pageSize, "no buffer": 0} {
		t.Run(name, func(t *testing.T) {
			v := startVictim(t, base)
			changeBefore(v)
			target := newTarget(t)
			o := v.options(target, open(t, base))
			o.BufferLimit = limit
			c := copyAll(t, o, func() { changeAfter(v) })
			expectSame(t, content(t, target), v.expected)
			// Only what has changed was taken from the process.
			if pages := c.Copied() / pageSize; pages != 1+shortestGap+3+2+5+2+4+1+testPages%7 {
				t.Errorf("copied %d pages", pages)
			}
		})
	}
	if after, _ := os.ReadFile(base); !bytes.Equal(before, after) {
		t.Error("the base was changed")
	}
}

func TestCopyOfMemoryThatBeganEmpty(t *testing.T) {
	v := startVictim(t, "")
	changeBefore(v)
	target := newTarget(t)
	copyAll(t, v.options(target, nil), func() { changeAfter(v) })
	expectSame(t, content(t, target), v.expected)
	info, _ := target.Stat()
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > testSize/2 {
		t.Errorf("%d bytes are used: zeros are not holes", used)
	}
}

func TestWhatIsTakenDoesNotChangeAfterwards(t *testing.T) {
	v := startVictim(t, "")
	v.fill(3, 1, 9)
	expected := append([]byte(nil), v.expected...)
	target := newTarget(t)
	c, err := Open(v.options(target, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{c.Prepare, c.Copy, func() error { v.fill(3, 9, 10); return nil }, c.Write} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	expectSame(t, content(t, target), expected)
}

func TestCopyWithoutTheKernelsHelp(t *testing.T) {
	base := makeBase(t)
	v := startVictim(t, base)
	target := newTarget(t)
	c, err := Open(v.options(target, open(t, base)))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.copyPlainly(5*pageSize, testSize); err != nil {
		t.Fatal(err)
	}
	expectSame(t, content(t, target), v.expected)
}

func TestAnotherProcessIsRefused(t *testing.T) {
	base := makeBase(t)
	other := makeBase(t)
	v := startVictim(t, base)
	empty := startVictim(t, "")
	shorter := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(shorter, make([]byte, pageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"start time":   func(o *Options) { o.StartTime += "0" },
		"pid":          func(o *Options) { o.Pid = os.Getpid() },
		"no process":   func(o *Options) { o.Pid = 1 << 30 },
		"address":      func(o *Options) { o.Address += pageSize },
		"nowhere":      func(o *Options) { o.Address = pageSize },
		"size":         func(o *Options) { o.Size -= pageSize },
		"base missing": func(o *Options) { o.Base = nil },
		"other base":   func(o *Options) { o.Base = open(t, other) },
		"short base":   func(o *Options) { o.Base = open(t, shorter) },
		"no base": func(o *Options) {
			o.Pid, o.StartTime, o.Address = empty.pid, startTime(t, empty.pid), empty.address
		},
	} {
		o := v.options(newTarget(t), open(t, base))
		change(&o)
		if _, err := Open(o); !errors.Is(err, ErrSource) {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := v.options(newTarget(t), open(t, base))
	o.Address++
	if _, err := Open(o); err == nil {
		t.Error("half a page passes")
	}
}

func TestAProcessThatEndsMeanwhile(t *testing.T) {
	v := startVictim(t, "")
	v.fill(0, 1, 1)
	c, err := Open(v.options(newTarget(t), nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Prepare(); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(v.pid, syscall.SIGKILL)
	for startsWith(v.pid) {
	}
	if err := c.Copy(); !errors.Is(err, ErrSource) {
		t.Errorf("copied a dead process: %v", err)
	}
}

// startsWith is true while the process still has memory.
func startsWith(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	return err == nil && len(text) > 0
}

func TestAFileThatCannotBeWritten(t *testing.T) {
	v := startVictim(t, "")
	target := newTarget(t)
	readOnly := open(t, target.Name())
	c, err := Open(v.options(readOnly, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Prepare(); !errors.Is(err, ErrStorage) {
		t.Errorf("wrote to a file that is only read: %v", err)
	}
}

// stranger tries to look into a process of another user.
func stranger(pid string) {
	number, _ := strconv.Atoi(pid)
	_, err := openPagemap(number)
	fmt.Println(errors.Is(err, ErrForbidden))
	err = readRuns(number, pageSize, []run{{0, 1}}, make([]byte, pageSize))
	fmt.Println(errors.Is(err, ErrForbidden))
}

func TestAnotherUsersProcessIsForbidden(t *testing.T) {
	command := exec.Command("/proc/self/exe")
	command.Dir = "/"
	victim := 1
	if os.Getuid() == 0 {
		victim = os.Getpid()
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	command.Env = []string{fmt.Sprintf("%s=%d", strangerVariable, victim)}
	output, err := command.CombinedOutput()
	if err != nil || string(output) != "true\ntrue\n" {
		t.Errorf("%q %v", output, err)
	}
}
