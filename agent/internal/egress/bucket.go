package egress

import (
	"sync"
	"time"
)

const (
	// bucketBurst is what may go at once after a rest: with less, the pauses of a TCP connection would cost it speed.
	bucketBurst = 20 * time.Millisecond
	// bucketPause is the shortest sleep: bytes go ahead for so long before the sender is stopped, so that it wakes up
	// some hundred times a second and not once for each frame.
	bucketPause = 4 * time.Millisecond
)

// Bucket lets through so many bytes a second. A nil *Bucket lets everything through.
type Bucket struct {
	perSecond float64
	now       func() time.Time
	sleep     func(time.Duration)

	mu     sync.Mutex
	tokens float64 // bytes that may go now; below zero: bytes that have gone too early
	last   time.Time
}

// NewBucket makes one; a rate that is not above zero gives nil.
func NewBucket(bytesPerSecond int64) *Bucket {
	if bytesPerSecond <= 0 {
		return nil
	}
	b := &Bucket{perSecond: float64(bytesPerSecond), now: time.Now, sleep: time.Sleep}
	b.tokens, b.last = b.during(bucketBurst), b.now()
	return b
}

// Wait takes n bytes and returns when the next may go.
func (b *Bucket) Wait(n int) {
	if b == nil {
		return
	}
	if pause := b.take(n); pause >= bucketPause {
		b.sleep(pause)
	}
}

// take returns how long it lasts until all that was taken would have gone.
func (b *Bucket) take(n int) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	b.tokens += b.during(now.Sub(b.last))
	b.last = now
	if full := b.during(bucketBurst); b.tokens > full {
		b.tokens = full
	}
	b.tokens -= float64(n)
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / b.perSecond * float64(time.Second))
}

func (b *Bucket) during(passed time.Duration) float64 { return b.perSecond * passed.Seconds() }
