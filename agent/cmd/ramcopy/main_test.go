package main

import (
	"fmt"
	"testing"

	"smolvm.dev/agent/internal/ramcopy"
)

func TestParse(t *testing.T) {
	good := []string{"--pid", "7", "--start-time", "99", "--address", "0x7f0000000000", "--size", "8192", "--target-fd", "3"}
	o, err := parse(append(good, "--base-fd", "4"))
	if err != nil || o.Pid != 7 || o.StartTime != "99" || o.Address != 0x7f0000000000 || o.Size != 8192 {
		t.Errorf("%+v %v", o, err)
	}
	if o.Target.Fd() != 3 || o.Base.Fd() != 4 || o.BufferLimit <= 0 {
		t.Errorf("%+v", o)
	}
	if o, err := parse(good); err != nil || o.Base != nil {
		t.Errorf("%+v %v", o, err)
	}
	for i := 0; i < len(good); i += 2 {
		without := append(append([]string{}, good[:i]...), good[i+2:]...)
		if _, err := parse(without); err == nil {
			t.Errorf("%q passes", without)
		}
	}
	for _, more := range [][]string{{"--base-fd", "3"}, {"--pid", "-1"}, {"--address", "x"}, {"--unknown"}, {"word"}} {
		if _, err := parse(append(append([]string{}, good...), more...)); err == nil {
			t.Errorf("%q passes", more)
		}
	}
}

func TestStatus(t *testing.T) {
	for err, want := range map[error]int{
		ramcopy.ErrForbidden: exitForbidden, ramcopy.ErrStorage: exitStorage, ramcopy.ErrSource: exitSource,
	} {
		if got := status(fmt.Errorf("%w: why", err)); got != want {
			t.Errorf("%v: %d", err, got)
		}
	}
	if status(fmt.Errorf("else")) != exitFailed {
		t.Error("a defect has a status of its own")
	}
}
