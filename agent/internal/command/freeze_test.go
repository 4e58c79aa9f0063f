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

func freeze(f *Freezer, limit time.Duration) bool { return f.Finish(f.Begin(limit)) }

// soon waits for something that another goroutine does.
func soon(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("never: " + what)
	}
}

type caller chan struct{}

func (c caller) Gone() <-chan struct{} { return c }

func TestFreezeAndThaw(t *testing.T) {
	base, state := control(t)
	f := NewFreezer(&Groups{base: base})
	f.Thaw()
	if state() != "0" {
		t.Fatal("changed by a thaw before any freeze")
	}
	freeze(f, time.Minute)
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
	freeze(f, time.Millisecond)
	for end := time.Now().Add(10 * time.Second); state() != "0"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still frozen")
		}
	}
}

func TestASecondFreezeHasItsOwnLimit(t *testing.T) {
	base, state := control(t)
	f := NewFreezer(&Groups{base: base})
	freeze(f, time.Hour)
	freeze(f, time.Millisecond)
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
	freeze(f, time.Minute)
	if state() != "1" {
		t.Fatal("not frozen")
	}
}

func TestWithoutGroupsNothingHappens(t *testing.T) {
	f := NewFreezer(nil)
	freeze(f, time.Minute)
	f.Thaw()
}

func TestAStartWaitsForTheThaw(t *testing.T) {
	base, state := control(t)
	f := NewFreezer(&Groups{base: base})
	freeze(f, time.Minute)
	started := make(chan string)
	go func() {
		f.beginStart(nil)
		defer f.endStart()
		started <- state()
	}()
	select {
	case <-started:
		t.Fatal("started while everything stands still")
	case <-time.After(50 * time.Millisecond):
	}
	freeze(f, time.Minute) // only a new limit
	f.Thaw()
	if was := <-started; was != "0" {
		t.Fatal("started before the thaw")
	}
	freeze(f, time.Minute)
	f.Thaw()
}

func TestAFreezeWaitsForAStart(t *testing.T) {
	base, state := control(t)
	f := NewFreezer(&Groups{base: base})
	f.beginStart(nil)
	frozen := make(chan struct{})
	go func() {
		freeze(f, time.Minute)
		close(frozen)
	}()
	time.Sleep(50 * time.Millisecond)
	if state() != "0" {
		t.Fatal("frozen while a command is started")
	}
	f.endStart()
	<-frozen
	if state() != "1" {
		t.Fatal("not frozen")
	}
	f.Thaw()
}

func TestAStartThatHangsHoldsNobodyUp(t *testing.T) {
	for name, end := range map[string]func(f *Freezer){
		"until the thaw":  func(f *Freezer) { f.Thaw() },
		"until its limit": func(*Freezer) {},
	} {
		t.Run(name, func(t *testing.T) {
			base, state := control(t)
			f := NewFreezer(&Groups{base: base})
			f.beginStart(nil) // and never returns
			limit := time.Minute
			if name == "until its limit" {
				limit = 20 * time.Millisecond
			}
			still := f.Begin(limit)
			frozen := true
			done := make(chan struct{})
			go func() {
				frozen = f.Finish(still)
				close(done)
			}()
			time.Sleep(10 * time.Millisecond)
			end(f)
			soon(t, "the end of the freeze", done)
			if frozen || state() != "0" {
				t.Errorf("frozen: %v, state %s", frozen, state())
			}
			if !f.beginStart(nil) {
				t.Error("nothing starts any more")
			}
		})
	}
}

// A limit that has passed, but whose timer has not come to it yet, is none of a later freeze.
func TestAnEarlierLimitLeavesALaterFreezeAlone(t *testing.T) {
	base, state := control(t)
	f := NewFreezer(&Groups{base: base})
	f.Begin(time.Millisecond)
	f.mu.Lock()
	time.Sleep(50 * time.Millisecond) // its timer has fired by now, and waits for the lock
	f.thaw(false)
	still := f.begin(time.Minute)
	f.mu.Unlock()
	if !f.Finish(still) {
		t.Fatal("not frozen")
	}
	time.Sleep(20 * time.Millisecond)
	if state() != "1" {
		t.Error("thawed by the limit of an earlier freeze")
	}
	f.Thaw()
}

func TestAStartThatNobodyWantsAnyMoreComesToNothing(t *testing.T) {
	base, _ := control(t)
	f := NewFreezer(&Groups{base: base})
	freeze(f, time.Minute)
	gone := make(caller)
	started := true
	done := make(chan struct{})
	go func() {
		started = f.beginStart(gone)
		close(done)
	}()
	close(gone)
	soon(t, "the end of the wait, before any thaw", done)
	if started {
		t.Error("started")
	}
}

func TestInACopyNothingStartsThatWaitedInTheOriginal(t *testing.T) {
	base, state := control(t)
	f := NewFreezer(&Groups{base: base})
	freeze(f, time.Minute)
	ended := make(chan bool)
	go func() { ended <- f.beginStart(make(caller)) }()
	time.Sleep(50 * time.Millisecond)
	f.ThawCopy()
	if <-ended || state() != "0" {
		t.Error("started, or still frozen")
	}
	if !f.beginStart(nil) {
		t.Error("nothing starts any more")
	}
}
