package netguard

import (
	"sync"
	"time"
)

const (
	// longestQueue is for how long frames of one direction may wait; leastQueue and mostQueue bound that in bytes. Windows
	// keep TCP far below it.
	longestQueue = 500 * time.Millisecond
	leastQueue   = 256 << 10
	mostQueue    = 8 << 20
	// frameCost is what a waiting frame counts beside its bytes: memory of ours.
	frameCost = 128
	// freshInARow is how many frames of conversations that begin go before the others have a turn: a guest that begins
	// one with each frame would keep everybody else waiting.
	freshInARow = 4
	// emptyFlows bounds how many conversations are remembered of which nothing waits.
	emptyFlows = 1024
)

// waiting is a frame in a queue.
type waiting struct {
	message []byte
	lane    Lane            // Where to, on the way to a passt.
	epoch   uint64          // In which it was judged.
	of      *connection     // Of the guest's, on the way to a passt; nil for what is not TCP.
	quit    <-chan struct{} // Closed when the passt that it came from is not wanted any more; nil for none.
	isOurs  bool            // It was made here, for the guest: it goes whatever changes.
}

// flowKey is protocol, addresses and ports, as they are in the frame.
type flowKey [13]byte

// flowOf tells which frames have to stay in order. A frame without ports goes with the others of its protocol and hosts.
func flowOf(frame []byte) (key flowKey) {
	const protocolAt, addressesAt = ethernetSize + 9, ethernetSize + 12
	if len(frame) < ethernetSize+ipv4Size || frame[12] != etherTypeIPv4>>8 || frame[13] != etherTypeIPv4&0xff {
		return key
	}
	key[0] = frame[protocolAt]
	end := addressesAt + 8
	if (key[0] == protocolTCP || key[0] == protocolUDP) && len(frame) >= end+4 {
		end += 4
	}
	copy(key[1:], frame[addressesAt:end])
	return key
}

// flow is what waits of one conversation.
type flow struct {
	key     flowKey
	frames  []waiting
	cost    int
	credit  int  // bytes that it may send in this round; below zero: what it has sent too much
	isFresh bool // it is in the list of those that go first
}

// fairQueue gives every conversation its turn (deficit round robin), and one that begins to send goes before those that
// are at it, once: as fq_codel of Linux has it. So what fills a slow network waits for itself, and nobody else does. Safe
// for use by many goroutines.
type fairQueue struct {
	limit   int // of the cost of all that waits
	quantum int // what a turn is worth, in bytes
	ready   chan struct{}

	mutex      sync.Mutex
	cost       int
	flows      map[flowKey]*flow
	fresh, old []*flow
	empty      int // how many flows have no frames
	inARow     int // frames of fresh ones while there were old ones
}

func newFairQueue(of limit) *fairQueue {
	limit := of.during(longestQueue)
	if limit < leastQueue {
		limit = leastQueue
	}
	if limit > mostQueue {
		limit = mostQueue
	}
	return &fairQueue{limit: limit, quantum: lengthSize + ethernetSize + of.mtu, ready: make(chan struct{}, 1),
		flows: map[flowKey]*flow{}}
}

// push takes a copy of the frame, or says that it is lost: a conversation may have no more waiting than there is room for
// others. So one alone has up to half of all, each that comes has less than those before, and of very many the last have
// nothing.
func (q *fairQueue) push(w waiting) bool {
	key, cost := flowOf(w.message[lengthSize:]), len(w.message)+frameCost
	q.mutex.Lock()
	defer q.mutex.Unlock()
	f := q.flows[key]
	had := 0
	if f != nil {
		had = f.cost
	}
	if had+cost > q.limit-q.cost {
		return false
	}
	if f == nil {
		f = &flow{key: key, credit: q.quantum, isFresh: true}
		q.flows[key] = f
		q.fresh = append(q.fresh, f)
	} else if len(f.frames) == 0 {
		q.empty--
	}
	w.message = append([]byte(nil), w.message...) // Its memory is used again.
	f.frames = append(f.frames, w)
	f.cost += cost
	q.cost += cost
	select {
	case q.ready <- struct{}{}:
	default: // It knows.
	}
	return true
}

// pop gives the next frame; false when none waits.
func (q *fairQueue) pop() (waiting, bool) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	for {
		list := q.turn()
		if len(*list) == 0 {
			return waiting{}, false
		}
		f := (*list)[0]
		switch {
		case f.credit <= 0:
			f.credit += q.quantum
			q.retire(list)
		case len(f.frames) > 0:
			return q.take(list), true
		case f.isFresh && len(q.old) > 0:
			q.retire(list) // Else who sends one frame at a time would be fresh each time.
		default:
			q.empty--
			q.forget(list)
		}
	}
}

// turn is the list that is looked at next.
func (q *fairQueue) turn() *[]*flow {
	if len(q.fresh) == 0 || q.inARow >= freshInARow && len(q.old) > 0 {
		return &q.old
	}
	return &q.fresh
}

// take gives the next frame of the first of a list.
func (q *fairQueue) take(list *[]*flow) waiting {
	f := (*list)[0]
	w := f.frames[0]
	f.frames[0] = waiting{}
	f.frames = f.frames[1:]
	f.credit -= len(w.message)
	f.cost -= len(w.message) + frameCost
	q.cost -= len(w.message) + frameCost
	if f.isFresh && len(q.old) > 0 {
		q.inARow++
	} else {
		q.inARow = 0
	}
	if len(f.frames) > 0 {
		return w
	}
	f.frames = nil
	if q.empty < emptyFlows {
		q.empty++
	} else {
		q.forget(list)
	}
	return w
}

// forget removes the first of a list.
func (q *fairQueue) forget(list *[]*flow) {
	delete(q.flows, (*list)[0].key)
	(*list)[0] = nil
	*list = (*list)[1:]
}

// retire puts the first of a list behind those that have had their turn.
func (q *fairQueue) retire(list *[]*flow) {
	f := (*list)[0]
	(*list)[0] = nil
	*list = (*list)[1:]
	f.isFresh = false
	q.old = append(q.old, f)
}

// crowd is how many conversations have frames waiting, and at least 1.
func (q *fairQueue) crowd() int {
	if q == nil {
		return 1
	}
	q.mutex.Lock()
	defer q.mutex.Unlock()
	if len(q.flows) == q.empty {
		return 1
	}
	return len(q.flows) - q.empty
}
