package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Three network namespaces: a guest, its host, and the internet.
const (
	gateway         = "172.16.4.1"
	guestAddress    = "172.16.4.2"
	siteAddress     = "198.51.100.7"
	resolverAddress = "203.0.113.2:53"
	group           = "17001"
)

// hostRules are what the library gives to nft, in short: names decide on ports 80 and 443, all else is refused.
const hostRules = `
table inet t {
	chain redirected {
		type nat hook prerouting priority dstnat
		iifname "tap0" ip daddr != { 10.0.0.0/8, 172.16.0.0/12 } tcp dport { 80, 443 } redirect to :29653
	}
	chain input {
		type filter hook input priority filter
		iifname "tap0" udp dport 53 accept
		iifname "tap0" tcp dport { 53, 29653 } accept
		iifname "tap0" log prefix "host" group 17001
		iifname "tap0" reject with icmpx admin-prohibited
	}
	chain forward {
		type filter hook forward priority filter
		iifname "tap0" ip daddr 10.0.0.0/8 log prefix "private" group 17001
		iifname "tap0" ip daddr != 10.0.0.0/8 log prefix "not-allowed" group 17001
		iifname "tap0" meta l4proto tcp reject with tcp reset
		iifname "tap0" reject with icmpx admin-prohibited
	}
}
`

const allowPolicy = `{"mode":"allow","names":[{"name":"ok.example","port":80},{"name":"ok.example","port":443},` +
	`{"name":"*.wild.example","port":80},{"name":"rebind.example","port":80}],"resolvers":["` + resolverAddress + `"]}`

type world struct {
	t                     *testing.T
	guest, host, internet string
	program, directory    string
	denials               string
	said                  said     // by the newest guard and its sentinel, on stderr
	before                []string // goes before the program's argv
}

func newWorld(t *testing.T) *world {
	if os.Getuid() != 0 {
		t.Skip("gate: root: only root makes network namespaces")
	}
	id := fmt.Sprint(os.Getpid())
	w := &world{t: t, guest: "smolvm-tg-" + id, host: "smolvm-th-" + id, internet: "smolvm-ti-" + id}
	for _, name := range []string{w.guest, w.host, w.internet} {
		name := name
		w.must("ip", "netns", "add", name)
		t.Cleanup(func() { w.must("ip", "netns", "del", name) })
		w.must("ip", "-n", name, "link", "set", "lo", "up")
	}
	w.link(w.host, "tap0", gateway+"/30", w.guest, "eth0", guestAddress+"/30")
	w.link(w.host, "up0", "203.0.113.1/24", w.internet, "down0", "203.0.113.2/24")
	w.must("ip", "-n", w.guest, "route", "add", "default", "via", gateway)
	w.must("ip", "-n", w.host, "route", "add", "default", "via", "203.0.113.2")
	w.must("ip", "-n", w.internet, "addr", "add", siteAddress+"/32", "dev", "lo")
	w.in(w.host, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
	nft := exec.Command("ip", "netns", "exec", w.host, "nft", "-f", "-")
	nft.Stdin = strings.NewReader(hostRules)
	if out, err := nft.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v %s", err, out)
	}
	w.prepare()
	return w
}

func (w *world) link(near, nearDevice, nearAddress, far, farDevice, farAddress string) {
	w.must("ip", "-n", near, "link", "add", nearDevice, "type", "veth", "peer", "name", farDevice, "netns", far)
	w.must("ip", "-n", near, "addr", "add", nearAddress, "dev", nearDevice)
	w.must("ip", "-n", far, "addr", "add", farAddress, "dev", farDevice)
	w.must("ip", "-n", near, "link", "set", nearDevice, "up")
	w.must("ip", "-n", far, "link", "set", farDevice, "up")
}

func (w *world) must(argv ...string) string {
	w.t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s: %v %s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (w *world) in(namespace string, argv ...string) string {
	w.t.Helper()
	return w.must(append([]string{"ip", "netns", "exec", namespace}, argv...)...)
}

// prepare makes the real program, and a directory that belongs to nobody.
func (w *world) prepare() {
	root, err := os.MkdirTemp("", "tapguard-")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = os.RemoveAll(root) })
	w.program, w.directory, w.denials = filepath.Join(root, "tapguard"), filepath.Join(root, "own"), filepath.Join(root, "denials.log")
	if err := os.Chmod(root, 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.giveDirectory(65534)
	build := exec.Command("go", "build", "-o", w.program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		w.t.Fatalf("go build: %v %s", err, out)
	}
}

// giveDirectory makes the guard's directory that of a user.
func (w *world) giveDirectory(uid int) {
	if err := os.Mkdir(w.directory, 0o700); err != nil && !os.IsExist(err) {
		w.t.Fatal(err)
	}
	if err := os.Chown(w.directory, uid, uid); err != nil {
		w.t.Fatal(err)
	}
}

// again starts this test program in another role.
func (w *world) again(namespace, role string, args ...string) *exec.Cmd {
	argv := append([]string{"netns", "exec", namespace, os.Args[0]}, args...)
	cmd := exec.Command("ip", argv...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

func (w *world) startInternet() {
	cmd := w.again(w.internet, "internet")
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && lines.Text() != "ready" {
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
}

// asGuest runs one program of the guest and returns what it says.
func (w *world) asGuest(args ...string) string {
	w.t.Helper()
	out, err := w.again(w.guest, "guest", args...).Output()
	if err != nil {
		w.t.Fatalf("guest %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

// guard is a running tapguard.
type guard struct {
	*exec.Cmd
	ended chan error
	w     *world
}

// said is a file.
type said string

func (s said) String() string {
	text, _ := os.ReadFile(string(s))
	return string(text)
}

// start returns once the guard is ready; nil when it failed.
func (w *world) start(policy string, more ...string) *guard {
	w.t.Helper()
	denials, err := os.OpenFile(w.denials, os.O_APPEND|os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer denials.Close()
	policyRead, policyWrite, _ := os.Pipe()
	readyRead, readyWrite, _ := os.Pipe()
	defer readyRead.Close()
	argv := append([]string{"netns", "exec", w.host}, w.before...)
	argv = append(argv, w.program, "-gateway", gateway, "-guest", guestAddress, "-nflog-group", group,
		"-control", "control.sock", "-policy-fd", "3", "-ready-fd", "4", "-denials-fd", "5")
	g := &guard{Cmd: exec.Command("ip", append(argv, more...)...), ended: make(chan error, 1), w: w}
	log, err := os.CreateTemp(filepath.Dir(w.directory), "log")
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	w.said = said(log.Name())
	g.Dir, g.Stderr = w.directory, log
	g.ExtraFiles = []*os.File{policyRead, readyWrite, denials}
	if err := g.Start(); err != nil {
		w.t.Fatal(err)
	}
	_ = policyRead.Close()
	_ = readyWrite.Close()
	_, _ = policyWrite.WriteString(policy)
	_ = policyWrite.Close()
	go func() { g.ended <- g.Wait() }()
	w.t.Cleanup(func() { _ = g.Process.Kill() })
	if said, _ := io.ReadAll(readyRead); string(said) == "ready\n" {
		return g
	}
	_ = g.awaitEnd()
	w.t.Logf("not ready: %s", w.said)
	return nil
}

// awaitEnd fails the test when the guard goes on.
func (g *guard) awaitEnd() error {
	g.w.t.Helper()
	select {
	case err := <-g.ended:
		return err
	case <-time.After(20 * time.Second):
		g.w.t.Fatal("the guard goes on")
		return nil
	}
}

func (g *guard) kill() {
	g.w.t.Helper()
	_ = g.Process.Kill()
	_ = g.awaitEnd()
}

// order sends one line and returns the answer.
func (w *world) order(line string) string {
	w.t.Helper()
	door, err := net.Dial("unix", filepath.Join(w.directory, "control.sock"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer door.Close()
	_ = door.SetDeadline(time.Now().Add(patience))
	fmt.Fprintln(door, line)
	answer, err := bufio.NewReader(door).ReadString('\n')
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(answer)
}

type denialLine struct {
	Protocol, Rule       string
	Address, Name, Allow *string
	Port                 *int
	At                   int64
	Count                int
}

func (d denialLine) String() string {
	text := func(s *string) string {
		if s == nil {
			return "-"
		}
		return *s
	}
	port := "-"
	if d.Port != nil {
		port = fmt.Sprint(*d.Port)
	}
	return strings.Join([]string{d.Protocol, text(d.Address), port, text(d.Name), d.Rule, text(d.Allow)}, " ")
}

// expectDenial waits for a record: protocol, address, port, name, rule, allow; "-" for none.
func (w *world) expectDenial(want string) {
	w.t.Helper()
	var got []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		data, err := os.ReadFile(w.denials)
		if err != nil {
			w.t.Fatal(err)
		}
		got = nil
		for _, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
			var d denialLine
			if err := json.Unmarshal([]byte(line), &d); err != nil {
				continue // The first one is not there yet.
			}
			if got = append(got, d.String()); d.String() == want {
				return
			}
		}
	}
	w.t.Errorf("no record %q among\n%s", want, strings.Join(got, "\n"))
}

// expect compares what a guest's program says; "..." at the end stands for anything.
func (w *world) expect(want string, args ...string) {
	w.t.Helper()
	got := w.asGuest(args...)
	if prefix := strings.TrimSuffix(want, "..."); got != want && (prefix == want || !strings.HasPrefix(got, prefix)) {
		w.t.Errorf("%s\n got %q\nwant %q", strings.Join(args, " "), got, want)
	}
}

func (g *guard) status(field string) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.Process.Pid))
	if err != nil {
		g.w.t.Fatal(err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(line, field+":") {
			return strings.Join(strings.Fields(line)[1:], " ")
		}
	}
	return ""
}
