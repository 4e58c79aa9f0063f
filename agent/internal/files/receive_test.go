package files

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// brokenTrees are trees that must be refused, by what is wrong with them.
func brokenTrees() map[string][]byte {
	root := directoryRecord("")
	whole := tree(root, fileRecord("f", 3), contentRecord(0, "abc"))
	long := strings.Repeat("n", 256)
	list := map[string][]byte{
		"nothing at all":          nil,
		"only an end":             tree(),
		"no root":                 tree(directoryRecord("a")),
		"a root that is left out": tree(leftOutRecord("")),
		"content as a root":       tree(contentRecord(0, "x")),
		"the root twice":          tree(root, root),
		"a root that is a file":   tree(fileRecord("", 0), fileRecord("x", 0)),
		"a link as a directory":   tree(root, linkRecord("l", "d"), directoryRecord("d"), fileRecord("l/x", 0)),
		"a link, then a file":     tree(root, linkRecord("l", "x"), fileRecord("l", 0)),
		"a file as a directory":   tree(root, fileRecord("f", 0), fileRecord("f/x", 0)),
		"no directory":            tree(root, fileRecord("d/x", 0), directoryRecord("d")),
		"a file twice":            tree(root, fileRecord("f", 0), fileRecord("f", 0)),
		"a directory twice":       tree(root, directoryRecord("d"), directoryRecord("d")),
		"a link twice":            tree(root, linkRecord("l", "x"), linkRecord("l", "x")),
		"left out, but there":     tree(root, fileRecord("f", 0), leftOutRecord("f")),
		"left out of nowhere":     tree(root, leftOutRecord("d/f")),
		"content beyond the size": tree(root, fileRecord("f", 3), contentRecord(0, "abcd")),
		"content far beyond":      tree(root, fileRecord("f", 3), contentRecord(1<<62, "a")),
		"content at 2^64":         tree(root, fileRecord("f", 3), contentRecord(everything, "a")),
		"overlapping content":     tree(root, fileRecord("f", 9), contentRecord(0, "abc"), contentRecord(2, "x")),
		"content backwards":       tree(root, fileRecord("f", 9), contentRecord(5, "abc"), contentRecord(0, "x")),
		"empty content":           tree(root, fileRecord("f", 9), contentRecord(0, "")),
		"too much content":        tree(root, fileRecord("f", 1<<20), contentRecord(0, strings.Repeat("x", maxContent+1))),
		"content of a directory":  tree(root, contentRecord(0, "x")),
		"content of a link":       tree(root, fileRecord("f", 9), linkRecord("l", "x"), contentRecord(0, "x")),
		"a size of 2^63":          tree(root, fileRecord("f", 1<<63)),
		"no end":                  whole[:len(whole)-18],
		"half an end":             whole[:len(whole)-1],
		"end in the content":      append(append([]byte(nil), root...), contentRecord(0, "abc")[:14]...),
		"something after the end": append(append([]byte(nil), whole...), 0),
		"a record after the end":  append(append([]byte(nil), whole...), fileRecord("g", 0)...),
		"a count too small":       append(append([]byte(nil), root...), endRecord(0)...),
		"a count too large":       append(append([]byte(nil), root...), endRecord(2)...),
		"type 0":                  tree(root, record(0, nil)),
		"a device":                tree(root, record(7, fields(text(treePath, "dev"), u32(treeMode, 0666), mtimeOf(0)))),
		"type 255":                tree(root, record(255, nil)),
		"a setuid file":           tree(root, record(recordFile, fields(text(treePath, "f"), u32(treeMode, 04755), mtimeOf(0), u64(treeSize, 0)))),
		"a file without a mode":   tree(root, record(recordFile, fields(text(treePath, "f"), mtimeOf(0), u64(treeSize, 0)))),
		"a file without a path":   tree(root, record(recordFile, fields(u32(treeMode, 0), mtimeOf(0), u64(treeSize, 0)))),
		"a mode of two bytes":     tree(root, record(recordDirectory, fields(text(treePath, "d"), text(treeMode, "ab"), mtimeOf(0)))),
		"fields that are cut":     tree(root, record(recordDirectory, fields(text(treePath, "d"))[:5])),
		"an endless record":       append(append([]byte(nil), root...), recordFile, 0xff, 0xff, 0xff, 0xff, 1, 2, 3),
	}
	for _, path := range []string{"../x", "/etc/x", "a/../x", ".", "..", "./x", "x/.", "x/", "/", "a//b", "a\x00b", long,
		long + "/x", "d/" + long, strings.Repeat("d/", 2047) + "ff"} {
		list[fmt.Sprintf("the path %.20q (%d)", path, len(path))] = tree(root, fileRecord(path, 0))
		list[fmt.Sprintf("the directory %.20q (%d)", path, len(path))] = tree(root, directoryRecord(path))
		list[fmt.Sprintf("the left out %.20q (%d)", path, len(path))] = tree(root, leftOutRecord(path))
	}
	for _, target := range []string{"", "/", "/etc/passwd", "..", "../x", "x/..", "./..", "x/../y", "a\x00", strings.Repeat("x", 4096)} {
		list[fmt.Sprintf("the target %.20q", target)] = tree(root, linkRecord("l", target))
		list[fmt.Sprintf("the root's target %.20q", target)] = tree(linkRecord("", target))
	}
	list["a target above the root"] = tree(root, directoryRecord("d"), linkRecord("d/l", "../../x"))
	return list
}

func TestBrokenTreesLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/there/f", "old")
	put(t, dir+"/secret", "old")
	before := look(t, dir)
	for name, data := range brokenTrees() {
		for _, to := range []string{"/new", "/new/a/b", "/there"} {
			t.Run(name, func(t *testing.T) {
				reply, code := perform(t, newExchange(data), "receive", text(tagPath, dir+to))
				// Some have a root that can't even come there.
				if code != "EBADMSG" && !(to == "/there" && code == "EISDIR") {
					t.Errorf("%q %v", code, reply)
				}
				if after := look(t, dir); withoutTime(after, "/there") != withoutTime(before, "/there") {
					t.Fatalf("before:\n%s\nafter:\n%s", before, after)
				}
			})
		}
	}
}

// withoutTime drops the line of a directory in which something came and went.
func withoutTime(look, path string) string {
	var lines []string
	for _, line := range strings.Split(look, "\n") {
		if !strings.HasPrefix(line, path+" ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

func TestGoodTrees(t *testing.T) {
	dir := t.TempDir()
	root := directoryRecord("")
	extra := record(recordFile, fields(text(treePath, "g"), u32(treeMode, 1), u32(treeMode, 0640), u64(treeSize, 5),
		field{200, make([]byte, 5000)}, mtimeOf(-1)))
	data := tree(root, directoryRecord("d"), fileRecord("f", 10), contentRecord(1, "abc"), contentRecord(4, "d"),
		leftOutRecord("d/pipe"), directoryRecord("d/e"), extra, contentRecord(4, "!"), linkRecord("d/e/l", "..//../f"),
		fileRecord("d/e/h", 0), fileRecord("late", 1<<40))
	x := newExchange(data)
	reply := expect(t, "", x, "receive", text(tagPath, dir+"/a/b"))
	if number(reply[tagEntries]) != 8 {
		t.Errorf("%d entries", number(reply[tagEntries]))
	}
	for name, want := range map[string]string{"f": "\x00abcd\x00\x00\x00\x00\x00", "g": "\x00\x00\x00\x00!", "d/e/h": ""} {
		if got, err := os.ReadFile(dir + "/a/b/" + name); err != nil || string(got) != want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	var s syscall.Stat_t
	must(t, syscall.Stat(dir+"/a/b/late", &s))
	if s.Size != 1<<40 || s.Blocks != 0 {
		t.Error(s.Size, s.Blocks)
	}
	must(t, syscall.Stat(dir+"/a/b/g", &s))
	if s.Mode != syscall.S_IFREG|0640 || s.Mtim.Nano() != -1 {
		t.Errorf("%o %d", s.Mode, s.Mtim.Nano())
	}
	for _, d := range []string{"", "/d", "/d/e"} {
		must(t, syscall.Stat(dir+"/a/b"+d, &s))
		if s.Mtim.Nano() != 1 {
			t.Errorf("%q has the time %d", d, s.Mtim.Nano())
		}
	}
}

func TestTreeIsJoined(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/to/both/old", "old")
	put(t, dir+"/to/both/deep/f", "old")
	put(t, dir+"/to/untouched", "old")
	must(t, os.Symlink("untouched", dir+"/to/link"))
	put(t, dir+"/to/file", "old")
	must(t, os.Chmod(dir+"/to/both", 0701))
	data := tree(directoryRecord(""), directoryRecord("both"), directoryRecord("both/deep"), fileRecord("both/deep/f", 3),
		contentRecord(0, "new"), fileRecord("both/deep/g", 0), fileRecord("link", 3), contentRecord(0, "new"),
		linkRecord("file", "both"), directoryRecord("fresh"), fileRecord("fresh/x", 0))
	must(t, os.Symlink("to", dir+"/by"))
	for i := 0; i < 2; i++ { // the second time all of it is there
		receiveTree(t, "", dir+"/by/", data)
		now := look(t, dir)
		for _, want := range []string{"/by L", "/to/both/old -rw-r--r-- ", "/to/both drwx-----x ", "/to/link -rw-r--r-- ",
			"/to/file L", "-> both", "/to/fresh/x -"} {
			if !strings.Contains(now, want) {
				t.Errorf("no %q in\n%s", want, now)
			}
		}
		if strings.Count(now, " new") != 2 || strings.Count(now, "\n") != 12 {
			t.Error(now)
		}
		var s syscall.Stat_t
		must(t, syscall.Stat(dir+"/to/fresh", &s))
		if i == 0 && s.Mtim.Nano() != 1 {
			t.Error(s.Mtim.Nano())
		}
	}
}

func TestConflictsChangeNothing(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/to/a", "old")
	put(t, dir+"/to/d/dir/x", "old")
	put(t, dir+"/to/d/file", "old")
	must(t, os.Symlink("d", dir+"/to/link"))
	must(t, syscall.Mkfifo(dir+"/to/pipe", 0644))
	must(t, os.Symlink("to", dir+"/by"))
	root, a := directoryRecord(""), fileRecord("a", 0)
	for _, c := range []struct {
		code, to string
		data     []byte
	}{
		{"EISDIR", "/to", tree(root, a, directoryRecord("d"), fileRecord("d/dir", 0))},
		{"ENOTDIR", "/to", tree(root, a, directoryRecord("d"), directoryRecord("d/file"))},
		{"ENOTDIR", "/to", tree(root, a, directoryRecord("link"), fileRecord("link/file", 0))},
		{"EEXIST", "/to", tree(root, a, fileRecord("pipe", 0))},
		{"EISDIR", "/to/d", tree(fileRecord("", 0))},
		{"ENOTDIR", "/to/a", tree(root)},
		{"ENOTDIR", "/to/a/b", tree(root)},
		{"ENOTDIR", "/to/a/b/c", tree(root)},
		{"EEXIST", "/to/pipe", tree(fileRecord("", 0))},
		{"ENOTDIR", "/to/pipe", tree(root, fileRecord("x", 0))},
		{"ENOENT", "/none/../x", tree(root)},
	} {
		before := look(t, dir)
		_, code := perform(t, newExchange(c.data), "receive", text(tagPath, dir+c.to))
		if code != c.code && !(c.to == "/to/pipe" && code == "EEXIST") {
			t.Errorf("%s gave %q, want %q", c.to, code, c.code)
		}
		if after := look(t, dir); withoutTime(withoutTime(after, "/to"), "/to/d") != withoutTime(withoutTime(before, "/to"), "/to/d") {
			t.Errorf("%s: before:\n%s\nafter:\n%s", c.to, before, after)
		}
	}
	// A link that leads nowhere is a link like others.
	must(t, os.Symlink("nowhere", dir+"/dangling"))
	receiveTree(t, "", dir+"/dangling", tree(fileRecord("", 1), contentRecord(0, "x")))
	receiveTree(t, "", dir+"/to/link", tree(linkRecord("", "elsewhere")))
	if now := look(t, dir); !strings.Contains(now, "/dangling -rw-r--r--") || !strings.Contains(now, "-> elsewhere") {
		t.Error(now)
	}
}

func TestCancelledTreeLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	makeSample(t, dir+"/from")
	put(t, dir+"/there/f", "old")
	data := sendTree(t, dir+"/from")
	before := look(t, dir)
	for limit := 1; limit < len(data); limit = limit*5 + 3 {
		for _, to := range []string{"/new/x", "/there"} {
			x := newExchange(data)
			x.limit = limit
			expect(t, "ECANCELED", x, "receive", text(tagPath, dir+to))
			if after := look(t, dir); withoutTime(after, "/there") != withoutTime(before, "/there") {
				t.Fatalf("after %d bytes:\n%s", limit, after)
			}
		}
		x := newExchange(nil)
		x.limit = limit
		expect(t, "ECANCELED", x, "send", text(tagPath, dir+"/from"))
	}
	// All came, then the client thought better of it.
	x := newExchange(data)
	x.limit = len(data)
	expect(t, "ECANCELED", x, "receive", text(tagPath, dir+"/new/x"))
	if after := look(t, dir); withoutTime(after, "/there") != withoutTime(before, "/there") {
		t.Fatal(after)
	}
}

// mountSmall mounts a file system of 1 MiB.
func mountSmall(t *testing.T, path string) {
	t.Helper()
	must(t, os.MkdirAll(path, 0755))
	if err := syscall.Mount("files-test", path, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("cannot mount a tmpfs: " + err.Error())
	}
	t.Cleanup(func() { _ = syscall.Unmount(path, syscall.MNT_DETACH) })
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	mountSmall(t, dir+"/small")
	big := strings.Repeat("x", 200000)
	data := tree(directoryRecord(""), fileRecord("a", 1<<20), contentRecord(0, big), contentRecord(200000, big),
		fileRecord("b", 1<<30), contentRecord(0, big), contentRecord(200000, big), contentRecord(400000, big),
		contentRecord(600000, big), contentRecord(800000, big))
	for _, to := range []string{"/small", "/small/x/y"} {
		receiveTree(t, "ENOSPC", dir+to, data)
		if left := look(t, dir+"/small"); strings.Contains(left, "\n") {
			t.Error(left)
		}
	}
	var s syscall.Statfs_t
	must(t, syscall.Statfs(dir+"/small", &s))
	if s.Bfree < s.Blocks-4 {
		t.Errorf("%d of %d blocks are free", s.Bfree, s.Blocks)
	}
}

func TestOtherFileSystems(t *testing.T) {
	dir := t.TempDir()
	mountSmall(t, dir+"/to/small")
	put(t, dir+"/to/f", "old")
	data := tree(directoryRecord(""), fileRecord("f", 0), directoryRecord("small"), fileRecord("small/x", 0))
	before := look(t, dir)
	receiveTree(t, "EXDEV", dir+"/to", data)
	if after := look(t, dir); withoutTime(after, "/to") != withoutTime(before, "/to") {
		t.Error(after)
	}
	receiveTree(t, "", dir+"/to/small", data) // a mount point itself is a good place
	if now := look(t, dir); !strings.Contains(now, "/to/small/small/x") {
		t.Error(now)
	}
}
