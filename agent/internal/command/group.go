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
	// taskShare, in percent, is how much of the tasks that the kernel allows may be those of commands. The rest is for
	// the kernel and for the agent: a Go program that cannot have a thread ends, and with PID 1 the VM.
	taskShare = 80
)

// Groups hands out one cgroup for each command. Making and removing them costs milliseconds in a slow guest, so
// one is kept ready and the rest happens in the background.
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
	g := &Groups{base: base, spare: make(chan *group, 1), wake: make(chan struct{}, 1)}
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
		if len(g.spare) == 0 {
			if fresh := g.create(); fresh != nil {
				g.spare <- fresh
			}
		}
		g.removeRetired()
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
	killer, err := syscall.Open(path+"/cgroup.kill", syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		killer = -1
	}
	return &group{owner: g, path: path, dir: dir, killer: killer}
}

func (g *Groups) removeRetired() {
	g.mu.Lock()
	retired := g.retired
	g.retired = nil
	g.mu.Unlock()
	var busy []*group
	for _, old := range retired {
		// Killed processes leave their cgroup a moment after; it is tried again at the next command.
		if syscall.Rmdir(old.path) == syscall.EBUSY {
			busy = append(busy, old)
		}
	}
	g.mu.Lock()
	g.retired = append(g.retired, busy...)
	if extra := len(g.retired) - retiredLimit; extra > 0 {
		g.retired = append([]*group(nil), g.retired[extra:]...)
	}
	g.mu.Unlock()
}

// kill sends SIGKILL to all that is in the cgroup.
func (c *group) kill() error {
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

// taken tells the background that a new spare is wanted; it is called when the command already runs.
func (c *group) taken() { c.owner.nudge() }

// populated reports whether a process is left in the cgroup. Killed processes leave it a moment after the kill.
func (c *group) populated() bool {
	events, err := os.ReadFile(c.path + "/cgroup.events")
	return err == nil && strings.Contains(string(events), "populated 1")
}

// retire closes the cgroup's descriptors and lets the background remove it.
func (c *group) retire() {
	_ = syscall.Close(c.dir)
	if c.killer >= 0 {
		_ = syscall.Close(c.killer)
	}
	c.owner.mu.Lock()
	c.owner.retired = append(c.owner.retired, c)
	c.owner.mu.Unlock()
	c.owner.nudge()
}
