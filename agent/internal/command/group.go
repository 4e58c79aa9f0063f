package command

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

const (
	cgroup2Magic = 0x63677270
	// retiredLimit bounds the cgroups remembered because something still runs in them.
	retiredLimit = 1024
	// spareGroups is how many are kept ready. Making one holds a lock of the kernel's that starting and killing a command
	// need, so it happens when a command has ended, never while one starts.
	spareGroups = 2
	// taskShare, in percent, is how much of the tasks that the kernel allows may be those of commands. The rest is for
	// the kernel and for the agent: a Go program that cannot have a thread ends, and with PID 1 the VM.
	taskShare = 80
)

// Groups hands out one cgroup for each command. Making and removing them costs milliseconds in a slow guest, so some
// are kept ready, those of ended commands are used again, and the rest happens in the background.
type Groups struct {
	base  string
	spare chan *group
	wake  chan struct{}

	mu      sync.Mutex
	next    int
	retired []*group
}

type group struct {
	owner  *Groups
	path   string
	dir    int // descriptor of the directory, for CLONE_INTO_CGROUP
	killer int // descriptor of cgroup.kill, -1 before Linux 5.14
	watch  int // descriptor of cgroup.events
	killed bool
}

// NewGroups uses base, a directory that it makes inside a cgroup v2 mount. Nil means that there is none.
func NewGroups(base string) *Groups {
	var fs syscall.Statfs_t
	if syscall.Statfs(filepath.Dir(base), &fs) != nil || fs.Type != cgroup2Magic {
		return nil
	}
	if err := os.Mkdir(base, 0o755); err != nil && !os.IsExist(err) {
		return nil
	}
	g := &Groups{base: base, spare: make(chan *group, spareGroups), wake: make(chan struct{}, 1)}
	go g.maintain()
	return g
}

// limitTasks bounds the processes and threads of all commands together. A kernel or a mount without the controller
// leaves them unbounded.
func limitTasks(base, sysctls string) {
	most := 0
	for _, name := range []string{"pid_max", "threads-max"} {
		text, _ := os.ReadFile(sysctls + "/" + name)
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && n > 0 && (most == 0 || n < most) {
			most = n
		}
	}
	if most == 0 {
		return
	}
	// Only here: the cgroups of single commands need no account of their own, so base may have no other controller.
	if overwrite(filepath.Dir(base)+"/cgroup.subtree_control", "+pids") == nil {
		_ = overwrite(base+"/pids.max", strconv.Itoa(most*taskShare/100))
	}
}

// overwrite writes a file that is there.
func overwrite(path, text string) error {
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	_, err = syscall.Write(fd, []byte(text))
	return err
}

func (g *Groups) maintain() {
	limitTasks(g.base, "/proc/sys/kernel")
	for {
		g.sortRetired()
		for len(g.spare) < spareGroups {
			fresh := g.create()
			if fresh == nil {
				break
			}
			g.spare <- fresh // only this goroutine adds, so there is room
		}
		<-g.wake
	}
}

func (g *Groups) nudge() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// take returns a fresh cgroup, or nil when there can be none.
func (g *Groups) take() *group {
	if g == nil {
		return nil
	}
	select {
	case ready := <-g.spare:
		return ready
	default:
		return g.create()
	}
}

func (g *Groups) create() *group {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	g.next++
	path := g.base + "/" + strconv.Itoa(g.next)
	g.mu.Unlock()
	if err := syscall.Mkdir(path, 0o755); err != nil && err != syscall.EEXIST {
		return nil
	}
	dir, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		_ = syscall.Rmdir(path)
		return nil
	}
	// Open gives -1 for what is not there.
	killer, _ := syscall.Open(path+"/cgroup.kill", syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	watch, _ := syscall.Open(path+"/cgroup.events", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	return &group{owner: g, path: path, dir: dir, killer: killer, watch: watch}
}

// sortRetired takes the cgroups of ended commands: some are used again, the others go.
func (g *Groups) sortRetired() {
	g.mu.Lock()
	retired := g.retired
	g.retired = nil
	g.mu.Unlock()
	var busy []*group
	for _, old := range retired {
		if len(g.spare) < spareGroups && old.asNew() {
			g.spare <- old
			continue
		}
		old.close()
		// Killed processes leave their cgroup a moment after; it is tried again at the next command.
		if syscall.Rmdir(old.path) == syscall.EBUSY {
			busy = append(busy, old)
		}
	}
	g.mu.Lock()
	g.retired = append(g.retired, busy...)
	if extra := len(g.retired) - retiredLimit; extra > 0 {
		for _, old := range g.retired[:extra] {
			old.close()
		}
		g.retired = append([]*group(nil), g.retired[extra:]...)
	}
	g.mu.Unlock()
}

// asNew reports that the cgroup can serve another command: nothing is in it or below it, and it is not frozen.
func (c *group) asNew() bool {
	if c.dir < 0 || c.killed {
		return false
	}
	var stat syscall.Stat_t
	const noChildren = 2 // links of a directory without directories in it
	return syscall.Fstat(c.dir, &stat) == nil && stat.Nlink == noChildren && c.events() == "populated 0\nfrozen 0\n"
}

// kill sends SIGKILL to all that is in the cgroup.
//
// One that was killed is not used again: Linux since 6.12 takes a process that is born into it for one that the kill
// has missed (kill_seq in kernel/cgroup/cgroup.c), and kills it.
func (c *group) kill() error {
	if c.events() != "" && !c.populated() {
		return nil
	}
	c.killed = true
	if c.killer >= 0 {
		_, err := syscall.Write(c.killer, []byte("1"))
		return err
	}
	return c.killByList()
}

// killByList is for kernels without cgroup.kill: it repeats because the list may grow while it is walked.
func (c *group) killByList() error {
	for pass := 0; pass < killPasses; pass++ {
		list, err := os.ReadFile(c.path + "/cgroup.procs")
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return nil
		}
		pid := 0
		for _, b := range list {
			if b != '\n' {
				pid = pid*10 + int(b-'0')
				continue
			}
			if pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			pid = 0
		}
	}
	return nil
}

// add moves a process into the cgroup, for Go before 1.20, which cannot start it there.
func (c *group) add(pid int) error {
	return overwrite(c.path+"/cgroup.procs", strconv.Itoa(pid))
}

// populated reports whether a process is left in the cgroup. Killed processes leave it a moment after the kill.
func (c *group) populated() bool { return strings.Contains(c.events(), "populated 1") }

func (c *group) events() string {
	var text [256]byte
	n, err := syscall.Pread(c.watch, text[:], 0)
	if err != nil {
		return ""
	}
	return string(text[:n])
}

// retire lets the background have the cgroup, when its command has ended.
func (c *group) retire() {
	c.owner.mu.Lock()
	c.owner.retired = append(c.owner.retired, c)
	c.owner.mu.Unlock()
	c.owner.nudge()
}

func (c *group) close() {
	for _, fd := range []*int{&c.dir, &c.killer, &c.watch} {
		if *fd >= 0 {
			_ = syscall.Close(*fd)
		}
		*fd = -1
	}
}
