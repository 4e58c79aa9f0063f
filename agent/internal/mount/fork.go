package mount

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// forks keeps messages going while a child of ours is between its fork and its exec. Package syscall forks with
// CLONE_VFORK: until the exec is done, the thread that forked holds one of the scheduler's processors and does not
// yield. The exec may need a program, an interpreter or a directory of a mount, so it waits for messages that only
// this program carries. That works as long as there is a second processor, as long as forks are one at a time, and as
// long as nobody stops the world meanwhile, which would wait for the first processor. So while there are mounts,
// garbage is collected only when nobody forks.
type forks struct {
	// gate is held for reading by a fork without mounts, for writing by one with mounts and by whoever may stop the world.
	gate    sync.RWMutex
	mounts  int           // mounts that are served; changed under gate
	percent int           // the collector's own setting in the meantime
	stop    chan struct{} // ends the collecting
}

const (
	// leastProcessors: one for a fork, one for the messages that it waits for.
	leastProcessors = 2
	// collectEvery and collectAt are when garbage is collected: an idle agent has about 1 MiB of heap.
	collectEvery = 2 * time.Second
	collectAt    = 8 << 20
)

// begin returns when a mount may be made.
func (f *forks) begin() {
	f.gate.Lock()
	defer f.gate.Unlock()
	if f.mounts++; f.mounts > 1 {
		return
	}
	f.percent = debug.SetGCPercent(-1)
	n := runtime.GOMAXPROCS(0)
	if n < leastProcessors {
		n = leastProcessors
	}
	runtime.GOMAXPROCS(n) // also where it stays the same: newer runtimes then leave it alone
	runtime.GC()          // Whoever has just decided to begin a collection does so here, and not in the midst of a fork.
	f.stop = make(chan struct{})
	go f.collect(f.stop)
}

func (f *forks) end() {
	f.gate.Lock()
	defer f.gate.Unlock()
	if f.mounts--; f.mounts == 0 {
		close(f.stop)
		debug.SetGCPercent(f.percent)
	}
}

// collect is the garbage collector's trigger while there are mounts.
func (f *forks) collect(stop <-chan struct{}) {
	ticker := time.NewTicker(collectEvery)
	defer ticker.Stop()
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	limit := uint64(collectAt)
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		metrics.Read(heap)
		if heap[0].Value.Kind() != metrics.KindUint64 || heap[0].Value.Uint64() < limit {
			continue
		}
		f.gate.Lock()
		runtime.GC()
		f.gate.Unlock()
		metrics.Read(heap)
		if limit = 2 * heap[0].Value.Uint64(); limit < collectAt {
			limit = collectAt
		}
	}
}

// BeforeFork must be called before every fork of this program, and what it returns once the child has called exec.
func (m *Mounts) BeforeFork() (after func()) {
	f := &m.forks
	f.gate.RLock()
	if f.mounts == 0 {
		return f.gate.RUnlock
	}
	f.gate.RUnlock()
	f.gate.Lock()
	return f.gate.Unlock
}
