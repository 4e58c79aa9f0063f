package egress

import (
	"testing"
	"time"
)

// fakeBucket sleeps by moving its own clock.
func fakeBucket(perSecond int64) (*Bucket, *time.Time, *int) {
	b := NewBucket(perSecond)
	clock, sleeps := time.Unix(1000, 0), 0
	b.now = func() time.Time { return clock }
	b.sleep = func(d time.Duration) { clock = clock.Add(d); sleeps++ }
	b.last = clock
	return b, &clock, &sleeps
}

func TestBucketHoldsItsRate(t *testing.T) {
	const rate, frame, seconds = 12_500_000, 1514, 3 // 100 Mbit/s
	b, clock, sleeps := fakeBucket(rate)
	start := *clock
	sent := 0
	for clock.Sub(start) < seconds*time.Second {
		b.Wait(frame)
		sent += frame
	}
	most := rate*seconds + rate*int(bucketBurst+2*bucketPause)/int(time.Second)
	if sent < rate*seconds || sent > most {
		t.Errorf("%d bytes in %d s, wanted %d to %d", sent, seconds, rate*seconds, most)
	}
	if limit := seconds * int(time.Second/bucketPause); *sleeps > limit {
		t.Errorf("slept %d times, at most %d wanted", *sleeps, limit)
	}
}

func TestBucketForgetsALongRest(t *testing.T) {
	b, clock, sleeps := fakeBucket(1000)
	*clock = clock.Add(time.Hour)
	b.Wait(20) // the burst
	if *sleeps != 0 {
		t.Error("the burst waited")
	}
	before := *clock
	b.Wait(1000)
	if got := clock.Sub(before); got != time.Second {
		t.Errorf("1000 bytes at 1000 B/s took %s", got)
	}
}

func TestNoBucket(t *testing.T) {
	for _, rate := range []int64{0, -1} {
		b := NewBucket(rate)
		if b != nil {
			t.Errorf("rate %d gives a bucket", rate)
		}
		b.Wait(1 << 30)
	}
}
