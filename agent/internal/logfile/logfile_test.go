package logfile

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestBoundedAndInOrder(t *testing.T) {
	dir := t.TempDir()
	f := New(dir, "console", 1000)
	var all []byte
	for i := 0; i < 300; i++ {
		line := bytes.Repeat([]byte{byte('a' + i%26)}, 1+i*7%333)
		all = append(all, line...)
		f.Append(line)
	}
	f.Close()
	older, err1 := os.ReadFile(filepath.Join(dir, "console.log.1"))
	newer, err2 := os.ReadFile(filepath.Join(dir, "console.log"))
	if err1 != nil || err2 != nil || len(older) > 500 || len(newer) > 500 {
		t.Fatal(len(older), len(newer), err1, err2)
	}
	if kept := append(older, newer...); !bytes.HasSuffix(all, kept) {
		t.Error("what is kept is not the end of what was written")
	}
	info, _ := os.Stat(filepath.Join(dir, "console.log"))
	if info.Mode().Perm() != 0o600 {
		t.Error(info.Mode())
	}
}

func TestContinuesAndRefusesLinks(t *testing.T) {
	dir := t.TempDir()
	New(dir, "a", 1000).Append([]byte("one "))
	New(dir, "a", 1000).Append([]byte("two"))
	if got, _ := os.ReadFile(filepath.Join(dir, "a.log")); string(got) != "one two" {
		t.Errorf("%q", got)
	}
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(dir, "b.log")); err != nil {
		t.Fatal(err)
	}
	New(dir, "b", 1000).Append([]byte("x"))
	if got, _ := os.ReadFile(victim); len(got) != 0 {
		t.Error("wrote through a link")
	}
}

func TestMissingDirectoryDrops(t *testing.T) {
	New("/no/such", "a", 1000).Append([]byte("dropped"))
}
