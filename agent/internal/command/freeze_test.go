package command

import (
	"os"
	"testing"
	"time"
)

// control makes a directory with the files of a cgroup that stands still at once.
func control(t *testing.T) (base string, state func() string) {
	base = t.TempDir()
	for name, text := range map[string]string{"cgroup.freeze": "0", "cgroup.events": "populated 1\nfrozen 1\n"} {
		if err := os.WriteFile(base+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return base, func() string {
		text, err := os.ReadFile(base + "/cgroup.freeze")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

func TestFreezeAndThaw(t *testing.T) {
	base, state := control(t)
	f := NewFreezer(&Groups{base: base})
	f.Thaw()
	if state() != "0" {
		t.Fatal("changed by a thaw before any freeze")
	}
	f.Freeze(time.Minute)
	if state() != "1" {
		t.Fatal("not frozen")
	}
	f.Thaw()
	f.Thaw()
	if state() != "0" {
		t.Fatal("not thawed")
	}
}

func TestFreezeEndsByItself(t *testing.T) {
	base, state := control(t)
	f := NewFreezer(&Groups{base: base})
	f.Freeze(time.Millisecond)
	for end := time.Now().Add(10 * time.Second); state() != "0"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still frozen")
		}
	}
}

func TestASecondFreezeHasItsOwnLimit(t *testing.T) {
	base, state := control(t)
	f := NewFreezer(&Groups{base: base})
	f.Freeze(time.Hour)
	f.Freeze(time.Millisecond)
	for end := time.Now().Add(10 * time.Second); state() != "0"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still frozen")
		}
	}
}

func TestProcessesThatDoNotStandStillAreNotWaitedForLong(t *testing.T) {
	base, state := control(t)
	if err := os.WriteFile(base+"/cgroup.events", []byte("frozen 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := NewFreezer(&Groups{base: base})
	f.Freeze(time.Minute)
	if state() != "1" {
		t.Fatal("not frozen")
	}
}

func TestWithoutGroupsNothingHappens(t *testing.T) {
	f := NewFreezer(nil)
	f.Freeze(time.Minute)
	f.Thaw()
}
