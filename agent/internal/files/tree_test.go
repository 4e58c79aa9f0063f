package files

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func sendTree(t testing.TB, path string) []byte {
	t.Helper()
	x := newExchange(nil)
	expect(t, "", x, "send", text(tagPath, path))
	return x.output.Bytes()
}

// receiveTree also makes sure that no descriptor stays open.
func receiveTree(t testing.TB, code, path string, data []byte) {
	t.Helper()
	before := countDescriptors(t)
	expect(t, code, newExchange(data), "receive", text(tagPath, path))
	if after := countDescriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func age(t testing.TB, path string, nanoseconds int64) {
	t.Helper()
	must(t, utimensat(atCwd, path, omit, syscall.NsecToTimespec(nanoseconds), atSymlinkNofoll))
}

// makeSample makes a tree with all that is to be kept.
func makeSample(t testing.TB, root string) {
	t.Helper()
	put(t, root+"/empty", "")
	put(t, root+"/a/small", "content")
	put(t, root+"/a/b/c/large", strings.Repeat("0123456789abcdef", 100001))
	put(t, root+"/a/"+strings.Repeat("n", 255), "x")
	put(t, root+"/a/new\nline", "x")
	put(t, root+"/a/\xff\xfe invalid", "x")
	put(t, root+"/...", "x")
	must(t, os.MkdirAll(root+"/void/inner", 0755))
	for path, target := range map[string]string{"up": "a/small", "a/b/l1": "../../void", "a/b/l2": "../small",
		"a/b/c/self": ".", "dangling": "nowhere/\xff\n", "a/dot": "./b"} {
		must(t, os.Symlink(target, root+"/"+path))
	}
	sparse, err := os.Create(root + "/a/sparse")
	must(t, err)
	defer sparse.Close()
	for _, at := range []int64{1 << 20, 3<<20 + 5, 30 << 20} {
		_, err = sparse.WriteAt([]byte("data"), at)
		must(t, err)
	}
	must(t, sparse.Truncate(40<<20))
	must(t, os.WriteFile(root+"/hole", nil, 0644))
	must(t, os.Truncate(root+"/hole", 5<<20))
	little, err := os.Create(root + "/little")
	must(t, err)
	_, err = little.WriteAt([]byte("end"), 9000)
	must(t, err)
	must(t, little.Close())
	for path, mode := range map[string]uint32{"empty": 0, "a/small": 0777, "a/b": 0711, "a/b/c": 0, "void": 0777,
		".": 0750, "hole": 0222} {
		must(t, syscall.Chmod(root+"/"+path, mode))
	}
	n := int64(0)
	must(t, filepath.Walk(root, func(path string, _ os.FileInfo, err error) error {
		n++
		return err
	}))
	// From the inside out, so that no time is changed by what comes later.
	_ = filepath.Walk(root, func(path string, _ os.FileInfo, _ error) error {
		n--
		age(t, path, 1600000000123456789-n*1000000007*3600)
		return nil
	})
}

// describe is what two equal trees have in common.
func describe(t testing.TB, root string) string {
	t.Helper()
	lines := ""
	must(t, filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		s := info.Sys().(*syscall.Stat_t)
		lines += fmt.Sprintf("%q %o %d", path[len(root):], s.Mode, s.Mtim.Nano())
		switch s.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			content, err := os.ReadFile(path)
			must(t, err)
			lines += fmt.Sprintf(" %d %d %x", s.Size, s.Blocks, bytes.TrimRight(bytes.ReplaceAll(content, make([]byte, 4096), nil), "\x00"))
		case syscall.S_IFLNK:
			target, err := os.Readlink(path)
			must(t, err)
			lines += fmt.Sprintf(" -> %q", target)
		}
		lines += "\n"
		return nil
	}))
	return lines
}

func same(t testing.TB, got, want string) {
	t.Helper()
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range b {
		if i >= len(a) || a[i] != b[i] {
			first := "nothing"
			if i < len(a) {
				first = fmt.Sprintf("%.200s", a[i])
			}
			t.Fatalf("got  %s\nwant %.200s", first, b[i])
		}
	}
	if len(a) != len(b) {
		t.Fatalf("%d lines, want %d", len(a), len(b))
	}
}

func TestTreeRoundTrip(t *testing.T) {
	dir := t.TempDir()
	makeSample(t, dir+"/from")
	want := describe(t, dir+"/from")
	for _, mask := range []int{022, 077, 0} {
		old := syscall.Umask(mask)
		to := fmt.Sprintf("%s/made/%o/to", dir, mask)
		receiveTree(t, "", to, sendTree(t, dir+"/from"))
		syscall.Umask(old)
		same(t, describe(t, to), want)
		if info, _ := os.Stat(dir + "/made"); mask == 022 && info.Mode().Perm() != 0755 {
			t.Error(info.Mode())
		}
	}
	same(t, describe(t, dir+"/from"), want) // sending changes nothing
	names, _ := os.ReadDir(dir)
	if len(names) != 2 {
		t.Error(names)
	}
}

func TestTreeOfOneEntry(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/f", "x")
	must(t, os.Symlink("f", dir+"/l"))
	must(t, os.Mkdir(dir+"/d", 0700))
	for _, name := range []string{"f", "l", "d"} {
		age(t, dir+"/"+name, 987654321987654321)
		receiveTree(t, "", dir+"/to/"+name, sendTree(t, dir+"/"+name))
		same(t, describe(t, dir+"/to/"+name), describe(t, dir+"/"+name))
	}
	expect(t, "ENOENT", nil, "send", text(tagPath, dir+"/none"))
	expect(t, "ENOTDIR", nil, "send", text(tagPath, dir+"/f/x"))
}

// records takes a tree apart.
func records(t testing.TB, data []byte) (list []treeRecord) {
	t.Helper()
	reader := treeReader{source: bytes.NewReader(data), buffer: new([inputSize]byte)}
	for {
		var r treeRecord
		must(t, reader.next(&r))
		r.path, r.target = append([]byte(nil), r.path...), append([]byte(nil), r.target...)
		list = append(list, r)
		for left := r.length; left > 0; {
			piece, err := reader.content(left)
			must(t, err)
			left -= len(piece)
		}
		if r.kind == recordEnd {
			must(t, reader.finish(&r))
			return list
		}
	}
}

func TestWhatIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	must(t, syscall.Mkfifo(dir+"/pipe", 0644))
	must(t, syscall.Mknod(dir+"/device", syscall.S_IFCHR|0666, 1<<8|3))
	must(t, syscall.Mknod(dir+"/socket", syscall.S_IFSOCK|0666, 0))
	must(t, os.Mkdir(dir+"/d", 0755))
	for name, target := range map[string]string{"absolute": "/etc/passwd", "above": "..", "d/far": "../../x",
		"d/back": "x/../..", "d/dots": "a/../b"} {
		must(t, os.Symlink(target, dir+"/"+name))
	}
	must(t, os.Symlink("../x", dir+"/d/good"))
	left := map[string]bool{}
	for _, r := range records(t, sendTree(t, dir)) {
		switch {
		case r.kind == recordLeftOut:
			left[string(r.path)] = true
		case r.kind == recordLink && string(r.path) != "d/good":
			t.Errorf("link %q", r.path)
		}
	}
	if len(left) != 8 {
		t.Error(left)
	}
	receiveTree(t, "", dir+"/to", sendTree(t, dir))
	if now := look(t, dir+"/to"); strings.Count(now, "\n") != 2 {
		t.Error(now)
	}
	for _, name := range []string{"pipe", "absolute"} {
		list := records(t, sendTree(t, dir+"/"+name))
		if len(list) != 2 || list[0].kind != recordLeftOut || len(list[0].path) > 0 {
			t.Error(list)
		}
	}
}

func TestFilesThatDoNotKnowTheirSize(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"/proc/cpuinfo", "/proc/self/mountinfo", "/proc/kallsyms", "/sys/kernel/mm/transparent_hugepage/enabled"} {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Logf("%s: %v", path, err)
			continue
		}
		receiveTree(t, "", dir+"/to", sendTree(t, path))
		if got, _ := os.ReadFile(dir + "/to"); len(got) != len(want) || !bytes.Equal(got[:100%len(got)], want[:100%len(got)]) {
			t.Errorf("%s: %d bytes, want %d", path, len(got), len(want))
		}
	}
}

func TestFileThatChangesWhileItIsSent(t *testing.T) {
	dir := t.TempDir()
	const size = 1 << 20
	for name, to := range map[string]int64{"shrinks": 100000, "vanishes": 0, "grows": 2 * size} {
		path := dir + "/" + name
		put(t, path, strings.Repeat("x", size))
		x := newExchange(nil)
		x.first = func() { must(t, os.Truncate(path, to)) }
		fd, err := openat(atCwd, path, fileFlags, 0)
		must(t, err)
		var stat syscall.Stat_t
		must(t, syscall.Fstat(fd, &stat))
		s := &sender{x: x, out: make([]byte, 0, chunkSize)}
		must(t, s.large(fd, &stat))
		_ = syscall.Close(fd)
		_, err = x.Write(endRecord(int(s.records)))
		must(t, err)
		total := int64(0)
		for _, r := range records(t, x.output.Bytes()) {
			total += int64(r.length)
			if r.kind == recordFile && r.size != size {
				t.Errorf("%s: size %d", name, r.size)
			}
		}
		if want := map[string]int64{"shrinks": maxContent, "vanishes": maxContent, "grows": size}[name]; total != want {
			t.Errorf("%s: %d bytes, want %d", name, total, want)
		}
	}
}

func TestSmallRecordsShareFrames(t *testing.T) {
	dir := t.TempDir()
	for i := 0; i < 300; i++ {
		put(t, fmt.Sprintf("%s/d%d/f%d", dir, i%7, i), strings.Repeat("x", 4096))
	}
	x := newExchange(nil)
	expect(t, "", x, "send", text(tagPath, dir))
	if most := x.output.Len()/(chunkSize-2*4096) + 1; x.writes > most {
		t.Errorf("%d frames for %d bytes", x.writes, x.output.Len())
	}
}

func TestDeepTrees(t *testing.T) {
	dir := t.TempDir()
	// Three times as deep as directories are held open, and as long as a path may be.
	path := strings.Repeat("d/", 3*maxOpenDepth)
	path += strings.Repeat(strings.Repeat("e", 255)+"/", (maxPath-len(path))/256)
	path += strings.Repeat("f", maxPath-len(path))
	list := [][]byte{directoryRecord("")}
	depth := 0
	for at, c := range path {
		if c == '/' {
			list = append(list, directoryRecord(path[:at]))
			depth++
		}
	}
	list = append(list, fileRecord(path, 0))
	// Back up again, and into each directory once more.
	for at := len(path) - 1; at > 0; at-- {
		if path[at] == '/' {
			list = append(list, fileRecord(path[:at]+"/x", 0))
		}
	}
	receiveTree(t, "", dir+"/to", tree(list...))
	x := newExchange(nil)
	expect(t, "", x, "send", text(tagPath, dir+"/to"))
	directories := 0
	for _, r := range records(t, x.output.Bytes()) {
		if r.kind == recordDirectory {
			directories++
			if r.mtime != 1 {
				t.Fatalf("%d bytes of path have the time %d", len(r.path), r.mtime)
			}
		}
	}
	if directories != depth+1 {
		t.Errorf("%d directories, want %d", directories, depth+1)
	}
	receiveTree(t, "", dir+"/to", x.output.Bytes())
	expect(t, "", nil, "rm", text(tagPath, dir+"/to"), flag(tagRecursive))
}
