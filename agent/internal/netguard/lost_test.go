package netguard

import (
	"os"
	"strings"
	"testing"
	"time"
)

// A SYN that netguard itself has lost is not one that passt has: the guest's next one goes on.
func TestALostSynDoesNotCount(t *testing.T) {
	again := func(v *vm, f []byte) {
		t.Helper()
		p, _ := parseOutbound(f[ethernetSize:])
		for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			v.guard.mutex.Lock()
			known := v.guard.connections[p.conversation]
			isLost := known != nil && known.isLost
			v.guard.mutex.Unlock()
			if isLost {
				return
			}
			if time.Now().After(end) {
				t.Fatal("it counts")
			}
		}
	}
	first := syn("203.0.113.7", 80)
	for name, rate := range map[string]int64{"no limit": 0, "limit": 1000} {
		t.Run("no passt, "+name, func(t *testing.T) {
			v := startLimitedVM(t, openPolicy, false, rate)
			v.toHost.down()
			v.send(first)
			again(v, first)
		})
	}
	t.Run("no room", func(t *testing.T) {
		v := startLimitedVM(t, openPolicy, false, 1000)
		v.up.queue.mutex.Lock()
		v.up.queue.limit = 0
		v.up.queue.mutex.Unlock()
		v.send(first)
		again(v, first)
	})
	t.Run("other rules", func(t *testing.T) {
		v := startLimitedVM(t, openPolicy, false, 1000)
		<-v.toHost.writing // The frame waits for its turn.
		v.send(first)
		v.knows(first)
		v.rules.Update(policy(t, openPolicy))
		v.toHost.writing <- struct{}{}
		again(v, first)
	})
}

// knows waits until the guard has judged a SYN.
func (v *vm) knows(syn []byte) {
	v.t.Helper()
	p, _ := parseOutbound(syn[ethernetSize:])
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		v.guard.mutex.Lock()
		known := v.guard.connections[p.conversation]
		v.guard.mutex.Unlock()
		if known != nil {
			return
		}
		if time.Now().After(end) {
			v.t.Fatal("it is not judged")
		}
	}
}

func TestWhatWaitsOfAnEndedConnectionDoesNotReachPasst(t *testing.T) {
	v := startLimitedVM(t, openPolicy, false, 1_000_000)
	first, second := syn("203.0.113.7", 80), syn("203.0.113.7", 81)
	<-v.toHost.writing // The frames wait for their turn.
	v.send(first)
	v.knows(first)
	p, _ := parseOutbound(first[ethernetSize:])
	v.guard.mutex.Lock()
	v.guard.end(p.conversation)
	v.guard.mutex.Unlock()
	v.send(second)
	v.toHost.writing <- struct{}{}
	v.journalHas(1, "203.0.113.7:81 flags 2")
	if data, _ := os.ReadFile(v.journal); strings.Contains(string(data), ":80 ") {
		t.Errorf("%s", data)
	}
}
