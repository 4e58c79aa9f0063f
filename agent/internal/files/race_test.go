package files

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// Each test below is at the point where somebody has put a link in the place of what was a directory or file when it
// was looked at a moment ago.

// beside makes a directory with a link `d` to another one, `out`, and opens the first.
func beside(t *testing.T) (dir string, fd int) {
	t.Helper()
	dir = t.TempDir()
	put(t, dir+"/out/secret", "old")
	must(t, os.Mkdir(dir+"/in", 0755))
	must(t, os.Symlink("../out", dir+"/in/d"))
	fd, err := openat(atCwd, dir+"/in", directoryFlags, 0)
	must(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	return dir, fd
}

func TestRemovalDoesNotFollowALink(t *testing.T) {
	dir, fd := beside(t)
	must(t, (&removal{top: fd}).directory(fd, "d", 1))
	if now := look(t, dir); !strings.Contains(now, "/out/secret") || strings.Contains(now, "/in/d") {
		t.Error(now)
	}
}

func TestJoiningDoesNotFollowALink(t *testing.T) {
	dir, to := beside(t)
	put(t, dir+"/stage/d/secret", "new")
	from, err := openat(atCwd, dir+"/stage", directoryFlags, 0)
	must(t, err)
	defer syscall.Close(from)
	if err := joinBelow(from, to, "d", true, 1); err != syscall.ENOTDIR {
		t.Error(err)
	}
	if now := look(t, dir); !strings.Contains(now, " old") {
		t.Error(now)
	}
}

func TestStageDoesNotFollowALink(t *testing.T) {
	dir, fd := beside(t)
	s, err := newStage(fd)
	must(t, err)
	defer s.discard()
	must(t, os.Symlink("../../out", dir+"/in/"+s.name+"/d"))
	if _, err := s.makeFile("d/f", 0644); err != errTree {
		t.Error(err)
	}
	if _, err := s.makeFile("d", 0644); err != errTree {
		t.Error(err)
	}
	if info, _ := os.Lstat(dir + "/in/" + s.name); info.Mode().Perm() != privateMode {
		t.Error(info.Mode())
	}
}

func TestSenderDoesNotFollowALink(t *testing.T) {
	dir, fd := beside(t)
	must(t, os.Symlink("../out/secret", dir+"/in/f"))
	must(t, syscall.Mkfifo(dir+"/in/p", 0644))
	x := newExchange(nil)
	s := &sender{x: x, out: make([]byte, 0, chunkSize)}
	for _, step := range []struct {
		name string
		kind uint8
	}{{"d", typeDirectory}, {"f", typeFile}, {"p", typeFile}, {"p", typeDirectory}, {"p", typeLink}, {"gone", typeFile},
		{"gone", typeDirectory}, {"gone", typeLink}} {
		s.path = append(s.path[:0], step.name...)
		must(t, s.entry(fd, step.name, step.kind))
	}
	must(t, s.flush())
	_, err := x.Write(endRecord(int(s.records)))
	must(t, err)
	list := records(t, x.output.Bytes())
	for _, r := range list[:len(list)-1] {
		if r.kind != recordLeftOut {
			t.Errorf("%q has type %d", r.path, r.kind)
		}
	}
	if len(list) != 6 {
		t.Errorf("%d records", len(list))
	}
}
