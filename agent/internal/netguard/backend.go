package netguard

import (
	"errors"
	"sync"
	"time"
)

const (
	// firstPause and longestPause bound the time between a passt's end and its next start.
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	// healthyAfter is how long a passt must have lived for its next start to be a first one again.
	healthyAfter = 10 * time.Second
	// settleLimit bounds the wait for a write that began before the rules changed.
	settleLimit = time.Second
	// downLimit bounds the wait for the end of a passt: control must not depend on what the guest takes. A passt that
	// has to be killed is (exitGrace).
	downLimit = exitGrace + exitGrace/2
	// lastDownLimit bounds the wait for what was left of an earlier passt, before there is another.
	lastDownLimit = 5 * time.Second
)

// errStillEnding means that what carried an earlier passt's frames is not done with them.
var errStillEnding = errors.New("an earlier passt has not ended yet")

// backend keeps one passt running.
type backend struct {
	name string
	// start makes a passt that answers.
	start func() (*link, error)
	// serve carries its frames until it ends, or quit is closed.
	serve func(from *link, quit <-chan struct{})
	// ended is told of each end but the one of stop.
	ended func()
	log   *Messages

	writing chan struct{} // holds one token while nobody writes
	mutex   sync.Mutex
	link    *link         // nil while none runs
	quit    chan struct{} // nil while none is wanted
	done    chan struct{} // closed once nothing is left of the latest
}

func newBackend(name string, log *Messages) *backend {
	b := &backend{name: name, log: log, writing: make(chan struct{}, 1)}
	b.writing <- struct{}{}
	return b
}

// up starts passt, once; it is kept running from then on.
func (b *backend) up() error {
	b.mutex.Lock()
	running, last := b.quit != nil, b.done
	b.mutex.Unlock()
	if running {
		return nil
	}
	if last != nil && !isClosedWithin(last, lastDownLimit) {
		return errStillEnding
	}
	first, err := b.start()
	if err != nil {
		return err
	}
	quit, done := make(chan struct{}), make(chan struct{})
	b.mutex.Lock()
	b.quit, b.done, b.link = quit, done, first
	b.mutex.Unlock()
	go b.keep(first, quit, done)
	return nil
}

// down ends passt, and waits for its end a little.
func (b *backend) down() {
	b.mutex.Lock()
	quit, done, link := b.quit, b.done, b.link
	b.quit, b.link = nil, nil
	b.mutex.Unlock()
	if quit == nil {
		return
	}
	close(quit)
	if link != nil {
		_ = link.Close()
	}
	isClosedWithin(done, downLimit)
}

func (b *backend) keep(running *link, quit, done chan struct{}) {
	defer close(done)
	pause := firstPause
	for {
		began := time.Now()
		if running != nil {
			b.serve(running, quit)
			b.setLink(nil, quit)
			running.stop()
		}
		if isClosed(quit) {
			return
		}
		if running != nil {
			b.ended()
			b.log.Printf("netguard: %s ended; it is started again", b.name)
		}
		if running != nil && time.Since(began) >= healthyAfter {
			pause = firstPause
		}
		select {
		case <-quit:
			return
		case <-time.After(pause):
		}
		if pause *= 2; pause > longestPause {
			pause = longestPause
		}
		var err error
		if running, err = b.start(); err != nil {
			b.log.Printf("netguard: %s: %v", b.name, err)
			running = nil
			continue
		}
		b.setLink(running, quit)
		if isClosed(quit) {
			_ = running.Close() // down has not seen it.
		}
	}
}

// setLink does nothing once down was called.
func (b *backend) setLink(to *link, quit chan struct{}) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.quit == quit {
		b.link = to
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func isClosedWithin(c <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}

// write sends whole frames, unless `still` says no when its turn has come. What is sent to a passt that does not run is
// lost, as on any network; then it tells false.
func (b *backend) write(messages []byte, still func() bool) bool {
	<-b.writing
	defer func() { b.writing <- struct{}{} }()
	b.mutex.Lock()
	to := b.link
	b.mutex.Unlock()
	if to == nil || !still() {
		return false
	}
	_, err := to.Write(messages)
	return err == nil
}

// settle returns when no write goes on that began before. passt may be slow to read while the VM is paused; then it is
// ended, and started again.
func (b *backend) settle() {
	select {
	case <-b.writing:
	case <-time.After(settleLimit):
		b.mutex.Lock()
		if b.link != nil {
			_ = b.link.Close()
		}
		b.mutex.Unlock()
		<-b.writing
	}
	b.writing <- struct{}{}
}
