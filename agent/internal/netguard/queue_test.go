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

// A guest may begin a conversation with each frame, so that somebody fresh waits all the time.
func TestQueueIsNotHeldByThoseThatBegin(t *testing.T) {
	const old, begin, rounds = 40, 1000, 30000
	q := newFairQueue(limit{125_000, 1500})
	waits := 0
	push := func(port uint16) {
		t.Helper()
		if !q.push(from(port, 0)) {
			t.Fatal("no room")
		}
		waits++
	}
	for i := 0; i < 30*old; i++ {
		push(uint16(i % old))
	}
	push(begin)
	sent, most := 0, 0
	for i := uint16(1); i < rounds; i++ {
		push(begin + i)
		w, _ := q.pop()
		waits--
		if port := portOf(w); port < old {
			push(port) // It goes on.
			sent++
			w, _ = q.pop()
			waits--
		}
		if len(q.flows) > most {
			most = len(q.flows)
		}
	}
	if sent < rounds/(freshInARow+2) {
		t.Errorf("of the old ones %d of %d were sent", sent, rounds)
	}
	if limit := old + emptyFlows + waits; most > limit || len(q.old) > limit || len(q.flows) != q.crowd()+q.empty {
		t.Errorf("%d flows were remembered, %d of %d are old, a crowd of %d and %d empty", most, len(q.old), len(q.flows), q.crowd(), q.empty)
	}
	for _, some := q.pop(); some; {
		_, some = q.pop()
	}
	if q.cost != 0 || q.empty != 0 || len(q.flows) != 0 || q.crowd() != 1 {
		t.Errorf("left: %d, %d flows, %d empty", q.cost, len(q.flows), q.empty)
	}
}

func TestCrowdIsThoseWithFrames(t *testing.T) {
	q := newFairQueue(limit{125_000, 1500})
	for port := uint16(1); port <= 3; port++ {
		q.push(from(port, 0))
	}
	q.pop()
	q.pop()
	if got := q.crowd(); got != 1 {
		t.Errorf("%d where one has frames", got)
	}
	q.push(from(1, 0))
	if got := q.crowd(); got != 2 {
		t.Errorf("%d where one of two has come back", got)
	}
}

func TestQueueCopiesOnlyWhatItTakes(t *testing.T) {
	q := newFairQueue(limit{125_000, 1500})
	mine := from(1, 1400)
	for q.push(mine) {
	}
	if copies := testing.AllocsPerRun(10, func() { q.push(mine) }); copies != 0 {
		t.Errorf("%v for a frame that is lost", copies)
	}
	mine.message[len(mine.message)-1] = 1
	if w, _ := q.pop(); w.message[len(w.message)-1] != 0 {
		t.Error("it is not a copy")
	}
}

// What was lost has taken nothing of the rate.
func TestPacerDoesNotWaitForWhatIsLost(t *testing.T) {
	sent := make(chan struct{}, 100)
	p := newPacer(limit{1, 1500}, func(waiting) bool { sent <- struct{}{}; return false }) // One byte a second.
	for i := 0; i < cap(sent); i++ {
		p.queue.push(from(uint16(i), 1000))
	}
	quit := make(chan struct{})
	defer close(quit)
	go p.run(quit)
	for i := 0; i < cap(sent); i++ {
		select {
		case <-sent:
		case <-time.After(patience):
			t.Fatalf("it waits after %d", i)
		}
	}
}

func TestPacerSendsInOrderAndEnds(t *testing.T) {
	sent := make(chan waiting)
	p := newPacer(limit{12_500_000, 1500}, func(w waiting) bool { sent <- w; return true })
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		p.run(quit)
		close(ended)
	}()
	mine := from(1, 10)
	for i := 0; i < 20; i++ {
		mine.message[len(mine.message)-1] = byte(i) // The memory is used again.
		p.queue.push(mine)
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
