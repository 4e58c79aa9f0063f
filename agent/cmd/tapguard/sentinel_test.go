package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The rules that a sentinel looks for, in short: the names and seals of src/network/tap, for the devices svm1 and svm2.
const sealedRules = `
table inet smolvm {
	set guests { type ifname . ether_addr . ipv4_addr; elements = { "svm1" . 02:00:00:00:00:01 . 172.16.4.2, "svm2" . 02:00:00:00:00:02 . 172.16.4.6 }; }
	set addresses { type ifname . ipv4_addr; elements = { "svm1" . 172.16.4.2, "svm2" . 172.16.4.6 }; }
	set gateways { type ipv4_addr; elements = { 172.16.4.1, 172.16.4.5 }; }
	set never { type ipv4_addr; flags interval; elements = { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/16, 224.0.0.0-255.255.255.255 }; }
	set private { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 100.64.0.0/10, 168.63.129.16, 172.16.0.0/12, 192.0.0.0/24, 192.168.0.0/16, 198.18.0.0/15 }; }
	chain forward1 { ip daddr { 192.0.2.1, 192.0.2.2 } drop comment "rules: 2"; drop; }
	chain forward2 { ip daddr { 192.0.2.1, 192.0.2.2 } drop comment "rules: 2"; drop; }
	chain input1 { udp dport 53 accept comment "rules: 3"; tcp dport 53 accept; drop; }
	chain input2 { drop comment "rules: 1"; }
	chain names1 { }
	chain names2 { }
	chain rate1 { limit rate over 1 mbytes/second drop comment "rules: 1"; }
	map forward_of { type ifname : verdict; elements = { "svm1" : jump forward1, "svm2" : jump forward2 }; }
	map input_of { type ifname : verdict; elements = { "svm1" : jump input1, "svm2" : jump input2 }; }
	map names_of { type ifname : verdict; elements = { "svm1" : jump names1, "svm2" : jump names2 }; }
	map rate_of { type ifname : verdict; elements = { "svm1" : jump rate1 }; }
	chain refuse { drop comment "rules: 1"; }
	chain direct { meta l4proto { tcp, udp } accept comment "rules: 1"; }
	chain known_sender { iifname vmap @rate_of comment "rules: 1"; }
	chain to_host { iifname vmap @input_of comment "rules: 2"; drop; }
	chain from_guest { iifname vmap @forward_of comment "rules: 2"; drop; }
	chain early { type filter hook prerouting priority -450; iifname != "svm*" accept comment "rules: 2"; goto known_sender; }
	chain names { type nat hook prerouting priority -101; iifname vmap @names_of comment "rules: 1"; }
	chain input { type filter hook input priority -5; iifname "svm*" jump to_host comment "rules: 2"; iifname "svm*" drop; }
	chain forward { type filter hook forward priority -5; iifname "svm*" jump from_guest comment "smolvm 0123, rules: 2"; iifname "svm*" drop; }
	chain output { type filter hook output priority -5; oifname != "svm*" accept comment "rules: 1"; }
	chain source_nat { type nat hook postrouting priority 100; iifname "svm*" masquerade comment "rules: 1"; }
}
table arp smolvm {
	set neighbours { type ifname . ether_addr . ether_addr . ipv4_addr . ipv4_addr; elements = { "svm1" . 02:00:00:00:00:01 . 02:00:00:00:00:01 . 172.16.4.2 . 172.16.4.1 }; }
	chain input { type filter hook input priority 0; iifname != "svm*" accept comment "rules: 2"; accept; }
}
table ip theirs {
	chain c { type filter hook input priority 0; tcp dport 1 drop; }
}
`

// removal is how the library replaces everything: in the same transaction.
const removal = "table inet smolvm; delete table inet smolvm; table arp smolvm; delete table arp smolvm; delete table ip theirs;"

// newSentinelWorld is a world whose device has the name and rules of a TAP device of SmolVM's. It is down.
func newSentinelWorld(t *testing.T) *world {
	w := newWorld(t)
	w.in(w.host, "nft", "flush", "ruleset")
	w.must("ip", "-n", w.host, "link", "set", "tap0", "down")
	w.must("ip", "-n", w.host, "link", "set", "tap0", "name", "svm1")
	w.nft(sealedRules)
	return w
}

func (w *world) nft(rules string, options ...string) {
	w.t.Helper()
	argv := append([]string{"netns", "exec", w.host, "nft"}, options...)
	nft := exec.Command("ip", append(argv, "-f", "-")...)
	nft.Stdin = strings.NewReader(rules)
	if out, err := nft.CombinedOutput(); err != nil {
		w.t.Fatalf("nft: %v %s", err, out)
	}
}

// watched starts a guard with a sentinel, and brings the device up.
func (w *world) watched() *guard {
	w.t.Helper()
	g := w.start(allowPolicy, "-device", "svm1")
	if g == nil {
		w.t.Fatal("not ready")
	}
	w.turn("up")
	return g
}

func (w *world) turn(state string) { w.must("ip", "-n", w.host, "link", "set", "svm1", state) }

func (w *world) isUp() bool {
	return strings.Contains(strings.SplitN(w.must("ip", "-n", w.host, "link", "show", "svm1"), ">", 2)[0], ",UP")
}

// await fails the test when it does not come true.
func (w *world) await(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not so: %s", what)
		}
	}
}

// settled waits until the sentinel has seen all that happened before: an element of its own that goes and comes back takes
// the device down and brings it up again.
func (w *world) settled() {
	w.t.Helper()
	const element = ` element inet smolvm names_of { "svm1"`
	w.nft("delete" + element + " }")
	w.await("down without an element of its own", func() bool { return !w.isUp() })
	w.nft("add" + element + " : jump names1 }")
	w.await("up again with it", w.isUp)
}

// sentinels returns the processes of sentinels in the host's namespace.
func (w *world) sentinels() (pids []int) {
	for _, text := range strings.Fields(w.must("ip", "netns", "pids", w.host)) {
		argv, _ := os.ReadFile("/proc/" + text + "/cmdline")
		if pid, _ := strconv.Atoi(text); strings.HasPrefix(string(argv), "tapguard-sentinel\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (w *world) sentinel() int {
	w.t.Helper()
	var pids []int
	w.await("there is a sentinel", func() bool {
		pids = w.sentinels()
		return len(pids) == 1
	})
	return pids[0]
}

func (w *world) log() string { return w.said.String() }

func TestSentinelClosesWhatHasLostItsRules(t *testing.T) {
	w := newSentinelWorld(t)
	g := w.watched()
	cases := []string{
		"flush ruleset", "delete table inet smolvm", "delete table arp smolvm", "flush table inet smolvm",
		"add table inet smolvm { flags dormant; }",
		"flush set inet smolvm never", "flush set inet smolvm private", "delete element inet smolvm never { 169.254.0.0/16 }",
		"delete element inet smolvm gateways { 172.16.4.1 }", "flush map inet smolvm rate_of", "flush set inet smolvm guests",
		"flush set inet smolvm addresses", "flush map inet smolvm forward_of", "flush map inet smolvm input_of",
		"flush set arp smolvm neighbours", "flush chain arp smolvm input", "flush chain inet smolvm forward1",
		"flush chain inet smolvm input1",
	}
	for _, chain := range []string{"early", "known_sender", "names", "input", "to_host", "forward", "from_guest", "output",
		"source_nat", "direct", "refuse"} {
		cases = append(cases, "flush chain inet smolvm "+chain)
	}
	for _, gone := range cases {
		w.nft(gone)
		w.await("down after "+gone, func() bool { return !w.isUp() })
		w.nft("flush ruleset;" + sealedRules)
		w.await("up again after "+gone, w.isUp)
	}
	for _, one := range []string{"inet smolvm forward", "inet smolvm forward1"} {
		listed := w.in(w.host, "nft", "-a", "list", "chain", strings.Fields(one)[0], "smolvm", strings.Fields(one)[2])
		handle := listed[strings.LastIndex(listed, "drop # handle ")+len("drop # handle "):]
		w.nft("delete rule " + one + " handle " + strings.Fields(handle)[0])
		w.await("down without one rule of "+one, func() bool { return !w.isUp() })
		w.nft("flush ruleset;" + sealedRules)
		w.await("up again", w.isUp)
	}
	g.kill()
	w.await("down without its guard", func() bool { return !w.isUp() })
	w.await("the sentinel has ended", func() bool { return len(w.sentinels()) == 0 })
	if log := w.log(); !strings.Contains(log, "sentinel: svm1: not in force: table: down\n") {
		t.Errorf("log: %s", log)
	}
}

func TestSentinelLeavesAloneWhatIsInForce(t *testing.T) {
	w := newSentinelWorld(t)
	w.watched()
	links := w.again(w.host, "links")
	stdout, _ := links.StdoutPipe()
	if err := links.Start(); err != nil {
		t.Fatal(err)
	}
	downs := make(chan int)
	listening := make([]byte, len("listening\n"))
	if _, err := stdout.Read(listening); err != nil {
		t.Fatal(err)
	}
	go func() { downs <- countLines(stdout) }()
	for i := 0; i < 20; i++ {
		w.nft(removal + sealedRules)
	}
	w.nft("flush chain inet smolvm forward1; add rule inet smolvm forward1 drop comment \"rules: 1\"")
	w.nft("delete element inet smolvm forward_of { \"svm2\" }; flush chain inet smolvm forward2; delete chain inet smolvm forward2")
	w.nft("delete element inet smolvm gateways { 172.16.4.5 }")
	w.nft("delete table ip theirs")
	w.nft("table inet other { chain forward { type filter hook forward priority 0; drop; }; }")
	w.nft("delete table inet other")
	w.settled() // The one time that it goes down.
	_ = links.Process.Signal(syscall.SIGTERM)
	if got := <-downs; got != 1 {
		t.Errorf("the device went down %d times, not once", got)
	}
	_ = links.Wait()
}

func TestSentinelWaitsForADeviceThatIsUp(t *testing.T) {
	w := newSentinelWorld(t)
	w.nft("flush ruleset")
	if w.start(allowPolicy, "-device", "svm1") == nil {
		t.Fatal("not ready")
	}
	w.sentinel()
	w.nft("table inet smolvm { chain forward { type filter hook forward priority -5; }; }")
	w.nft("delete table inet smolvm")
	w.nft(sealedRules)
	w.turn("up")
	w.settled()
	w.turn("down") // By the library: nothing brings it up but the library.
	w.nft(removal + sealedRules)
	w.turn("up")
	w.settled()
	if log := w.log(); strings.Count(log, "down") != 2 {
		t.Errorf("it complained before: %s", log)
	}
	w.turn("down")
	w.nft("flush ruleset")
	w.turn("up") // Whoever does that without rules.
	w.await("down again", func() bool { return !w.isUp() })
}

func TestGuardWithoutSentinelEnds(t *testing.T) {
	w := newSentinelWorld(t)
	g := w.watched()
	_ = syscall.Kill(w.sentinel(), syscall.SIGKILL)
	if err := g.awaitEnd(); err == nil || !strings.Contains(w.log(), "the sentinel has ended") {
		t.Errorf("%v %s", err, w.log())
	}
	next := w.watched() // At once: nothing of the first one is in its way.
	w.settled()
	next.kill()
	w.await("down", func() bool { return !w.isUp() })
}

func TestSentinelOfAnEarlierGuardIsAwaited(t *testing.T) {
	w := newSentinelWorld(t)
	for i := 0; i < 5; i++ {
		g := w.watched()
		first := w.sentinel()
		_ = syscall.Kill(first, syscall.SIGSTOP)
		g.kill()
		time.AfterFunc(50*time.Millisecond, func() { _ = syscall.Kill(first, syscall.SIGCONT) })
		// "up" comes after ready, and ready after the last that the first one does.
		w.watched().awaitSentinel(first)
		w.settled()
		w.killGuards()
	}
}

func (g *guard) awaitSentinel(other int) {
	g.w.t.Helper()
	g.w.await("the first sentinel has ended", func() bool {
		pids := g.w.sentinels()
		return len(pids) == 1 && pids[0] != other
	})
}

// killGuards ends what serves, and waits until its sentinel has closed the device.
func (w *world) killGuards() {
	w.t.Helper()
	for _, text := range strings.Fields(w.must("ip", "netns", "pids", w.host)) {
		argv, _ := os.ReadFile("/proc/" + text + "/cmdline")
		if pid, _ := strconv.Atoi(text); strings.HasPrefix(string(argv), w.program+"\x00") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	w.await("no sentinel is left", func() bool { return len(w.sentinels()) == 0 })
}

func TestSecondGuardDoesNotCloseTheDeviceOfTheFirst(t *testing.T) {
	w := newSentinelWorld(t)
	w.watched()
	if w.start(allowPolicy, "-device", "svm1") != nil {
		t.Fatal("a second guard of the same guest became ready")
	}
	w.sentinel()
	w.settled()
}

func TestConnectionsAreForgottenWithTheVMM(t *testing.T) {
	t.Run("by itself", func(t *testing.T) { expectForgotten(t, false) })
	t.Run("with its guard killed", func(t *testing.T) { expectForgotten(t, true) })
}

func expectForgotten(t *testing.T, isGuardKilled bool) {
	w := newSentinelWorld(t)
	g := w.watched()
	vmm := exec.Command("sleep", "600")
	if err := vmm.Start(); err != nil {
		t.Fatal(err)
	}
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", vmm.Process.Pid))
	order := fmt.Sprintf(`{"op":"follow","pid":%d,"startTime":"%s"}`, vmm.Process.Pid, strings.Fields(string(stat))[21])
	if answer := w.order(order); answer != `{"ok":true}` {
		t.Fatalf("follow: %s", answer)
	}
	track := func(source, target string, port int) {
		w.in(w.host, "conntrack", "-I", "-p", "udp", "-s", source, "-d", target, "--sport", fmt.Sprint(port), "--dport", "9", "-t", "600")
	}
	for port := 1000; port < 1100; port++ {
		track(guestAddress, siteAddress, port)
	}
	track("172.16.4.6", siteAddress, 7)
	track(gateway, guestAddress, 8)
	// An answer that comes to the guest, whoever began.
	w.in(w.host, "conntrack", "-I", "-p", "udp", "-s", "192.0.2.9", "-d", siteAddress, "--src-nat", guestAddress,
		"--sport", "6", "--dport", "9", "-t", "600")
	// The sentinel has been told when it has seen what came later.
	w.settled()
	_ = vmm.Process.Kill()
	if isGuardKilled {
		g.kill()
	} else if err := g.awaitEnd(); err != nil {
		t.Errorf("ended with %v", err)
	}
	_ = vmm.Wait()
	w.await("the sentinel has ended", func() bool { return len(w.sentinels()) == 0 })
	left := w.in(w.host, "conntrack", "-L", "-p", "udp")
	if strings.Contains(left, "src="+guestAddress+" dst="+siteAddress) || strings.Contains(left, "192.0.2.9") {
		t.Errorf("left: %s", left)
	}
	for _, other := range []string{"src=172.16.4.6 ", "src=" + gateway + " dst=" + guestAddress} {
		if !strings.Contains(left, other) {
			t.Errorf("gone with it: %s among %s", other, left)
		}
	}
	if !isGuardKilled && strings.Count(w.log(), "down") != 1 {
		t.Errorf("closed at an ordinary end: %s", w.log())
	}
}

func TestHostServiceOnAllAddressesIsNotReachedWithoutGuard(t *testing.T) {
	w := newSentinelWorld(t)
	g := w.watched()
	g.kill()
	w.await("down without its guard", func() bool { return !w.isUp() })
	service := w.again(w.host, "wildcard")
	stdin, _ := service.StdinPipe()
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stdin.Close()
		_ = service.Wait()
	}()
	w.await("there is the service", func() bool { return strings.Contains(w.in(w.host, "ss", "-tln"), "0.0.0.0:53") })
	for _, network := range []string{"tcp", "udp"} {
		if got := w.asGuest("connect", network, net.JoinHostPort(gateway, "53")); got == "data" {
			t.Errorf("%s: %s", network, got)
		}
	}
	w.turn("up") // The rules alone let it through: this test can fail.
	if got := w.asGuest("connect", "udp", net.JoinHostPort(gateway, "53")); got != "data" {
		t.Errorf("with the device up: %s", got)
	}
}

func TestBadDevice(t *testing.T) {
	w := newSentinelWorld(t)
	for _, device := range []string{"lo", "svm", "svm7", "svm1x"} {
		g := w.start(allowPolicy, "-device", device)
		if g == nil {
			continue // It has noticed before it was ready.
		}
		if err := g.awaitEnd(); err == nil || !strings.Contains(w.log(), "the sentinel has ended") {
			t.Errorf("%s: %v %s", device, err, w.log())
		}
	}
	if _, err := os.Stat(filepath.Join(w.directory, "control.sock")); err == nil {
		t.Error("the control socket is still there")
	}
}
