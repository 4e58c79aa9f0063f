package lane

import (
	"bytes"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	portClass = "/sys/class/virtio-ports"
	// portPrefix is how the names of our ports begin; others belong to somebody else.
	portPrefix = "smolvm."

	kobjectUevent = 15 // NETLINK_KOBJECT_UEVENT
	// pollInterval is how often to look where kernel events cannot be had.
	pollInterval = 50 * time.Millisecond
)

// Watch calls serve in a goroutine of its own for each port, also for one that appears later, and again after
// serve has returned and the port has come back. It does not return.
func Watch(log func(string), serve func(*Port) error) {
	w := &watcher{log: log, serve: serve, busy: make(map[string]bool), done: make(chan string, 64)}
	events, err := listenForEvents()
	if err != nil {
		log("no kernel events (" + err.Error() + "), polling for ports")
	}
	changed := make(chan struct{}, 1)
	go forwardEvents(events, changed)
	for {
		w.scan()
		select {
		case name := <-w.done:
			delete(w.busy, name)
		case <-changed:
		}
	}
}

type watcher struct {
	log   func(string)
	serve func(*Port) error
	busy  map[string]bool
	done  chan string
}

func (w *watcher) scan() {
	dir, err := os.Open(portClass)
	if err != nil {
		return
	}
	names, _ := dir.Readdirnames(-1)
	dir.Close()
	for _, name := range names {
		if w.busy[name] {
			continue
		}
		// The name arrives in a message of its own; a port without one is not ready yet.
		label, err := os.ReadFile(portClass + "/" + name + "/name")
		if err != nil || !strings.HasPrefix(string(label), portPrefix) {
			continue
		}
		port, err := OpenPort("/dev/" + name)
		if err != nil {
			w.log("cannot open port " + name + ": " + err.Error())
			continue
		}
		w.busy[name] = true
		go w.run(name, port)
	}
}

func (w *watcher) run(name string, port *Port) {
	err := w.serve(port)
	port.Close()
	if err != nil {
		w.log("port " + name + " ended: " + err.Error())
	}
	w.done <- name
}

// listenForEvents opens a socket that hears the kernel's device events.
func listenForEvents() (*os.File, error) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, kobjectUevent)
	if err != nil {
		return nil, err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK, Groups: 1}); err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "uevent"), nil
}

func forwardEvents(events *os.File, changed chan<- struct{}) {
	buffer := make([]byte, 8192)
	for {
		relevant := true
		if events == nil {
			time.Sleep(pollInterval)
		} else if n, err := events.Read(buffer); err == nil {
			relevant = bytes.Contains(buffer[:n], []byte("virtio-ports"))
		} else {
			// Events were lost (ENOBUFS), so look anyway, but never in a busy loop.
			time.Sleep(pollInterval)
		}
		if relevant {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}
}
