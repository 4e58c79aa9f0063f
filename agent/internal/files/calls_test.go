package files

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestPathsAreChecked(t *testing.T) {
	for path, code := range map[string]string{
		"": "EINVAL", "relative": "EINVAL", "/a\x00b": "EINVAL", "/" + strings.Repeat("a/", 2048): "ENAMETOOLONG",
		"/" + strings.Repeat("a", 300): "ENAMETOOLONG", "/" + strings.Repeat("a/", 2047): "ENOENT",
	} {
		expect(t, code, nil, "stat", text(tagPath, path))
		expect(t, code, nil, "read", text(tagPath, path))
		if code == "EINVAL" {
			expect(t, code, nil, "rename", text(tagPath, "/tmp"), text(tagSecond, path))
		}
	}
	expect(t, "EINVAL", nil, "stat")
}

func TestRequestsThatDoNotParse(t *testing.T) {
	for _, bad := range []field{text(tagMode, "abc"), u8(tagNoFollow, 2), text(tagOffset, ""), u8(tagMtime, 1)} {
		if _, err := Operations()["fs.stat"](fields(bad)); err == nil {
			t.Errorf("tag %d is taken", bad.tag)
		}
		if _, err := Exchanges()["fs.read"](fields(bad)); err == nil {
			t.Errorf("tag %d is taken", bad.tag)
		}
	}
}

func TestStat(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "f"), filepath.Join(dir, "l")
	put(t, file, "hello")
	must(t, os.Chmod(file, 0640|os.ModeSetuid))
	must(t, os.Symlink("f", link))
	must(t, utimensat(atCwd, file, syscall.NsecToTimespec(-5), syscall.NsecToTimespec(1234567890123456789), 0))
	var s syscall.Stat_t
	must(t, syscall.Stat(file, &s))
	for tag, want := range map[uint8]uint64{tagStatMode: syscall.S_IFREG | 04640, tagSize: 5,
		tagMtime: 1234567890123456789, tagAtime: ^uint64(0) - 4, tagCtime: uint64(s.Ctim.Nano()), tagUid: 0, tagGid: 0,
		tagInode: s.Ino, tagLinks: 1, tagDevice: s.Dev, tagBlocks: 8, tagBlockSize: 4096, tagRdev: 0} {
		if got := number(expect(t, "", nil, "stat", text(tagPath, link))[tag]); got != want {
			t.Errorf("tag %d is %d, want %d", tag, got, want)
		}
	}
	mode := number(expect(t, "", nil, "stat", text(tagPath, link), flag(tagNoFollow))[tagStatMode])
	if mode&syscall.S_IFMT != syscall.S_IFLNK {
		t.Errorf("mode %o", mode)
	}
	expect(t, "ENOENT", nil, "stat", text(tagPath, dir+"/none"))
	expect(t, "ENOTDIR", nil, "stat", text(tagPath, file+"/x"))
}

func TestMkdir(t *testing.T) {
	dir := t.TempDir()
	expect(t, "", nil, "mkdir", text(tagPath, dir+"/a"), u32(tagMode, 0777))
	if info, _ := os.Stat(dir + "/a"); info.Mode().Perm() != 0755 {
		t.Error(info.Mode())
	}
	expect(t, "EEXIST", nil, "mkdir", text(tagPath, dir+"/a"))
	expect(t, "ENOENT", nil, "mkdir", text(tagPath, dir+"/b/c"))
	reply := expect(t, "", nil, "mkdir", text(tagPath, dir+"/a/b/c//d/"), flag(tagRecursive), u32(tagMode, 0700))
	if string(reply[tagFound]) != dir+"/a/b" {
		t.Errorf("%q", reply[tagFound])
	}
	if info, _ := os.Stat(dir + "/a/b/c"); info.Mode().Perm() != 0700 {
		t.Error(info.Mode())
	}
	if reply := expect(t, "", nil, "mkdir", text(tagPath, dir+"/a/b"), flag(tagRecursive)); reply[tagFound] != nil {
		t.Errorf("%q", reply[tagFound])
	}
	put(t, dir+"/file", "")
	must(t, os.Symlink("nowhere", dir+"/dangling"))
	must(t, os.Symlink("a", dir+"/link"))
	expect(t, "EEXIST", nil, "mkdir", text(tagPath, dir+"/file"), flag(tagRecursive))
	expect(t, "ENOTDIR", nil, "mkdir", text(tagPath, dir+"/file/x"), flag(tagRecursive))
	expect(t, "ENOENT", nil, "mkdir", text(tagPath, dir+"/dangling/x"), flag(tagRecursive))
	expect(t, "", nil, "mkdir", text(tagPath, dir+"/link/x/y"), flag(tagRecursive))
	expect(t, "", nil, "mkdir", text(tagPath, "/"), flag(tagRecursive))
	if _, err := os.Stat(dir + "/a/x/y"); err != nil {
		t.Error(err)
	}
}

func TestNamesAndLinks(t *testing.T) {
	dir := t.TempDir()
	odd := dir + "/new\nline \xff\xfe"
	put(t, dir+"/f", "x")
	expect(t, "", nil, "rename", text(tagPath, dir+"/f"), text(tagSecond, odd))
	expect(t, "ENOENT", nil, "rename", text(tagPath, dir+"/f"), text(tagSecond, odd))
	must(t, os.MkdirAll(dir+"/d/e", 0755))
	must(t, os.Mkdir(dir+"/d2", 0755))
	expect(t, "ENOTEMPTY", nil, "rename", text(tagPath, dir+"/d2"), text(tagSecond, dir+"/d"))
	expect(t, "EINVAL", nil, "rename", text(tagPath, dir+"/d"), text(tagSecond, dir+"/d/e/f"))
	expect(t, "EXDEV", nil, "rename", text(tagPath, odd), text(tagSecond, "/dev/shm/smolvm-files-test"))
	expect(t, "", nil, "symlink", text(tagPath, "../\xff target"), text(tagSecond, dir+"/l"))
	expect(t, "EEXIST", nil, "symlink", text(tagPath, "x"), text(tagSecond, dir+"/l"))
	expect(t, "ENOENT", nil, "symlink", text(tagPath, ""), text(tagSecond, dir+"/m"))
	expect(t, "EINVAL", nil, "symlink", text(tagPath, "a\x00b"), text(tagSecond, dir+"/m"))
	expect(t, "EINVAL", nil, "symlink", text(tagPath, "a"), text(tagSecond, "m"))
	if got := expect(t, "", nil, "readlink", text(tagPath, dir+"/l"))[tagFound]; string(got) != "../\xff target" {
		t.Errorf("%q", got)
	}
	expect(t, "EINVAL", nil, "readlink", text(tagPath, odd))
	longest := "/" + strings.Repeat("x/", 2046) + "yy"
	expect(t, "", nil, "symlink", text(tagPath, longest), text(tagSecond, dir+"/long"))
	if got := expect(t, "", nil, "readlink", text(tagPath, dir+"/long"))[tagFound]; string(got) != longest {
		t.Errorf("%d bytes", len(got))
	}
}

func TestAttributes(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/f"
	put(t, file, "x")
	expect(t, "", nil, "chmod", text(tagPath, file), u32(tagMode, 06751))
	expect(t, "EINVAL", nil, "chmod", text(tagPath, file))
	expect(t, "ENOENT", nil, "chmod", text(tagPath, dir+"/g"), u32(tagMode, 0))
	var s syscall.Stat_t
	must(t, syscall.Stat(file, &s))
	if s.Mode&modeBits != 06751 {
		t.Errorf("%o", s.Mode)
	}
	before := -1500000001
	expect(t, "", nil, "utimes", text(tagPath, file), u64(tagAtime, 1999999999123456789), u64(tagMtime, uint64(before)))
	must(t, syscall.Stat(file, &s))
	if s.Atim.Nano() != 1999999999123456789 || s.Mtim.Nano() != int64(before) {
		t.Error(s.Atim.Nano(), s.Mtim.Nano())
	}
	expect(t, "", nil, "utimes", text(tagPath, file), u64(tagMtime, 7))
	must(t, syscall.Stat(file, &s))
	if s.Atim.Nano() != 1999999999123456789 || s.Mtim.Nano() != 7 {
		t.Error(s.Atim.Nano(), s.Mtim.Nano())
	}
	expect(t, "ENOENT", nil, "utimes", text(tagPath, dir+"/g"), u64(tagMtime, 7))
	expect(t, "", nil, "access", text(tagPath, file), u32(tagWanted, 4))
	must(t, os.Chmod(file, 0600))
	expect(t, "EACCES", nil, "access", text(tagPath, file), u32(tagWanted, 1))
	expect(t, "EINVAL", nil, "access", text(tagPath, file), u32(tagWanted, 99))
	expect(t, "ENOENT", nil, "access", text(tagPath, dir+"/g"))
}

func TestReaddir(t *testing.T) {
	dir := t.TempDir()
	want := map[string]uint8{}
	for i := 0; i < 3000; i++ {
		name := strings.Repeat("n", 1+i%200) + "\n\xff" + string(rune('0'+i%10)) + string(rune('0'+i/10%10)) +
			string(rune('0'+i/100%10)) + string(rune('0'+i/1000))
		put(t, dir+"/"+name, "")
		want[name] = typeFile
	}
	must(t, os.Mkdir(dir+"/..d", 0755))
	must(t, os.Symlink("x", dir+"/l"))
	must(t, syscall.Mkfifo(dir+"/p", 0644))
	put(t, dir+"/"+strings.Repeat("z", 255), "")
	want["..d"], want["l"], want["p"], want[strings.Repeat("z", 255)] = typeDirectory, typeLink, 1, typeFile
	x := newExchange(nil)
	expect(t, "", x, "readdir", text(tagPath, dir))
	for data := x.output.Bytes(); len(data) > 0; {
		n := int(data[1])<<8 + int(data[2])
		name := string(data[3 : 3+n])
		if kind, there := want[name]; !there || kind != data[0] {
			t.Errorf("%q has type %d, want %d", name, data[0], kind)
		}
		delete(want, name)
		data = data[3+n:]
	}
	if len(want) > 0 {
		t.Errorf("%d names are missing", len(want))
	}
	if x.writes > x.output.Len()/(chunkSize-longestEntry)+1 {
		t.Errorf("%d frames for %d bytes", x.writes, x.output.Len())
	}
	expect(t, "ENOTDIR", nil, "readdir", text(tagPath, dir+"/p"))
	expect(t, "ENOENT", nil, "readdir", text(tagPath, dir+"/l"))
	x = newExchange(nil)
	x.cancel()
	expect(t, "ECANCELED", x, "readdir", text(tagPath, dir))
	x = newExchange(nil)
	expect(t, "", x, "readdir", text(tagPath, dir+"/..d"))
	if x.writes > 0 {
		t.Error("an empty frame")
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/keep/f", "x")
	put(t, dir+"/d/e/f", "x")
	must(t, os.Symlink("../keep", dir+"/d/link"))
	must(t, os.Symlink("keep", dir+"/link"))
	must(t, syscall.Mkfifo(dir+"/d/e/p", 0644))
	expect(t, "ENOENT", nil, "rm", text(tagPath, dir+"/none"))
	expect(t, "", nil, "rm", text(tagPath, dir+"/none"), flag(tagForce))
	expect(t, "ENOENT", nil, "rm", text(tagPath, dir+"/none"), flag(tagRecursive))
	expect(t, "EISDIR", nil, "rm", text(tagPath, dir+"/d"))
	expect(t, "EISDIR", nil, "rm", text(tagPath, dir+"/d"), flag(tagForce))
	expect(t, "ENOTDIR", nil, "rm", text(tagPath, dir+"/keep/f/x"))
	expect(t, "EINVAL", nil, "rm", text(tagPath, dir+"/d/.."), flag(tagRecursive))
	expect(t, "EBUSY", nil, "rm", text(tagPath, "//"), flag(tagRecursive))
	x := newExchange(nil)
	x.cancel()
	expect(t, "ECANCELED", x, "rm", text(tagPath, dir+"/d"), flag(tagRecursive))
	expect(t, "", nil, "rm", text(tagPath, dir+"/d/"), flag(tagRecursive))
	expect(t, "", nil, "rm", text(tagPath, dir+"/link"), flag(tagRecursive))
	expect(t, "", nil, "rm", text(tagPath, dir+"/keep/f"))
	if left := look(t, dir); strings.Count(left, "\n") != 1 {
		t.Error(left)
	}
}

func TestRemoveWhatIsDeeperThanAnyPath(t *testing.T) {
	dir := t.TempDir()
	fd, err := openat(atCwd, dir, directoryFlags, 0)
	must(t, err)
	name := strings.Repeat("d", 100)
	const depth = 300
	for i := 0; i < depth; i++ {
		must(t, syscall.Mkdirat(fd, name, 0755))
		next, err := openat(fd, name, directoryFlags, 0)
		must(t, err)
		for _, file := range []string{"a", "z"} {
			made, err := openat(next, file, syscall.O_CREAT|syscall.O_WRONLY, 0644)
			must(t, err)
			_ = syscall.Close(made)
		}
		_ = syscall.Close(fd)
		fd = next
	}
	_ = syscall.Close(fd)
	x := newExchange(nil)
	expect(t, "ENAMETOOLONG", x, "send", text(tagPath, dir))
	expect(t, "", nil, "rm", text(tagPath, dir+"/"+name), flag(tagRecursive))
	if left := look(t, dir); strings.Contains(left, "\n") {
		t.Error(left)
	}
}
