// Package mount makes directories of the host visible in the guest: it mounts the kernel's FUSE and carries its messages
// between /dev/fuse and the host, which answers them. It does not know what they say.
package mount

import (
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/fuse"
	"smolvm.dev/agent/internal/session"
)

const (
	maxMounts = 64
	maxPath   = 4095
	device    = "/dev/fuse"
	// lowerDirs is where the host's side of a mount with a private overlay is, one directory for each.
	lowerDirs = "/run/smolvm/mounts/"
	// upperDirs is where the guest's side is: on its own disk, so that it lasts.
	upperDirs = "/var/lib/smolvm/mounts/"
	// sourcePrefix marks our mounts in /proc/self/mountinfo.
	sourcePrefix = "smolvm-mount-"
	// readAheadKiB is how much of a file that is read in order is asked for in advance.
	readAheadKiB = "1024"
	// replaceLimit is how long an earlier mount may take to end before it is no longer waited for.
	replaceLimit = 5 * time.Second

	tagGuestPath = 10
	tagWritable  = 12
	tagIndex     = 13
)

// Mounts is all mounts of this machine.
type Mounts struct {
	Log func(string)
	// LoadOverlay makes sure that the kernel has the overlay file system, if it can be had; nil: nothing can be done.
	LoadOverlay func() error

	forks forks

	mu      sync.Mutex
	current map[uint32]*mounted
}

// mounted is one mount, from the request on.
type mounted struct {
	index    uint32
	path     string
	writable bool

	replaced chan struct{} // closed when another one takes its place
	ended    chan struct{} // closed when nothing of it is being done any more
	before   *mounted      // what it takes the place of

	root *os.File // O_PATH: keeps what is dead mounted, so that its path never turns into an empty directory
}

// Operation is the exchange `mount` of docs/guest-protocol.md.
func (m *Mounts) Operation(payload []byte) (func(*session.Exchange) session.Result, error) {
	asked := &mounted{replaced: make(chan struct{}), ended: make(chan struct{})}
	err := frame.Each(payload, func(f frame.Field) (err error) {
		switch f.Tag {
		case tagGuestPath:
			asked.path = string(f.Value)
		case tagWritable:
			asked.writable, err = f.Flag()
		case tagIndex:
			asked.index, err = f.U32()
		}
		return err
	})
	if err == nil && (asked.index >= maxMounts || len(asked.path) > maxPath) {
		err = frame.ErrField
	}
	if err != nil {
		return nil, err
	}
	return func(x *session.Exchange) session.Result {
		m.take(asked)
		defer close(asked.ended)
		m.forks.begin()
		defer m.forks.end()
		return result(m.serve(asked, x))
	}, nil
}

func result(err error) session.Result {
	if err == nil {
		return session.Result{}
	}
	failure := &command.Failure{Code: "EIO", Message: err.Error()}
	if told, ok := err.(*stepError); ok {
		failure.Code = command.ErrnoName(told.errno)
	}
	return session.Result{Failed: failure}
}

// stepError is what did not work, in words and as a number.
type stepError struct {
	what  string
	errno error
}

func (e *stepError) Error() string { return e.what + ": " + e.errno.Error() }

func fail(what string, err error) error {
	switch e := err.(type) {
	case *os.PathError:
		err = e.Err
	case *os.SyscallError:
		err = e.Err
	}
	return &stepError{what, err}
}

// take puts a mount into the place of another one and ends that.
func (m *Mounts) take(asked *mounted) {
	m.mu.Lock()
	if m.current == nil {
		m.current = make(map[uint32]*mounted)
	}
	asked.before = m.current[asked.index]
	m.current[asked.index] = asked
	if asked.before != nil {
		close(asked.before.replaced)
	}
	m.mu.Unlock()
}

// serve mounts and carries messages until one side ends it. It never takes the mount away again, unless it could never
// be used: whoever uses it gets errors, not an empty directory.
func (m *Mounts) serve(asked *mounted, x *session.Exchange) error {
	if before := asked.before; before != nil {
		asked.before = nil
		select {
		case <-before.ended:
			before.release()
		case <-time.After(replaceLimit):
			m.Log("an earlier mount at " + before.path + " does not end")
		}
	}
	if err := checkPath(asked.path); err != nil {
		return err
	}
	unmountAll(asked.source())
	relay, err := asked.mountFuse(x)
	if err != nil {
		unmountAll(asked.source())
		return err
	}
	stopped := make(chan struct{})
	go func() {
		select {
		case <-x.Cancelled():
		case <-asked.replaced:
		case <-relay.ended:
		}
		// All that waits for an answer gets an error now. Closing the device is not enough: a child that is between its
		// fork and its exec has a descriptor of it, and may be what waits. The root, held open, keeps it mounted.
		relay.stop()
		_ = syscall.Unmount("/proc/self/fd/"+strconv.Itoa(int(asked.root.Fd())), mntForce)
		close(stopped)
	}()
	if err = m.finish(asked); err == nil {
		_, err = x.WriteChannel(frame.Stderr, []byte{1})
	}
	if err != nil {
		relay.stop()
		<-stopped
		asked.release()
		unmountAll(asked.source())
		return err
	}
	<-stopped
	if relay.unmounted {
		asked.release()
		unmountAll(asked.source()) // such as the overlay's lower directory
	}
	return nil
}

// release lets go of what keeps a mount in place.
func (a *mounted) release() {
	if a.root != nil {
		_ = a.root.Close()
		a.root = nil
	}
}

func (a *mounted) number() string { return strconv.FormatUint(uint64(a.index), 10) }
func (a *mounted) source() string { return sourcePrefix + a.number() }

// fusePath is where the host's files are: at the path itself, or below an overlay.
func (a *mounted) fusePath() string {
	if a.writable {
		return a.path
	}
	return lowerDirs + a.number() + "/lower"
}

// mountFuse mounts the host's files and begins to carry messages.
func (a *mounted) mountFuse(x io.ReadWriter) (*relay, error) {
	fd, err := syscall.Open(device, syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fail("Cannot mount: this guest's kernel offers no "+device, err)
	}
	at := a.fusePath()
	options := "fd=" + strconv.Itoa(fd) + ",rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,max_read=" +
		strconv.Itoa(fuse.MaxTransfer)
	flags := uintptr(syscall.MS_NOSUID | syscall.MS_NODEV)
	if !a.writable {
		flags |= syscall.MS_RDONLY
	}
	if err = os.MkdirAll(at, 0o755); err == nil {
		err = syscall.Mount(a.source(), at, "fuse.smolvm", flags, options)
	}
	if err != nil {
		_ = syscall.Close(fd)
		return nil, fail("Cannot mount at \""+at+"\"", err)
	}
	// An O_PATH descriptor asks the host nothing, which could not answer yet.
	if a.root, err = os.OpenFile(at, oPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0); err != nil {
		_ = syscall.Close(fd)
		return nil, fail("Cannot open what is mounted at \""+at+"\"", err)
	}
	// Only now can the runtime wait for it: before, the kernel says that there is nothing to wait for.
	relay := newRelay(os.NewFile(uintptr(fd), device), x)
	relay.start()
	return relay, nil
}

// finish makes the files visible at their path and returns when the host has answered for them.
func (m *Mounts) finish(a *mounted) error {
	a.readAhead()
	if !a.writable {
		if m.LoadOverlay != nil {
			if err := m.LoadOverlay(); err != nil {
				m.Log("cannot load the overlay module: " + err.Error())
			}
		}
		return a.mountOverlay()
	}
	var stat syscall.Statfs_t
	if err := syscall.Statfs(a.path, &stat); err != nil {
		return fail("Cannot use what is mounted at \""+a.path+"\"", err)
	}
	return nil
}

// readAhead has the kernel ask for more at once than it would: an answer costs more to wait for than to carry.
func (a *mounted) readAhead() {
	var stat syscall.Stat_t
	if syscall.Fstat(int(a.root.Fd()), &stat) != nil {
		return // the host does not answer, which shows in a moment
	}
	major, minor := stat.Dev>>8&0xfff, stat.Dev&0xff|stat.Dev>>12&0xfff00
	setting := "/sys/class/bdi/" + strconv.FormatUint(major, 10) + ":" + strconv.FormatUint(minor, 10) + "/read_ahead_kb"
	if fd, err := syscall.Open(setting, syscall.O_WRONLY|syscall.O_CLOEXEC, 0); err == nil {
		_, _ = syscall.Write(fd, []byte(readAheadKiB))
		_ = syscall.Close(fd)
	}
}

// mountOverlay keeps what the guest writes on its own disk, above what the host has.
func (a *mounted) mountOverlay() error {
	upper, work := upperDirs+a.number()+"/upper", upperDirs+a.number()+"/work"
	for _, dir := range []string{upper, work, a.path} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fail("Cannot make directory \""+dir+"\"", err)
		}
	}
	// The index would refuse an upper layer that a dead mount still holds.
	options := "index=off,lowerdir=" + a.fusePath() + ",upperdir=" + upper + ",workdir=" + work
	err := syscall.Mount(a.source(), a.path, "overlay", syscall.MS_NOSUID|syscall.MS_NODEV, options)
	if err == syscall.ENODEV {
		return fail("Cannot mount at \""+a.path+"\": this guest's kernel has no overlay file system", err)
	}
	if err != nil {
		return fail("Cannot mount an overlay at \""+a.path+"\"", err)
	}
	return nil
}

// taken are directories without which nothing works, and what is below them.
var taken = []string{"/proc", "/sys", "/dev", "/run/smolvm", "/var/lib/smolvm"}

func checkPath(p string) error {
	refused := p == "" || p[0] != '/' || p == "/" || path.Clean(p) != p || strings.IndexByte(p, 0) >= 0
	for _, dir := range taken {
		refused = refused || p == dir || strings.HasPrefix(p, dir+"/")
	}
	if refused {
		return fail("Cannot mount at \""+p+"\"", syscall.EINVAL)
	}
	return nil
}
