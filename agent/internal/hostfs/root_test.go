package hostfs

import (
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"
	"syscall"
	"testing"
)

func TestReadsWhatIsThere(t *testing.T) {
	dir, _ := share(t)
	k := start(t, dir, false)
	if got := k.contents(k.lookup(rootNode, "file")); got != "inside" {
		t.Errorf("file: %q", got)
	}
	if got := k.contents(k.lookup(rootNode, "sub", "deep", "file")); got != "deep" {
		t.Errorf("deep file: %q", got)
	}
	if got := string(k.must(5, k.lookup(rootNode, "out"), nil)); got != "../outside" {
		t.Errorf("text of a link: %q", got)
	}
	for _, op := range []uint32{28, 44} {
		names := k.names(rootNode, op)
		sort.Strings(names)
		want := []string{".", "..", "absolute", "file", "near", "out", "pipe", "sub"}
		if !reflect.DeepEqual(names, want) {
			t.Errorf("operation %d: %q", op, names)
		}
	}
	k.refused(1, rootNode, text("nothing"), syscall.ENOENT)
}

func TestLongDirectories(t *testing.T) {
	dir, _ := share(t)
	for i := 0; i < 500; i++ {
		put(t, fmt.Sprintf("%s/sub/%s%03d", dir, strings.Repeat("n", 200), i), "")
	}
	k := start(t, dir, false)
	for _, op := range []uint32{28, 44} {
		seen := map[string]bool{}
		for _, name := range k.names(k.lookup(rootNode, "sub"), op) {
			if seen[name] {
				t.Errorf("%s comes twice", name)
			}
			seen[name] = true
		}
		if len(seen) != 503 {
			t.Errorf("operation %d: %d names", op, len(seen))
		}
	}
}

func TestOwnerAndMode(t *testing.T) {
	dir, _ := share(t)
	if err := syscall.Chmod(dir+"/file", 0o6755); err != nil {
		t.Fatal(err)
	}
	k := start(t, dir, true)
	p := k.must(3, k.lookup(rootNode, "file"), make([]byte, 16))[16:]
	if mode := le32(p[60:]); mode != syscall.S_IFREG|0o755 {
		t.Errorf("mode %o", mode)
	}
	if uid, gid := le32(p[68:]), le32(p[72:]); uid != 0 || gid != 0 {
		t.Errorf("owner %d:%d", uid, gid)
	}
	// What others run with the owner's rights is not to be filled by a guest.
	k.refused(14, k.lookup(rootNode, "file"), u32s(syscall.O_WRONLY, 0), syscall.EPERM)
	k.refused(4, k.lookup(rootNode, "file"), setattrIn(8, 0, 0, 0, 0), syscall.EPERM)
	if os.Geteuid() == 0 {
		if err := os.Chown(dir+"/sub", 12345, 12345); err != nil {
			t.Fatal(err)
		}
		p = k.must(3, k.lookup(rootNode, "sub"), make([]byte, 16))[16:]
		if uid := le32(p[68:]); uid != nobody {
			t.Errorf("owner %d", uid)
		}
	}
}

func TestWrites(t *testing.T) {
	dir, _ := share(t)
	k := start(t, dir, true)
	p := k.must(35, rootNode, createIn(syscall.O_RDWR, 0o4640, "new"))
	node, handle := le64(p), le64(p[128:])
	if n := le32(k.must(16, node, writeIn(handle, 2, "data"))); n != 4 {
		t.Errorf("wrote %d", n)
	}
	k.must(20, node, u64s(handle, 0))
	if got := get(t, dir+"/new"); got != "\x00\x00data" {
		t.Errorf("%q", got)
	}
	if info, _ := os.Stat(dir + "/new"); info.Mode() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
	k.must(4, node, setattrIn(1|8, syscall.S_IFREG|0o600, 0, 0, 3))
	if info, _ := os.Stat(dir + "/new"); info.Mode() != 0o600 || info.Size() != 3 {
		t.Errorf("%v, %d bytes", info.Mode(), info.Size())
	}
	// An open file outlives its name.
	k.must(10, rootNode, text("new"))
	if got := k.read(handle, 10); got != "\x00\x00d" {
		t.Errorf("removed file: %q", got)
	}
	if p := k.must(3, node, make([]byte, 16)); le64(p[24:]) != 3 {
		t.Errorf("size of a removed file: %d", le64(p[24:]))
	}
	k.must(18, node, append(u64s(handle), make([]byte, 16)...))
	k.refused(3, node, make([]byte, 16), syscall.ESTALE)
	k.refused(15, node, readIn(handle, 0, 10), syscall.EBADF)
}

func TestNamesMoveWithTheirNodes(t *testing.T) {
	dir, _ := share(t)
	k := start(t, dir, true)
	sub, deep := k.lookup(rootNode, "sub"), k.lookup(rootNode, "sub", "deep")
	file := k.lookup(deep, "file")
	k.must(9, rootNode, mkdirIn(0o755, "other"))
	other := k.lookup(rootNode, "other")
	k.must(12, sub, renameIn(other, "deep", "moved"))
	if got := k.contents(file); got != "deep" {
		t.Errorf("%q", got)
	}
	put(t, dir+"/other/moved/late", "late")
	if got := k.contents(k.lookup(deep, "late")); got != "late" {
		t.Errorf("%q", got)
	}
	// EXCHANGE, then onto one another.
	k.must(45, rootNode, append(append(u64s(rootNode), u32s(2, 0)...), text("sub", "other")...))
	if got := k.contents(k.lookup(rootNode, "sub", "moved", "file")); got != "deep" {
		t.Errorf("%q", got)
	}
	if k.lookup(rootNode, "sub") != other {
		t.Error("an exchanged name leads to its old node")
	}
	k.must(11, rootNode, text("other"))
	k.refused(3, sub, make([]byte, 16), syscall.ESTALE)
	p := k.must(13, rootNode, linkIn(file, "second"))
	if valid := le64(p[24:]); valid != 0 || !reflect.DeepEqual(k.expired, []uint64{file}) {
		t.Errorf("a second name: valid for %d s, %v expired", valid, k.expired)
	}
	if got := get(t, dir+"/second"); got != "deep" {
		t.Errorf("%q", got)
	}
	k.refused(12, rootNode, renameIn(deep, "sub", "ring"), syscall.EINVAL)
}

func TestChangesOnTheHost(t *testing.T) {
	for _, writable := range []bool{false, true} {
		dir, _ := share(t)
		k := start(t, dir, writable)
		file := k.lookup(rootNode, "file")
		put(t, dir+"/next", "replaced")
		if err := os.Rename(dir+"/next", dir+"/file"); err != nil {
			t.Fatal(err)
		}
		if got := k.contents(file); got != "replaced" {
			t.Errorf("writable %v: %q", writable, got)
		}
		// Below an overlay a name must lead to the same node for ever; elsewhere another file is another node.
		if again := k.lookup(rootNode, "file"); (again == file) == writable {
			t.Errorf("writable %v: node %d became %d", writable, file, again)
		}
		if err := os.Remove(dir + "/file"); err != nil {
			t.Fatal(err)
		}
		k.refused(3, k.lookup(rootNode, "near"), nil, syscall.EINVAL)
		k.refused(3, file, make([]byte, 16), syscall.ENOENT, syscall.ESTALE)
		put(t, dir+"/file", "back")
		if got := k.contents(k.lookup(rootNode, "file")); got != "back" {
			t.Errorf("writable %v: %q", writable, got)
		}
	}
}
