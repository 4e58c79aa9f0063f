package hostfs

import (
	"math"
	"syscall"
	"testing"

	"smolvm.dev/agent/internal/fuse"
)

func TestMessagesOfNoKernelEndTheConnection(t *testing.T) {
	header := func(length uint32, op uint32) []byte {
		return append(append(u32s(length, op), u64s(2, 1)...), make([]byte, 16)...)
	}
	for name, message := range map[string][]byte{
		"too short": header(39, 1), "too long": header(fuse.MaxMessage+1, 1), "huge": header(math.MaxUint32, 16),
		"empty":            header(0, 26),
		"before INIT":      append(header(42, 1), "a\x00"...),
		"INIT too short":   header(44, 26)[:40],
		"INIT of minor 5":  append(header(56, 26), u32s(7, 5, 0, 0)...),
		"INIT of major 6":  append(header(56, 26), u32s(6, 40, 0, 0)...),
		"FORGET too short": header(40, 2),
		"a lying batch":    append(header(48, 42), u32s(math.MaxUint32, 0)...),
	} {
		dir, _ := share(t)
		k := serve(t, dir, true)
		go func() {
			_, _ = k.to.Write(message)
			_, _ = k.to.Write(make([]byte, 100))
		}()
		go func() { // answers are of no interest
			for p := make([]byte, 100); ; {
				if _, err := k.from.Read(p); err != nil {
					return
				}
			}
		}()
		if err := <-k.ended; err != fuse.ErrProtocol {
			t.Errorf("%s: %v", name, err)
		}
		k.ended <- nil
	}
}

func TestAnotherMajorIsAskedFor(t *testing.T) {
	dir, _ := share(t)
	k := serve(t, dir, true)
	if errno, p := k.ask(26, 0, u32s(8, 0, 0, 0)); errno != 0 || le32(p) != 7 {
		t.Errorf("%v %x", errno, p)
	}
	if errno, p := k.ask(26, 0, u32s(7, 31, 0, 0)); errno != 0 || len(p) != 64 || le32(p[12:]) != 0 {
		t.Errorf("%v %x", errno, p)
	}
}

func TestNumbersThatWereNeverGiven(t *testing.T) {
	dir, _ := share(t)
	k := start(t, dir, true)
	file := k.lookup(rootNode, "file")
	handle := k.open(file, syscall.O_RDWR)
	list := le64(k.must(27, rootNode, u32s(0, 0)))
	for _, node := range []uint64{0, 999, math.MaxUint64} {
		k.refused(1, node, text("file"), syscall.ESTALE)
		k.refused(3, node, make([]byte, 16), syscall.ESTALE)
		k.refused(14, node, u32s(0, 0), syscall.ESTALE)
		k.refused(12, rootNode, renameIn(node, "file", "x"), syscall.ESTALE)
		k.refused(13, rootNode, linkIn(node, "x"), syscall.ESTALE)
	}
	for _, wrong := range []uint64{0, 999, math.MaxUint64, list} {
		k.refused(15, file, readIn(wrong, 0, 10), syscall.EBADF)
		k.refused(16, file, writeIn(wrong, 0, "x"), syscall.EBADF)
		k.ask(18, file, append(u64s(wrong), make([]byte, 16)...))
	}
	k.refused(28, rootNode, readIn(handle, 0, 100), syscall.EBADF)
	k.refused(28, rootNode, readIn(list, math.MaxUint64, 4096), syscall.EINVAL)
	k.must(29, rootNode, append(u64s(handle), make([]byte, 16)...)) // is no directory: nothing happens
	if got := k.read(handle, 100); got != "inside" {
		t.Errorf("%q", got)
	}
	// Arguments at their limits.
	k.refused(15, file, readIn(handle, math.MaxUint64, 10), syscall.EINVAL)
	k.refused(16, file, writeIn(handle, math.MaxInt64, "x"), syscall.EINVAL, syscall.EFBIG)
	k.refused(46, file, append(u64s(handle, 0), u32s(0, 0)...), syscall.EINVAL)
	k.refused(43, file, append(u64s(handle, 0, 10), u32s(0x40, 0)...), syscall.EOPNOTSUPP)
	k.refused(4, file, setattrIn(8, 0, 0, 0, math.MaxUint64), syscall.EFBIG)
	if n := len(k.must(15, file, readIn(handle, 0, math.MaxUint32))); n != len("inside") {
		t.Errorf("%d bytes", n)
	}
	lying := writeIn(handle, 0, "xx")
	copy(lying[16:], u32s(100))
	k.refused(16, file, lying, syscall.EINVAL)
	// Every operation without its arguments.
	for op := uint32(0); op < 70; op++ {
		if op == 2 || op == 26 || op == 42 || op == 38 || op == 5 || op == 17 {
			continue
		}
		if errno, _ := k.ask(op, file, nil); errno == 0 && op != 27 {
			t.Errorf("operation %d works without arguments", op)
		}
	}
}

func TestBudgets(t *testing.T) {
	dir, _ := share(t)
	k := start(t, dir, true) // 1000 nodes, 20 handles
	file := k.lookup(rootNode, "file")
	var handles []uint64
	for {
		errno, p := k.ask(14, file, u32s(syscall.O_RDONLY, 0))
		if errno != 0 {
			if errno != syscall.ENFILE || len(handles) != 20 {
				t.Errorf("%v after %d", errno, len(handles))
			}
			break
		}
		handles = append(handles, le64(p))
	}
	for _, handle := range handles {
		k.must(18, file, append(u64s(handle), make([]byte, 16)...))
		k.must(18, file, append(u64s(handle), make([]byte, 16)...)) // again: gives nothing back twice
	}
	k.open(file, syscall.O_RDONLY)

	made, sub := 0, k.lookup(rootNode, "sub")
	name := func(i int) string {
		return string(rune('a'+i/26/26)) + string(rune('a'+i/26%26)) + string(rune('a'+i%26))
	}
	var nodes []uint64
	for ; made < 2000; made++ {
		errno, p := k.ask(9, sub, mkdirIn(0o755, name(made)))
		if errno != 0 {
			if errno != syscall.ENOMEM {
				t.Errorf("%v", errno)
			}
			break
		}
		nodes = append(nodes, le64(p))
	}
	if made != 997 { // file and sub are nodes too, and one has a longer name
		t.Errorf("%d nodes", made)
	}
	// What is forgotten more often than it was given counts once.
	for _, node := range nodes {
		k.send(2, node, u64s(math.MaxUint64))
		k.send(2, node, u64s(1))
	}
	k.send(2, rootNode, u64s(math.MaxUint64))
	again := 0
	for ; again < 2000; again++ {
		if errno, _ := k.ask(1, sub, text(name(again%made))); errno != 0 {
			t.Fatal(errno)
		}
	}
}

// A guest that forgets what it still uses harms only itself.
func TestForgettingWhatIsInUse(t *testing.T) {
	dir, _ := share(t)
	k := start(t, dir, true)
	sub := k.lookup(rootNode, "sub")
	deep := k.lookup(sub, "deep")
	file := k.lookup(deep, "file")
	handle := k.open(file, syscall.O_RDONLY)
	k.send(2, sub, u64s(9))
	k.send(2, deep, u64s(9))
	k.send(2, file, u64s(9))
	if got := k.read(handle, 10); got != "deep" {
		t.Errorf("%q", got)
	}
	k.must(18, file, append(u64s(handle), make([]byte, 16)...))
	k.must(18, file, append(u64s(handle), make([]byte, 16)...))
	// Forgotten before it was opened, too.
	file = k.lookup(rootNode, "file")
	k.send(2, file, u64s(1))
	k.refused(3, file, make([]byte, 16), syscall.ESTALE)
	if left := k.memory.left; left != testBytes {
		t.Errorf("%d of %d bytes are left, although all was forgotten", left, testBytes)
	}
	if got := k.contents(k.lookup(rootNode, "sub", "deep", "file")); got != "deep" {
		t.Errorf("%q", got)
	}
	k.must(12, k.lookup(rootNode, "sub"), renameIn(rootNode, "deep", "top"))
	if got := k.contents(k.lookup(rootNode, "top", "file")); got != "deep" {
		t.Errorf("%q", got)
	}
}

// A node can be forgotten between the moment in which an OPEN has found it and that in which it gets its handle.
func TestForgettingWhatIsBeingOpened(t *testing.T) {
	memory, open := NewBudget(10_000), NewBudget(10)
	tree, files := newTree(memory, 1, 1), newHandles(open)
	root := tree.byID[rootNode]
	meet := func() *node {
		n, err := tree.meet(root, "file", &syscall.Stat_t{Mode: syscall.S_IFREG, Ino: 5, Dev: 1}, false)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	old := meet()
	tree.forget(old.id, 1)
	again := meet()
	fd, err := syscall.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	handle, err := files.add(tree, &handle{node: old, fd: fd})
	if err != nil {
		t.Fatal(err)
	}
	files.release(tree, handle, false)
	if memory.left != 10_000-costOf("file") || root.below != 1 || open.left != 10 {
		t.Errorf("%d bytes and %d handles are left, %d below the root", memory.left, open.left, root.below)
	}
	if tree.byName[place{root, "file"}] != again {
		t.Error("the name was lost")
	}
}

// FuzzRequests sends whatever comes; nothing outside may change, and nothing may break.
func FuzzRequests(f *testing.F) {
	f.Add([]byte{}, []byte{})
	for name, change := range changes() {
		_ = name
		f.Add(u32s(change.op), change.body)
	}
	f.Add(u32s(1), text("../outside"))
	f.Add(u32s(14), u32s(math.MaxUint32, 0))
	f.Add(u32s(44), readIn(1, 0, math.MaxUint32))
	f.Add(u32s(42), u32s(3, 0))
	f.Fuzz(func(t *testing.T, op, body []byte) {
		dir, outside := share(t)
		k := start(t, dir, true)
		k.lookup(rootNode, "file")
		go func() {
			for p := make([]byte, 4096); ; {
				if _, err := k.from.Read(p); err != nil {
					return
				}
			}
		}()
		if len(body) > 4096 {
			body = body[:4096]
		}
		for i := 0; i+4 <= len(op) && i < 64; i += 4 {
			for node := uint64(0); node < 4; node++ {
				k.send(le32(op[i:])%64, node, body)
			}
		}
		_ = k.to.Close()
		<-k.ended
		k.ended <- nil
		unharmed(t, outside)
	})
}
