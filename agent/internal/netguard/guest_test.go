package netguard

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// A guest that takes nothing, over a socket as QEMU's.
func TestAStalledGuestDoesNotStallAPolicy(t *testing.T) {
	v := startVM(t, `{"mode":"allow","names":[{"name":"x.example","port":443}],"networks":[{"cidr":"203.0.113.0/24"}]}`, false)
	ours, given, err := socketPair(syscall.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	defer given.Close()
	theirs, err := net.FileConn(given)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	defer ours.Close()
	v.socket.Close()
	<-v.carried
	v.socket = theirs
	go v.FromGuest(ours)
	stalled := func() bool { return len(v.guest.turn) == 0 }
	// Both passts answer until nobody takes it.
	for i := 0; i < 1900; i++ {
		v.send(frame(protocolTCP, guest, "8.8.4.4", tcp(uint16(40000+i), 443, tcpSyn)))
	}
	large := string(make([]byte, 32<<10))
	for end := time.Now().Add(patience); ; {
		v.send(datagram(large))
		if stalled() {
			if time.Sleep(2 * guestTick); stalled() {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatal("the guest takes everything")
		}
	}
	updated := make(chan error, 1)
	go func() { updated <- v.Update(policy(t, offPolicy)) }()
	select {
	case err := <-updated:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * patience):
		t.Fatal("the policy is not in force")
	}
	if v.guard.HasNames() || v.room != nil {
		t.Error("something of the names is left")
	}
	// It goes on where it was, with whole frames, and by name again.
	go func() {
		for {
			if _, err := theirs.Write(message(syn("203.0.113.7", 80))); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	buffer := make([]byte, frameLimit)
	_ = theirs.SetReadDeadline(time.Now().Add(2 * patience))
	for {
		size, err := readFrame(theirs, buffer)
		if err != nil {
			t.Fatal(err)
		}
		p, whole := parseInbound(buffer[ethernetSize:size], addressOf(net.ParseIP(guest)))
		if !whole {
			t.Fatalf("% x came", buffer[:size])
		}
		if p.protocol == protocolTCP && p.remotePort == 80 && p.flags&tcpRst != 0 {
			break
		}
	}
	if err := v.Update(policy(t, allowPolicy)); err != nil {
		t.Error(err)
	}
}

func TestAFrameIsNeverCut(t *testing.T) {
	w := newGuestWriter()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	w.set(ours)
	both := append(message(datagram("first")), message(datagram("second"))...)
	stop := make(chan struct{})
	written := make(chan bool)
	go func() { written <- w.write(both, func() bool { return isClosed(stop) }) }()
	_ = theirs.SetDeadline(time.Now().Add(patience))
	first := make([]byte, 7)
	if _, err := theirs.Read(first); err != nil {
		t.Fatal(err)
	}
	close(stop)
	if <-written {
		t.Error("all was taken")
	}
	go func() { written <- w.tell(message(datagram("third"))) }()
	rest := message(datagram("first"))[len(first):]
	want := string(rest) + string(message(datagram("third")))
	got := ""
	for buffer := make([]byte, 1000); len(got) < len(want); {
		n, err := theirs.Read(buffer)
		if err != nil {
			t.Fatalf("%q %v", got, err)
		}
		got += string(buffer[:n])
	}
	if got != want || !<-written {
		t.Errorf("%q, want %q", got, want)
	}
	for sent, left := range map[int]int{0: 0, 1: len(first) + len(rest) - 1, len(first) + len(rest): 0} {
		if got := len(restOfFrame(both, sent)); got != left {
			t.Errorf("%d bytes are left after %d, want %d", got, sent, left)
		}
	}
}
