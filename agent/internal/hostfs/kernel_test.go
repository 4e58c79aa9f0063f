package hostfs

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"smolvm.dev/agent/internal/fuse"
)

// kernel speaks raw FUSE to a server, as a guest's kernel does, or as a guest that wants to get out.
type kernel struct {
	t      *testing.T
	to     *io.PipeWriter
	from   *io.PipeReader
	unique uint64
	ended  chan error
	memory *Budget
	// expired are nodes of which the kernel was told to ask anew.
	expired []uint64
}

const rootNode = fuse.RootID

// testBytes are enough for 1000 nodes with short names.
var testBytes = 1000 * costOf("sub")

// serve serves a directory; what is outside of it lies beside it.
func serve(t testing.TB, dir string, writable bool) *kernel {
	t.Helper()
	memory := NewBudget(int(testBytes))
	root, err := OpenRoot(dir, writable, memory, NewBudget(20))
	if err != nil {
		t.Fatal(err)
	}
	requests, to := io.Pipe()
	from, answers := io.Pipe()
	k := &kernel{to: to, from: from, ended: make(chan error, 1), memory: memory}
	k.t, _ = t.(*testing.T)
	go func() {
		err := (&fuse.Server{FS: root, ReadOnly: !writable}).Serve(requests, answers)
		root.Close()
		_ = answers.Close()
		_ = requests.Close()
		k.ended <- err
	}()
	t.Cleanup(func() {
		_ = to.Close()
		_ = from.Close()
		<-k.ended
	})
	return k
}

// start also greets.
func start(t *testing.T, dir string, writable bool) *kernel {
	t.Helper()
	k := serve(t, dir, writable)
	if errno, p := k.ask(26, 0, u32s(7, 39, 131072, 0xffffffff)); errno != 0 || len(p) != 64 || le32(p) != 7 {
		t.Fatalf("INIT: %v, %d bytes", errno, len(p))
	}
	return k
}

// send writes a request of any shape.
func (k *kernel) send(op uint32, node uint64, body []byte) uint64 {
	k.unique += 2
	p := u32s(uint32(fuse.RequestHeaderSize+len(body)), op)
	p = append(p, u64s(k.unique, node)...)
	p = append(append(p, u32s(0, 0, 0, 0)...), body...)
	_, _ = k.to.Write(p)
	return k.unique
}

func (k *kernel) ask(op uint32, node uint64, body []byte) (syscall.Errno, []byte) {
	k.t.Helper()
	unique := k.send(op, node, body)
	var head [fuse.AnswerHeaderSize]byte
	var p []byte
	for {
		if _, err := io.ReadFull(k.from, head[:]); err != nil {
			k.t.Fatalf("operation %d: %v", op, err)
		}
		p = make([]byte, le32(head[:])-fuse.AnswerHeaderSize)
		if _, err := io.ReadFull(k.from, p); err != nil {
			k.t.Fatal(err)
		}
		if le64(head[8:]) != 0 {
			break
		}
		k.expired = append(k.expired, le64(p))
	}
	if got := binary.LittleEndian.Uint64(head[8:]); got != unique {
		k.t.Fatalf("answer to %d, want %d", got, unique)
	}
	return syscall.Errno(-int32(le32(head[4:]))), p
}

// must gives what a request is answered with, which must not fail.
func (k *kernel) must(op uint32, node uint64, body []byte) []byte {
	k.t.Helper()
	errno, p := k.ask(op, node, body)
	if errno != 0 {
		k.t.Fatalf("operation %d: %v", op, errno)
	}
	return p
}

// refused is the opposite: it must fail with one of these.
func (k *kernel) refused(op uint32, node uint64, body []byte, allowed ...syscall.Errno) {
	k.t.Helper()
	errno, p := k.ask(op, node, body)
	for _, one := range allowed {
		if errno == one {
			return
		}
	}
	k.t.Errorf("operation %d: %d (%v) with %d bytes, want %v", op, errno, errno, len(p), allowed)
}

func (k *kernel) lookup(parent uint64, names ...string) uint64 {
	k.t.Helper()
	for _, name := range names {
		parent = le64(k.must(1, parent, text(name)))
	}
	return parent
}

func (k *kernel) open(node uint64, flags int) uint64 {
	k.t.Helper()
	return le64(k.must(14, node, u32s(uint32(flags), 0)))
}

func (k *kernel) read(handle uint64, n uint32) string {
	k.t.Helper()
	return string(k.must(15, 0, readIn(handle, 0, n)))
}

// contents opens and reads.
func (k *kernel) contents(node uint64) string {
	k.t.Helper()
	handle := k.open(node, syscall.O_RDONLY)
	defer k.must(18, node, append(u64s(handle), make([]byte, 16)...))
	return k.read(handle, 4096)
}

func (k *kernel) names(node uint64, op uint32) (found []string) {
	k.t.Helper()
	handle := le64(k.must(27, node, u32s(0, 0)))
	for offset := uint64(0); ; {
		p := k.must(op, node, readIn(handle, offset, 4096))
		if len(p) == 0 {
			k.must(29, node, append(u64s(handle), make([]byte, 16)...))
			return found
		}
		for len(p) > 0 {
			if op == 44 {
				p = p[128:]
			}
			offset = le64(p[8:])
			n := int(le32(p[16:]))
			found = append(found, string(p[24:24+n]))
			p = p[(24+n+7)&^7:]
		}
	}
}

func u32s(values ...uint32) (p []byte) {
	for _, v := range values {
		p = append(p, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
	}
	return p
}

func u64s(values ...uint64) (p []byte) {
	for _, v := range values {
		p = append(p, u32s(uint32(v), uint32(v>>32))...)
	}
	return p
}

func text(names ...string) (p []byte) {
	for _, name := range names {
		p = append(append(p, name...), 0)
	}
	return p
}

func le32(p []byte) uint32 { return binary.LittleEndian.Uint32(p) }
func le64(p []byte) uint64 { return binary.LittleEndian.Uint64(p) }

func readIn(handle, offset uint64, n uint32) []byte {
	return append(append(u64s(handle, offset), u32s(n, 0)...), make([]byte, 16)...)
}

func writeIn(handle, offset uint64, data string) []byte {
	p := append(u64s(handle, offset), u32s(uint32(len(data)), 0)...)
	return append(append(p, make([]byte, 16)...), data...)
}

func mkdirIn(mode uint32, name string) []byte { return append(u32s(mode, 0), text(name)...) }
func mknodIn(mode uint32, name string) []byte { return append(u32s(mode, 0, 0, 0), text(name)...) }
func linkIn(old uint64, name string) []byte   { return append(u64s(old), text(name)...) }
func renameIn(to uint64, a, b string) []byte  { return append(u64s(to), text(a, b)...) }
func createIn(flags, mode uint32, name string) []byte {
	return append(u32s(flags, mode, 0, 0), text(name)...)
}

// setattrIn sets what valid says: mode, uid, gid and size.
func setattrIn(valid, mode, uid, gid uint32, size uint64) []byte {
	p := u32s(valid, 0)
	p = append(p, u64s(0, size, 0, 0, 0, 0)...)
	p = append(p, u32s(0, 0, 0, mode, 0, uid, gid, 0)...)
	return p
}

// share makes a directory with things in it, and something outside that must never be seen or changed.
func share(t testing.TB) (dir, outside string) {
	t.Helper()
	place, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir, outside = filepath.Join(place, "share"), filepath.Join(place, "outside")
	for _, path := range []string{dir, outside, dir + "/sub", dir + "/sub/deep"} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, content := range map[string]string{dir + "/file": "inside", dir + "/sub/deep/file": "deep",
		outside + "/secret": "secret"} {
		put(t, path, content)
	}
	for _, link := range [][2]string{{"../outside", dir + "/out"}, {outside + "/secret", dir + "/absolute"},
		{"file", dir + "/near"}} {
		if err := os.Symlink(link[0], link[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(dir+"/pipe", 0o666); err != nil {
		t.Fatal(err)
	}
	return dir, outside
}

func put(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, path string) string {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}
