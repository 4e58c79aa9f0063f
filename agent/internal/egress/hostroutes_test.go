package egress

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func netlinkMessage(kind, flags uint16, body []byte) []byte {
	out := make([]byte, syscall.NLMSG_HDRLEN, syscall.NLMSG_HDRLEN+len(body)+3)
	binary.LittleEndian.PutUint32(out, uint32(syscall.NLMSG_HDRLEN+len(body)))
	binary.LittleEndian.PutUint16(out[4:], kind)
	binary.LittleEndian.PutUint16(out[6:], flags)
	for out = append(out, body...); len(out)%4 != 0; {
		out = append(out, 0)
	}
	return out
}

func routeMessage(family, bits, table, kind byte, destination string) []byte {
	body := []byte{family, bits, 0, 0, table, 2, 254, kind, 0, 0, 0, 0}
	body = append(body, 8, 0, syscall.RTA_TABLE, 0, table, 0, 0, 0)
	if destination != "" {
		body = append(append(body, 8, 0, syscall.RTA_DST, 0), net.ParseIP(destination).To4()...)
	}
	return netlinkMessage(syscall.RTM_NEWROUTE, 2, body)
}

func TestLocalRoutesOfADump(t *testing.T) {
	const inet, local, main = syscall.AF_INET, syscall.RT_TABLE_LOCAL, syscall.RT_TABLE_MAIN
	var data []byte
	for _, message := range [][]byte{
		routeMessage(inet, 8, local, syscall.RTN_LOCAL, "127.0.0.0"),
		routeMessage(inet, 32, local, syscall.RTN_LOCAL, "203.0.113.9"),
		routeMessage(inet, 0, local, syscall.RTN_LOCAL, ""), // "local default" has no destination
		routeMessage(inet, 32, local, syscall.RTN_BROADCAST, "203.0.113.255"),
		routeMessage(inet, 0, 100, syscall.RTN_LOCAL, ""), // a transparent proxy's table
		routeMessage(inet, 24, main, syscall.RTN_UNICAST, "203.0.113.0"),
		routeMessage(syscall.AF_INET6, 32, local, syscall.RTN_LOCAL, "203.0.113.10"),
		routeMessage(inet, 33, local, syscall.RTN_LOCAL, "203.0.113.11"),
	} {
		data = append(data, message...)
	}
	routes, done, err := localRoutes(data)
	var got []string
	for _, route := range routes {
		got = append(got, route.String())
	}
	if strings.Join(got, " ") != "127.0.0.0/8 203.0.113.9/32 0.0.0.0/0" || done || err != nil {
		t.Errorf("%v %v %v", got, done, err)
	}
	ended := append(data, netlinkMessage(syscall.NLMSG_DONE, 2, make([]byte, 4))...)
	if routes, done, err := localRoutes(ended); len(routes) != 3 || !done || err != nil {
		t.Errorf("%v %v %v", routes, done, err)
	}
	for cut := range ended {
		_, _, _ = localRoutes(ended[:cut]) // must not panic
	}
	for at := range ended {
		changed := append([]byte(nil), ended...)
		changed[at] ^= 0xff
		_, _, _ = localRoutes(changed) // likewise
	}
}

func TestADumpThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"error":       {netlinkMessage(syscall.NLMSG_ERROR, 0, []byte{0xff, 0xff, 0xff, 0xff}), syscall.EPERM},
		"given up":    {netlinkMessage(syscall.NLMSG_DONE, 2, []byte{0xfe, 0xff, 0xff, 0xff}), syscall.ENOENT},
		"interrupted": {netlinkMessage(syscall.NLMSG_DONE, 2|dumpInterrupted, make([]byte, 4)), errInterrupted},
		"short end":   {netlinkMessage(syscall.NLMSG_DONE, 2, nil), errShort},
		"short route": {netlinkMessage(syscall.RTM_NEWROUTE, 2, []byte{2, 32}), errShort},
	} {
		if _, done, err := localRoutes(c.data); done || !errors.Is(err, c.want) {
			t.Errorf("%s: %v %v", name, done, err)
		}
	}
}

// TestLocalRoutesOfARealHost works in a network namespace that ends with the thread of this test.
func TestLocalRoutesOfARealHost(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread must not be used by others, and ends with the goroutine
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		t.Skip("cannot make a network namespace: ", err)
	}
	var host *Host
	update := func() {
		read, err := ReadHost()
		if err != nil {
			t.Fatal(err)
		}
		host = read
	}
	update() // no table there yet
	destinations := []string{"198.51.100.2", "203.0.113.9", "198.18.6.5"}
	judge := func(want bool) {
		update()
		for _, destination := range destinations {
			if got := host.Contains(netip.MustParseAddr(destination)); got != want {
				t.Errorf("%s: got %v, want %v", destination, got, want)
			}
		}
	}
	judge(false)
	for _, command := range []string{"link set lo up", "address add 198.51.100.2/24 dev lo",
		"route add local 203.0.113.9 dev lo", "route add local 198.18.4.0/22 dev lo",
		"route add local 0.0.0.0/0 dev lo table 100"} {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Skipf("ip %s: %v %s", command, err, out)
		}
	}
	judge(true)
	if host.Contains(netip.MustParseAddr("203.0.113.10")) {
		t.Error("the neighbour of a local route is out of reach")
	}
	// More than one datagram of the kernel's.
	var batch strings.Builder
	for i := 0; i < 3000; i++ {
		batch.WriteString("route add local " + net.IPv4(192, 0, byte(i>>8), byte(i)).String() + " dev lo\n")
	}
	destinations = []string{"192.0.0.0", "192.0.11.183"}
	add := exec.Command("ip", "-batch", "-")
	add.Stdin = strings.NewReader(batch.String())
	if out, err := add.CombinedOutput(); err != nil {
		t.Skipf("ip -batch: %v %s", err, out)
	}
	judge(true)
}

// TestTapNetworksCountWhole works in a network namespace of its own too.
func TestTapNetworksCountWhole(t *testing.T) {
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		t.Skip("cannot make a network namespace: ", err)
	}
	for _, command := range []string{"link set lo up", "link add svm7 type veth peer name eth7",
		"address add 172.16.0.29/30 dev svm7", "address add 172.17.0.29/30 dev eth7",
		"address add 172.18.0.1 peer 172.18.0.2/32 dev eth7", "link set svm7 up", "link set eth7 up"} {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			t.Skipf("ip %s: %v %s", command, err, out)
		}
	}
	host, err := ReadHost()
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"172.16.0.28": true, "172.16.0.29": true, "172.16.0.30": true, "172.16.0.31": true, "172.16.0.32": false,
		"172.17.0.29": true, "172.17.0.30": false, "172.18.0.1": true, "172.18.0.2": false, "127.0.0.1": true,
	} {
		if got := host.Contains(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

func TestADumpOfAddressesIsChecked(t *testing.T) {
	body := []byte{syscall.AF_INET, 30, 0, 0, 1, 0, 0, 0}
	body = append(body, 8, 0, syscall.IFA_LOCAL, 0, 172, 16, 0, 29)
	body = append(body, 9, 0, syscall.IFA_LABEL, 0, 's', 'v', 'm', '7', 0, 0, 0, 0)
	dump := netlinkMessage(syscall.RTM_NEWADDR, 2, body)
	if own, err := ownNetworks(dump); err != nil || len(own) != 1 || own[0].String() != "172.16.0.28/30" {
		t.Errorf("%v %v", own, err)
	}
	for cut := range dump {
		_, _ = ownNetworks(dump[:cut]) // must not panic
	}
	for at := range dump {
		changed := append([]byte(nil), dump...)
		changed[at] ^= 0xff
		_, _ = ownNetworks(changed) // likewise
	}
}
