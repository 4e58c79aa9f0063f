package netguard

import "smolvm.dev/agent/internal/egress"

// pacer lets frames of one direction through at a rate. Whoever brings them does not wait: QEMU's socket and the guest's
// own queues, in which everybody waits for everybody, would be full otherwise.
type pacer struct {
	queue  *fairQueue
	bucket *egress.Bucket
	send   func(waiting) bool // whether the frame counts; not when it is lost
}

// newPacer returns nil where there is no limit.
func newPacer(limit limit, send func(waiting) bool) *pacer {
	if limit.rate <= 0 {
		return nil
	}
	return &pacer{queue: newFairQueue(limit), bucket: egress.NewBucket(limit.rate), send: send}
}

// run sends until quit is closed.
func (p *pacer) run(quit <-chan struct{}) {
	for !isClosed(quit) {
		w, some := p.queue.pop()
		if !some {
			select {
			case <-p.queue.ready:
			case <-quit:
			}
			continue
		}
		if p.send(w) {
			p.bucket.Wait(len(w.message))
		}
	}
}
