package guest

import (
	"testing"
	"time"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/session"
)

func heldMachine(t *testing.T) *Machine {
	m := &Machine{Window: &session.Window{}, Freezer: command.NewFreezer(nil), Log: func(text string) { t.Error(text) }}
	t.Cleanup(m.Freezer.Thaw)
	return m
}

// asked reads a request, as the goroutine that reads from the host does; what it returns carries it out.
func asked(t *testing.T, operation session.Operation, payload []byte) func() session.Result {
	t.Helper()
	answer, err := operation(payload)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func minute() []byte { return frame.AppendU32(nil, 10, 60000) }

// holding tells one time of standing still from another: it is the same as long as nothing ended it.
func holding(m *Machine) *command.Standstill { return m.Freezer.Begin(time.Minute) }

func TestHoldAndRelease(t *testing.T) {
	m := heldMachine(t)
	if r := asked(t, m.hold, minute())(); r.Failed != nil {
		t.Fatal(r.Failed)
	}
	before := holding(m)
	if holding(m) != before {
		t.Fatal("not held")
	}
	asked(t, m.release, nil)()
	if holding(m) == before {
		t.Error("not released")
	}
}

func TestAHoldThatComesAfterItsReleaseDoesNothing(t *testing.T) {
	m := heldMachine(t)
	hold := asked(t, m.hold, minute())
	release := asked(t, m.release, nil)
	if r := hold(); r.Failed == nil || r.Failed.Code != "ECANCELED" {
		t.Error("held, though the release has been asked for")
	}
	release()
	if r := asked(t, m.hold, minute())(); r.Failed != nil {
		t.Error(r.Failed)
	}
}

func TestALateReleaseLeavesALaterHoldAlone(t *testing.T) {
	m := heldMachine(t)
	asked(t, m.hold, minute())()
	release := asked(t, m.release, nil)
	asked(t, m.hold, minute())()
	before := holding(m)
	release()
	if holding(m) != before {
		t.Error("it ended the later hold")
	}
	asked(t, m.release, nil)()
	if holding(m) == before {
		t.Error("its own release does not end it")
	}
}

func TestNothingIsHeldAfterTheShutdown(t *testing.T) {
	m := heldMachine(t)
	waiting := asked(t, m.hold, minute())
	m.holds.close(m.Freezer.Thaw)
	for name, hold := range map[string]func() session.Result{"queued": waiting, "new": asked(t, m.hold, minute())} {
		if r := hold(); r.Failed == nil || r.Failed.Code != "ECANCELED" {
			t.Errorf("%s: held while the machine ends", name)
		}
	}
}

func TestAnEarlierHoldDoesNotReplaceALater(t *testing.T) {
	m := heldMachine(t)
	early, late := asked(t, m.hold, minute()), asked(t, m.hold, minute())
	late()
	if r := early(); r.Failed == nil {
		t.Error("held by both")
	}
}
