package guest

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/command"
)

// warmLimit bounds how long the program that warms up may take.
const warmLimit = time.Second

// warmth makes a machine that goes on from an image run a program at once, beside its configuration. An emulator has
// forgotten the code it had translated; starting, linking and ending any program makes it translate what the user's
// first command needs, in the time in which the other vCPU serves the host.
type warmth struct {
	rested int32 // atomic; 1 from settle to the first wake
	warm   func()
}

// rest says that the machine may be frozen from now on.
func (w *warmth) rest() { atomic.StoreInt32(&w.rested, 1) }

// wake is called when the host says that there is time for it.
func (w *warmth) wake() {
	if atomic.CompareAndSwapInt32(&w.rested, 1, 0) {
		go w.warm()
	}
}

// forget: from now on what would be run may be the user's.
func (w *warmth) forget() { atomic.StoreInt32(&w.rested, 0) }

// warmUp runs the image's shell, which does nothing. Nothing of the user's has run before settle, so it is the image's.
func warmUp(starter *command.Starter) {
	if runtime.NumCPU() == 1 {
		return // it would only delay the configuration
	}
	fd, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer syscall.Close(fd)
	null := uintptr(fd)
	p, failed := starter.Start(&command.Spec{Argv: []string{"/bin/sh", "-c", ":"}, Dir: "/"}, [3]uintptr{null, null, null})
	if failed != nil {
		return
	}
	select {
	case <-p.Done:
	case <-time.After(warmLimit):
	}
	p.KillAll()
	<-p.Done
	p.Release()
}
