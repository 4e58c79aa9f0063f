package hostfs

import (
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// changes are requests that would alter something, each with a root node's names.
func changes() map[string]struct {
	op   uint32
	body []byte
} {
	return map[string]struct {
		op   uint32
		body []byte
	}{
		"SETATTR": {4, setattrIn(1, 0o700, 0, 0, 0)}, "SYMLINK": {6, text("made", "x")}, "MKNOD": {8, mknodIn(0o100644, "made")},
		"MKDIR": {9, mkdirIn(0o755, "made")}, "UNLINK": {10, text("file")}, "RMDIR": {11, text("sub")},
		"RENAME": {12, renameIn(rootNode, "file", "made")}, "LINK": {13, linkIn(2, "made")},
		"WRITE": {16, writeIn(1, 0, "x")}, "CREATE": {35, createIn(syscall.O_RDWR, 0o644, "made")},
		"FALLOCATE": {43, append(u64s(1, 0, 10), u32s(0, 0)...)},
		"RENAME2":   {45, append(append(u64s(rootNode), u32s(0, 0)...), text("file", "made")...)},
		"SETXATTR":  {21, append(u32s(1, 0), text("user.a", "x")...)}, "REMOVEXATTR": {24, text("user.a")},
		"COPY_FILE_RANGE": {47, make([]byte, 56)}, "TMPFILE": {51, createIn(syscall.O_RDWR, 0o644, "made")},
	}
}

func TestReadOnlyRefusesEveryChange(t *testing.T) {
	dir, _ := share(t)
	k := start(t, dir, false)
	file := k.lookup(rootNode, "file") // node 2
	handle := k.open(file, syscall.O_RDONLY)
	if file != 2 || handle != 1 {
		t.Fatalf("node %d, handle %d", file, handle)
	}
	before := treeOf(t, dir)
	for name, change := range changes() {
		if errno, _ := k.ask(change.op, rootNode, change.body); errno != syscall.EROFS {
			t.Errorf("%s: %v", name, errno)
		}
	}
	for _, flags := range []int{syscall.O_WRONLY, syscall.O_RDWR, syscall.O_RDONLY | syscall.O_TRUNC} {
		k.refused(14, file, u32s(uint32(flags), 0), syscall.EROFS)
	}
	if after := treeOf(t, dir); after != before {
		t.Errorf("the directory changed:\n%s\n%s", before, after)
	}
}

func treeOf(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("find", dir, "-printf", "%p %m %s %T@ %n\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestNamesThatLeadElsewhere(t *testing.T) {
	dir, outside := share(t)
	k := start(t, dir, true)
	file := k.lookup(rootNode, "file")
	long := strings.Repeat("n", 256)
	for _, name := range []string{"", ".", "..", "../outside", "sub/../file", "/", "/etc/passwd", "sub/deep", long} {
		for what, body := range map[uint32][]byte{1: text(name), 6: text(name, "x"), 8: mknodIn(0o100644, name),
			9: mkdirIn(0o755, name), 10: text(name), 11: text(name), 13: linkIn(file, name),
			35: createIn(syscall.O_RDWR, 0o644, name)} {
			k.refused(what, rootNode, body, syscall.EINVAL, syscall.ENAMETOOLONG)
		}
		k.refused(12, rootNode, renameIn(rootNode, name, "x"), syscall.EINVAL, syscall.ENAMETOOLONG)
		k.refused(12, rootNode, renameIn(rootNode, "file", name), syscall.EINVAL, syscall.ENAMETOOLONG)
	}
	k.refused(1, rootNode, []byte("no end"), syscall.EINVAL)
	unharmed(t, outside)
}

func unharmed(t *testing.T, outside string) {
	t.Helper()
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 || get(t, outside+"/secret") != "secret" {
		t.Errorf("outside has changed: %v %v", entries, err)
	}
}

func TestLinksAreNotFollowed(t *testing.T) {
	dir, outside := share(t)
	k := start(t, dir, true)
	out, absolute := k.lookup(rootNode, "out"), k.lookup(rootNode, "absolute")
	k.refused(1, out, text("secret"), syscall.ENOTDIR)
	k.refused(27, out, u32s(0, 0), syscall.ENOTDIR, syscall.ELOOP, syscall.EACCES)
	k.refused(35, out, createIn(syscall.O_RDWR, 0o644, "made"), syscall.ENOTDIR)
	k.refused(9, out, mkdirIn(0o755, "made"), syscall.ENOTDIR)
	for _, flags := range []int{syscall.O_RDONLY, syscall.O_WRONLY, syscall.O_RDWR | syscall.O_TRUNC} {
		k.refused(14, absolute, u32s(uint32(flags), 0), syscall.EACCES, syscall.ELOOP)
	}
	k.refused(4, absolute, setattrIn(8, 0, 0, 0, 0), syscall.EACCES)
	k.refused(4, absolute, setattrIn(1, 0o777, 0, 0, 0), syscall.EOPNOTSUPP)
	// A create without O_EXCL of a name that is a link.
	k.refused(35, rootNode, createIn(syscall.O_RDWR|syscall.O_TRUNC, 0o644, "absolute"), syscall.EACCES)
	// A second name for a link is a link, not what it leads to.
	k.must(13, rootNode, linkIn(absolute, "again"))
	if target, err := os.Readlink(dir + "/again"); err != nil || target != outside+"/secret" {
		t.Errorf("%q %v", target, err)
	}
	// The guest may write any text into a link; nothing of it is ever followed here.
	k.must(6, rootNode, text("mine", "../outside"))
	k.refused(1, k.lookup(rootNode, "mine"), text("secret"), syscall.ENOTDIR)
	k.must(12, rootNode, renameIn(rootNode, "mine", "sub2"))
	unharmed(t, outside)
}

func TestADirectoryBecomesALink(t *testing.T) {
	dir, outside := share(t)
	k := start(t, dir, true)
	sub := k.lookup(rootNode, "sub")
	put(t, dir+"/sub/secret", "own")
	secret := k.lookup(sub, "secret")
	if err := os.Rename(dir+"/sub", dir+"/was"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../outside", dir+"/sub"); err != nil {
		t.Fatal(err)
	}
	elsewhere := []syscall.Errno{syscall.ENOTDIR, syscall.ELOOP, syscall.ESTALE, syscall.ENOENT}
	k.refused(1, sub, text("secret"), elsewhere...)
	k.refused(14, secret, u32s(syscall.O_RDWR, 0), elsewhere...)
	k.refused(3, secret, make([]byte, 16), elsewhere...)
	k.refused(4, secret, setattrIn(8, 0, 0, 0, 0), elsewhere...)
	k.refused(10, sub, text("secret"), elsewhere...)
	k.refused(12, sub, renameIn(rootNode, "secret", "stolen"), elsewhere...)
	k.refused(13, rootNode, linkIn(secret, "stolen"), elsewhere...)
	k.refused(35, sub, createIn(syscall.O_RDWR, 0o644, "made"), elsewhere...)
	unharmed(t, outside)
}

// A host that moves things while the guest asks: whatever comes of it, it is never what lies outside.
func TestADirectoryBecomesALinkAtAnyMoment(t *testing.T) {
	dir, outside := share(t)
	put(t, dir+"/sub/secret", "own")
	if err := os.Symlink("../outside", dir+"/trap"); err != nil {
		t.Fatal(err)
	}
	k := start(t, dir, true)
	sub := k.lookup(rootNode, "sub")
	stop := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Add(1)
	go func() {
		defer swapping.Done()
		for {
			select {
			case <-stop:
				return
			default:
			}
			at, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
			if err == nil {
				_ = renameAt(at, "sub", at, "trap", renameExchange)
				_ = syscall.Close(at)
			}
		}
	}()
	opened := 0
	for i := 0; i < 50000 && opened < 300; i++ {
		errno, p := k.ask(1, sub, text("secret"))
		if errno != 0 {
			k.send(2, sub, u64s(1))
			sub = k.lookup(rootNode, "sub")
			continue
		}
		node := le64(p)
		if errno, p = k.ask(14, node, u32s(syscall.O_RDWR, 0)); errno == 0 {
			opened++
			handle := le64(p)
			if got := k.read(handle, 100); got == "secret" {
				t.Error("read what lies outside")
			}
			k.ask(16, node, writeIn(handle, 0, "own"))
			k.ask(18, node, append(u64s(handle), make([]byte, 16)...))
		}
		if errno, p = k.ask(35, sub, createIn(syscall.O_RDWR|syscall.O_EXCL, 0o644, "made")); errno == 0 {
			k.send(2, le64(p), u64s(1))
			k.must(18, 0, append(u64s(le64(p[128:])), make([]byte, 16)...))
		}
		k.ask(10, sub, text("made"))
		if errno, p = k.ask(13, sub, linkIn(node, "second")); errno == 0 {
			k.send(2, le64(p), u64s(1))
		}
		k.ask(10, sub, text("second"))
		k.send(2, node, u64s(1))
	}
	close(stop)
	swapping.Wait()
	if opened == 0 {
		t.Error("nothing could be opened at all")
	}
	unharmed(t, outside)
}

// A directory that the host takes out of the share while the guest uses it is not a way out.
func TestADirectoryIsMovedOut(t *testing.T) {
	dir, outside := share(t)
	k := start(t, dir, true)
	sub, deep := k.lookup(rootNode, "sub"), k.lookup(rootNode, "sub", "deep")
	handle := le64(k.must(27, deep, u32s(0, 0)))
	if err := os.Rename(dir+"/sub", outside+"/sub"); err != nil {
		t.Fatal(err)
	}
	k.must(44, deep, readIn(handle, 0, 4096)) // what it has open it may read
	k.refused(1, deep, text(".."), syscall.EINVAL)
	k.refused(1, sub, text("deep"), syscall.ENOENT)
	k.refused(1, deep, text("file"), syscall.ENOENT)
	k.refused(9, deep, mkdirIn(0o755, "made"), syscall.ENOENT)
	k.refused(12, rootNode, renameIn(deep, "file", "out"), syscall.ENOENT)
	k.refused(12, deep, renameIn(rootNode, "file", "out"), syscall.ENOENT)
	if err := os.RemoveAll(outside + "/sub"); err != nil {
		t.Fatal(err)
	}
	unharmed(t, outside)
}

func TestTheRootStaysTheSameDirectory(t *testing.T) {
	dir, outside := share(t)
	k := start(t, dir, true)
	if err := os.Rename(dir, dir+"-moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, dir); err != nil {
		t.Fatal(err)
	}
	if got := k.contents(k.lookup(rootNode, "file")); got != "inside" {
		t.Errorf("%q", got)
	}
	k.refused(1, rootNode, text("secret"), syscall.ENOENT)
	if _, err := OpenRoot(dir, true, NewBudget(1), NewBudget(1)); err != syscall.ELOOP {
		t.Errorf("a link as root: %v", err)
	}
	if _, err := OpenRoot(dir+"/sub", true, NewBudget(1), NewBudget(1)); err != syscall.ELOOP {
		t.Errorf("a link above the root: %v", err)
	}
	if _, err := OpenRoot("relative", true, NewBudget(1), NewBudget(1)); err != syscall.EINVAL {
		t.Errorf("a relative root: %v", err)
	}
}

func TestOnlyRegularFilesAreOpenedOrMade(t *testing.T) {
	dir, _ := share(t)
	k := start(t, dir, true)
	pipe := k.lookup(rootNode, "pipe")
	if mode := le32(k.must(3, pipe, make([]byte, 16))[16+60:]); mode&syscall.S_IFMT != syscall.S_IFIFO {
		t.Errorf("mode %o", mode)
	}
	for _, flags := range []int{syscall.O_RDONLY, syscall.O_WRONLY, syscall.O_RDWR} {
		k.refused(14, pipe, u32s(uint32(flags), 0), syscall.EACCES) // would wait for ever otherwise
	}
	k.refused(35, rootNode, createIn(syscall.O_RDWR, 0o644, "pipe"), syscall.EACCES)
	for _, kind := range []uint32{syscall.S_IFIFO, syscall.S_IFCHR, syscall.S_IFBLK, syscall.S_IFSOCK, syscall.S_IFDIR} {
		k.refused(8, rootNode, mknodIn(kind|0o666, "made"), syscall.EPERM)
	}
	k.refused(45, rootNode, append(append(u64s(rootNode), u32s(4, 0)...), text("file", "white")...), syscall.EINVAL)
	file := k.lookup(rootNode, "file")
	for _, mode := range []uint32{0o4755, 0o2755, 0o1755} {
		k.refused(4, file, setattrIn(1, mode, 0, 0, 0), syscall.EPERM)
		k.must(9, rootNode, mkdirIn(mode, "made"))
		if info, _ := os.Stat(dir + "/made"); info.Mode()&^os.ModeDir != 0o755 {
			t.Errorf("mode %o: %v", mode, info.Mode())
		}
		k.must(11, rootNode, text("made"))
	}
	k.refused(4, file, setattrIn(2, 0, 1000, 0, 0), syscall.EPERM)
	k.refused(4, file, setattrIn(4, 0, 0, 1000, 0), syscall.EPERM)
	k.must(4, file, setattrIn(2|4, 0, 0, 0, 0)) // to what it is
}

func TestOtherFileSystemsAreNotEntered(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount")
	}
	dir, outside := share(t)
	if err := syscall.Mount(outside, dir+"/sub", "", syscall.MS_BIND, ""); err != nil {
		t.Skip("cannot mount here: ", err)
	}
	defer syscall.Unmount(dir+"/sub", 2)
	k := start(t, dir, true)
	k.refused(1, rootNode, text("sub"), syscall.EXDEV)
	k.names(rootNode, 44) // may tell of it
	for node := uint64(2); node < 20; node++ {
		k.refused(1, node, text("secret"), syscall.ESTALE, syscall.ENOTDIR, syscall.EXDEV)
	}
}
