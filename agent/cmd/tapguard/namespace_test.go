package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestPrivilegesAreGone(t *testing.T) {
	w := newWorld(t)
	g := w.start(allowPolicy)
	if g == nil {
		t.Fatal("not ready")
	}
	for field, want := range map[string]string{
		"Uid": "65534 65534 65534 65534", "Gid": "65534 65534 65534 65534", "Groups": "", "NoNewPrivs": "1",
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
		"CapAmb": "0000000000000000",
	} {
		if got := g.status(field); got != want {
			t.Errorf("%s: %q, not %q", field, got, want)
		}
	}
	stat, err := os.Stat(filepath.Join(w.directory, "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if uid := stat.Sys().(*syscall.Stat_t).Uid; uid != 65534 || stat.Mode().Perm()&0o077 != 0 {
		t.Errorf("control socket: uid %d, mode %s", uid, stat.Mode())
	}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		_ = g.Process.Signal(signal)
	}
	if answer := w.order(`{"op":"policy","policy":` + allowPolicy + `}`); answer != `{"ok":true}` {
		t.Errorf("after signals of a terminal: %s", answer)
	}
	_ = g.Process.Signal(syscall.SIGTERM)
	if err := g.awaitEnd(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(w.directory, "control.sock")); err == nil {
		t.Error("the control socket is still there")
	}
}

func TestCapabilitiesWithoutRootAreGone(t *testing.T) {
	w := newWorld(t)
	const uid = 12345
	w.giveDirectory(uid)
	w.before = []string{"setpriv", "--reuid", fmt.Sprint(uid), "--regid", fmt.Sprint(uid), "--clear-groups",
		"--inh-caps", "+net_admin,+net_bind_service", "--ambient-caps", "+net_admin,+net_bind_service"}
	g := w.start(allowPolicy)
	if g == nil {
		t.Fatal("not ready")
	}
	for field, want := range map[string]string{
		"Uid": "12345 12345 12345 12345", "NoNewPrivs": "1",
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000",
		"CapAmb": "0000000000000000",
	} {
		if got := g.status(field); got != want {
			t.Errorf("%s: %q, not %q", field, got, want)
		}
	}
	w.order(`{"op":"policy","policy":` + allowPolicy + `}`)
}

func TestGuest(t *testing.T) {
	w := newWorld(t)
	w.startInternet()
	if w.start(allowPolicy) == nil {
		t.Fatal("not ready")
	}
	const site80, site443, dns = siteAddress + ":80", siteAddress + ":443", gateway + ":53"

	w.expect("NOERROR "+siteAddress, "dns", "udp", dns, "ok.example")
	w.expect("NOERROR "+siteAddress, "dns", "tcp", dns, "ok.example")
	w.expect("REFUSED EDE 18 ...", "dns", "udp", dns, "bad.example")
	w.expect("REFUSED EDE 18 ...", "dns", "tcp", dns, "bad.example")
	w.expectDenial("dns - - bad.example name-not-allowed bad.example")

	w.expect("200 hello from ok.example by HTTP/1.1", "http", site80, "ok.example")
	w.expect("200 hello from deep.wild.example by HTTP/1.1", "http", site80, "deep.wild.example")
	w.expect("200 hello from ok.example by HTTP/1.1", "https", site443, "ok.example")
	// Where the guest thinks the name is does not matter.
	w.expect("200 hello from ok.example by HTTP/1.1", "http", "192.0.2.99:80", "ok.example")
	w.expect("403 ...", "http", site80, "bad.example")
	w.expect(`error: Get "https://bad.example/": remote error: tls: access denied`, "https", site443, "bad.example")
	w.expect("403 ...", "http", site80, "rebind.example")
	w.expectDenial("http " + siteAddress + " 80 bad.example name-not-allowed bad.example:80")
	w.expectDenial("tls " + siteAddress + " 443 bad.example name-not-allowed bad.example:443")

	w.expect("error: connection refused", "connect", "tcp", siteAddress+":25")
	w.expectDenial("tcp " + siteAddress + " 25 - not-allowed " + siteAddress + ":25")
	w.expect("error: no route to host", "connect", "udp", siteAddress+":443")
	w.expectDenial("udp " + siteAddress + " 443 - not-allowed " + siteAddress + ":443")
	w.expect("error: connection refused", "connect", "tcp", "10.1.2.3:80")
	w.expectDenial("tcp 10.1.2.3 80 - private 10.1.2.3:80")
	w.expect("error: no route to host", "connect", "tcp", gateway+":22")
	w.expectDenial("tcp " + gateway + " 22 - host -")

	w.expect("error: connection reset by peer", "connect", "tcp", gateway+":29653")
}

func TestOnlyTheGuestIsServed(t *testing.T) {
	w := newWorld(t)
	w.startInternet()
	if w.start(allowPolicy) == nil {
		t.Fatal("not ready")
	}
	w.must("ip", "-n", w.guest, "addr", "flush", "dev", "eth0")
	w.must("ip", "-n", w.guest, "addr", "add", "172.16.4.6/29", "dev", "eth0")
	w.must("ip", "-n", w.guest, "route", "add", "default", "via", gateway)
	w.must("ip", "-n", w.host, "route", "add", "172.16.4.4/30", "dev", "tap0")
	w.expect("error: connection reset by peer", "connect", "tcp", siteAddress+":80")
	w.expect("error: connection reset by peer", "connect", "tcp", gateway+":53")
	w.expect("error: read udp 172.16.4.6:...", "dns", "udp", gateway+":53", "ok.example")
}

func TestFloodOfRefusedPackets(t *testing.T) {
	w := newWorld(t)
	w.startInternet()
	if w.start(allowPolicy) == nil {
		t.Fatal("not ready")
	}
	w.expect("sent", "flood", siteAddress)
	w.expect("NOERROR "+siteAddress, "dns", "udp", gateway+":53", "ok.example")
	w.expect("200 hello from ok.example by HTTP/1.1", "http", siteAddress+":80", "ok.example")
	if info, err := os.Stat(w.denials); err != nil || info.Size() == 0 || info.Size() > 1<<20 {
		t.Errorf("denials: %+v %v", info, err)
	}
}

func TestPolicyUpdateEndsConnections(t *testing.T) {
	w := newWorld(t)
	w.startInternet()
	if w.start(allowPolicy) == nil {
		t.Fatal("not ready")
	}
	endless := w.again(w.guest, "guest", "endless", siteAddress+":80", "ok.example")
	stdout, _ := endless.StdoutPipe()
	if err := endless.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = endless.Wait() }()
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "begun" {
		t.Fatalf("not begun: %q", lines.Text())
	}
	if answer := w.order(`{"op":"policy","policy":{"mode":"nonsense"}}`); !strings.HasPrefix(answer, `{"ok":false,`) {
		t.Errorf("a bad policy: %s", answer)
	}
	if answer := w.order(`{"op":"policy","policy":{"mode":"off","resolvers":["` + resolverAddress + `"]}}`); answer != `{"ok":true}` {
		t.Errorf("policy: %s", answer)
	}
	lines.Scan()
	if end := lines.Text(); !strings.HasPrefix(end, "error: ") || end == "error: silence" {
		t.Errorf("the connection went on: %q", end)
	}
	w.expect("REFUSED EDE 18 ...", "dns", "udp", gateway+":53", "ok.example")
	w.expect("403 ...", "http", siteAddress+":80", "ok.example")
	w.expectDenial("dns - - ok.example off ok.example")
}

func TestKilledGuardIsClosedAndComesBack(t *testing.T) {
	w := newWorld(t)
	w.startInternet()
	g := w.start(allowPolicy)
	if g == nil {
		t.Fatal("not ready")
	}
	const page = "200 hello from ok.example by HTTP/1.1"
	w.expect(page, "http", siteAddress+":80", "ok.example")
	endless := w.again(w.guest, "guest", "endless", siteAddress+":80", "ok.example")
	stdout, _ := endless.StdoutPipe()
	if err := endless.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = endless.Wait() }()
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "begun" {
		t.Fatalf("not begun: %q", lines.Text())
	}
	if w.start(allowPolicy) != nil {
		t.Fatal("a second guard of the same guest became ready")
	}
	if answer := w.order(`{"op":"policy","policy":` + allowPolicy + `}`); answer != `{"ok":true}` {
		t.Errorf("the first one, after that: %s", answer)
	}
	g.kill()
	lines.Scan()
	if end := lines.Text(); !strings.HasPrefix(end, "error: ") || end == "error: silence" {
		t.Errorf("the connection went on: %q", end)
	}
	w.expect("error: connection refused", "http", siteAddress+":80", "ok.example")
	w.expect("error: connection refused", "https", siteAddress+":443", "ok.example")
	w.expect("error: read udp ...", "dns", "udp", gateway+":53", "ok.example")
	for range [3]struct{}{} {
		if g = w.start(allowPolicy); g == nil {
			t.Fatal("the next guard is not ready")
		}
		w.expect(page, "http", siteAddress+":80", "ok.example")
		g.kill()
	}
}

func TestFollow(t *testing.T) {
	w := newWorld(t)
	g := w.start(allowPolicy)
	if g == nil {
		t.Fatal("not ready")
	}
	vmm := exec.Command("sleep", "600")
	if err := vmm.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = vmm.Process.Kill() }()
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", vmm.Process.Pid))
	order := fmt.Sprintf(`{"op":"follow","pid":%d,"startTime":"%s"}`, vmm.Process.Pid, strings.Fields(string(stat))[21])
	for _, bad := range []string{
		`{"op":"follow","pid":1073741824,"startTime":"1"}`,
		fmt.Sprintf(`{"op":"follow","pid":%d,"startTime":"1"}`, vmm.Process.Pid),
	} {
		if answer := w.order(bad); !strings.Contains(answer, `"ok":false`) || !strings.Contains(answer, `"ESRCH"`) {
			t.Errorf("%s: %s", bad, answer)
		}
	}
	for range [2]struct{}{} {
		if answer := w.order(order); answer != `{"ok":true}` {
			t.Fatalf("follow: %s", answer)
		}
	}
	other := fmt.Sprintf(`{"op":"follow","pid":%d,"startTime":"%s"}`, vmm.Process.Pid, "7")
	if answer := w.order(other); !strings.Contains(answer, `"EBUSY"`) {
		t.Errorf("another process: %s", answer)
	}
	select {
	case err := <-g.ended:
		t.Fatalf("ended before the VMM: %v", err)
	default:
	}
	_ = vmm.Process.Kill()
	if err := g.awaitEnd(); err != nil {
		t.Errorf("ended with %v", err)
	}
	_ = vmm.Wait()
}

func TestEndsWithoutAnybodyToFollow(t *testing.T) {
	w := newWorld(t)
	g := w.start(allowPolicy, "-follow-limit", "100ms")
	if g == nil {
		t.Fatal("not ready")
	}
	if err := g.awaitEnd(); err == nil {
		t.Error("it counts as a good end")
	}
}

func TestBadStart(t *testing.T) {
	w := newWorld(t)
	for _, test := range []struct{ says, policy, option, value string }{
		{`the mode "nonsense" is not known`, `{"mode":"nonsense"}`, "-dns-port", "53"},
		{"not a positive uid:gid", allowPolicy, "-runas", "0:0"},
		{"not a positive uid:gid", allowPolicy, "-runas", "65534"},
		{"not a positive uid:gid", allowPolicy, "-sentinel-as", "0:0"},
		{"are the same user", allowPolicy, "-sentinel-as", "65534:65525"},
		{"cannot assign requested address", allowPolicy, "-gateway", "172.16.9.1"},
		{"not a number from 1 to 65535", allowPolicy, "-nflog-group", "0"},
		{"not an inherited descriptor", allowPolicy, "-policy-fd", "4"},
		{"not an inherited descriptor", allowPolicy, "-denials-fd", "2"},
		{"no such file or directory", allowPolicy, "-control", "missing/control.sock"},
	} {
		if w.start(test.policy, test.option, test.value) != nil {
			t.Errorf("ready with %s %s", test.option, test.value)
		} else if !strings.Contains(w.said.String(), test.says) {
			t.Errorf("%s %s: %q, not %q", test.option, test.value, w.said, test.says)
		}
	}
}
