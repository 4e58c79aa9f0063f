package netguard

import (
	"fmt"
	"testing"
	"time"
)

// from makes a message of a conversation, which is told by its port.
func from(port uint16, size int) waiting {
	return waiting{message: message(frame(protocolTCP, guest, "203.0.113.7", append(tcp(port, 80, tcpAck), make([]byte, size)...)))}
}

func portOf(w waiting) uint16 {
	p, _ := parseOutbound(w.message[lengthSize+ethernetSize:])
	return p.guestPort
}

func TestFlowOf(t *testing.T) {
	same := frame(protocolTCP, guest, "203.0.113.7", append(tcp(1, 80, tcpAck), "data"...))
	if flowOf(same) != flowOf(frame(protocolTCP, guest, "203.0.113.7", tcp(1, 80, tcpFin))) {
		t.Error("one conversation is two")
	}
	seen := map[flowKey]string{}
	for name, f := range map[string][]byte{
		"tcp": same, "port": frame(protocolTCP, guest, "203.0.113.7", tcp(2, 80, tcpAck)),
		"other port": frame(protocolTCP, guest, "203.0.113.7", tcp(1, 81, tcpAck)), "host": frame(protocolTCP, guest, "203.0.113.8", tcp(1, 80, tcpAck)),
		"udp": frame(protocolUDP, guest, "203.0.113.7", udp(1, 80, "")), "ping": frame(protocolICMP, guest, "203.0.113.7", echo(8, 1)),
		"nothing": {}, "cut": same[:ethernetSize+ipv4Size],
	} {
		if other, is := seen[flowOf(f)]; is {
			t.Errorf("%s is %s", name, other)
		}
		seen[flowOf(f)] = name
	}
	if flowOf(frame(protocolICMP, guest, "203.0.113.7", echo(8, 2))) != flowOf(frame(protocolICMP, guest, "203.0.113.7", echo(8, 1))) {
		t.Error("each ping has a turn of its own")
	}
}

func TestQueueGivesTurns(t *testing.T) {
	q := newFairQueue(limit{125_000, 1500})
	for i := 0; i < 10; i++ {
		q.push(from(1, 1400))
		q.push(from(2, 1400))
	}
	q.push(from(3, 100)) // Comes last, and does not wait for all of them.
	var order []uint16
	for {
		w, some := q.pop()
		if !some {
			break
		}
		order = append(order, portOf(w))
		if len(order) == 6 {
			q.push(from(4, 100))
		}
	}
	if got := fmt.Sprint(order); got != "[1 1 2 2 3 1 4 2 1 2 1 2 1 2 1 2 1 2 1 2 1 2]" {
		t.Error(got)
	}
	if q.cost != 0 || len(q.flows) != 0 || q.crowd() != 1 {
		t.Errorf("left: %d, %d flows", q.cost, len(q.flows))
	}
}

// Who always has a frame, but never two, is not new each time.
func TestQueueIsFairToThoseThatWait(t *testing.T) {
	q := newFairQueue(limit{125_000, 1500})
	for i := 0; i < 20; i++ {
		q.push(from(1, 1400))
	}
	q.pop()
	q.pop()
	sent := map[uint16]int{}
	for i := 0; i < 20; i++ {
		q.push(from(2, 1400))
		w, _ := q.pop()
		sent[portOf(w)]++
	}
	if sent[1] < 8 {
		t.Errorf("%v", sent)
	}
}

func TestQueueIsBounded(t *testing.T) {
	q := newFairQueue(limit{125_000, 1500})
	for i := 0; i < 1000; i++ {
		q.push(from(1, 1400))
	}
	if q.cost > leastQueue/2+2000 || q.cost < leastQueue/2-2000 {
		t.Errorf("one has %d of %d", q.cost, leastQueue)
	}
	for port := uint16(2); port < 60; port++ {
		if !q.push(from(port, 1400)) {
			t.Fatalf("no room for %d", port)
		}
	}
	if q.push(from(1, 1400)) {
		t.Error("who has most gets more")
	}
	for port := uint16(2); port < 5000; port++ {
		q.push(from(port, 1400))
		q.push(from(port, 0))
	}
	if q.cost > leastQueue {
		t.Errorf("%d of %d", q.cost, leastQueue)
	}
	for rate, want := range map[int64]int{1: leastQueue, 2_000_000: 1_000_000, 1 << 40: mostQueue} {
		if got := newFairQueue(limit{rate, 1500}).limit; got != want {
			t.Errorf("%d bytes a second: %d, want %d", rate, got, want)
		}
	}
}

func TestPacerSendsInOrderAndEnds(t *testing.T) {
	sent := make(chan waiting)
	p := newPacer(limit{12_500_000, 1500}, func(w waiting) { sent <- w })
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		p.run(quit)
		close(ended)
	}()
	mine := from(1, 10)
	for i := 0; i < 20; i++ {
		mine.message[len(mine.message)-1] = byte(i) // The memory is used again.
		p.add(mine)
	}
	for i := 0; i < 20; i++ {
		if w := <-sent; w.message[len(w.message)-1] != byte(i) {
			t.Fatalf("%d. is % x", i, w.message)
		}
	}
	close(quit)
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("it does not end")
	}
	if newPacer(limit{0, 65520}, nil) != nil {
		t.Error("no limit has a queue")
	}
}
