package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestSentinelPrivileges(t *testing.T) {
	const netAdmin, none = "0000000000001000", "0000000000000000"
	t.Run("root", func(t *testing.T) {
		w := newSentinelWorld(t)
		w.watched()
		w.settled()
		w.expectStatus(map[string]string{
			"Uid": "65525 65525 65525 65525", "Gid": "65525 65525 65525 65525", "Groups": "", "NoNewPrivs": "1",
			"CapInh": none, "CapPrm": netAdmin, "CapEff": netAdmin, "CapBnd": none, "CapAmb": none,
		})
		if stat, err := os.Stat(fmt.Sprintf("/proc/%d/fd", w.sentinel())); err != nil || stat.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("its user may look into it: %v", err)
		}
		// As a guard, netguard, passt or portd that was taken over: of any VM.
		for _, signal := range []string{"-STOP", "-KILL", "-0"} {
			out, err := exec.Command("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
				"kill", signal, strconv.Itoa(w.sentinel())).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "not permitted") {
				t.Errorf("nobody may send %s: %v %s", signal, err, out)
			}
		}
		w.settled()
	})
	t.Run("root, as another user", func(t *testing.T) {
		w := newSentinelWorld(t)
		if w.start(allowPolicy, "-device", "svm1", "-sentinel-as", "65526:65527") == nil {
			t.Fatal("not ready")
		}
		w.turn("up")
		w.settled()
		w.expectStatus(map[string]string{"Uid": "65526 65526 65526 65526", "Gid": "65527 65527 65527 65527"})
	})
	t.Run("capabilities without root", func(t *testing.T) {
		w := newSentinelWorld(t)
		w.giveDirectory(12345)
		w.before = []string{"setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups",
			"--inh-caps", "+net_admin,+net_bind_service", "--ambient-caps", "+net_admin,+net_bind_service"}
		w.watched()
		w.settled()
		w.expectStatus(map[string]string{
			"Uid": "12345 12345 12345 12345", "NoNewPrivs": "1",
			"CapInh": none, "CapPrm": netAdmin, "CapEff": netAdmin, "CapAmb": none,
		})
	})
}

func (w *world) expectStatus(wanted map[string]string) {
	w.t.Helper()
	process, err := os.FindProcess(w.sentinel())
	if err != nil {
		w.t.Fatal(err)
	}
	s := &guard{Cmd: &exec.Cmd{Process: process}, w: w}
	for field, want := range wanted {
		if got := s.status(field); got != want {
			w.t.Errorf("%s: %q, not %q", field, got, want)
		}
	}
}
