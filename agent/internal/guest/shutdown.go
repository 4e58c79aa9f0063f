package guest

import (
	"os"
	"strings"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/session"
)

const (
	// DefaultGrace is how long processes get to end by themselves when nobody says otherwise.
	DefaultGrace = 2 * time.Second
	maxGrace     = 10 * time.Minute
	killWait     = 500 * time.Millisecond
	idlePoll     = time.Millisecond
)

func (m *Machine) shutdown(payload []byte) (func() session.Result, error) {
	grace := DefaultGrace
	closed := false
	err := frame.Each(payload, func(f frame.Field) (err error) {
		switch f.Tag {
		case 10:
			var ms uint32
			ms, err = f.U32()
			grace = time.Duration(ms) * time.Millisecond
		case 11:
			closed, err = f.Flag()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if grace > maxGrace {
		grace = maxGrace
	}
	return func() session.Result {
		m.Settle(grace, closed)
		return session.Result{After: m.PowerOff}
	}, nil
}

// Settle ends all processes and writes the disks out; closed, they are left as if unmounted, else a journal may have to
// be replayed at the next mount, which costs less than closing. It says so on the console, by which the host tells this
// end from a crash.
func (m *Machine) Settle(grace time.Duration, closed bool) {
	m.Starter.Reaper.Close()
	m.holds.close(m.Freezer.Thaw)
	if !command.Idle() {
		_ = syscall.Kill(-1, syscall.SIGTERM)
		// A stopped process can only act on its SIGTERM when it runs.
		_ = syscall.Kill(-1, syscall.SIGCONT)
		if !waitIdle(grace) {
			_ = syscall.Kill(-1, syscall.SIGKILL)
			waitIdle(killWait)
		}
	}
	m.Identity.saveChanges(func(target string) error { return syscall.Unmount(target, syscall.MNT_DETACH) })
	if closed {
		freezeDisks()
	} else {
		syscall.Sync()
	}
	m.Log("power off")
}

func waitIdle(limit time.Duration) bool {
	for end := time.Now().Add(limit); ; time.Sleep(idlePoll) {
		if command.Idle() {
			return true
		}
		if !time.Now().Before(end) {
			return false
		}
	}
}

// freezeDisks remounts every file system on a device read-only, the last mounted first, which also writes it out.
func freezeDisks() {
	hurryRCU()
	const mountinfo = "/proc/self/mountinfo"
	mounts, _ := os.ReadFile(mountinfo)
	frozen := map[string]bool{}
	for _, m := range writableDisks(string(mounts)) {
		if frozen[m.device] || syscall.Mount("", m.path, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "") != nil {
			continue
		}
		// Another mount may lie on top, which then was remounted in its place.
		if device, err := deviceAt(m.path); err == nil && device == m.device {
			frozen[m.device] = true
		}
	}
	// What is busy or hidden is written out at least.
	if mounts, err := os.ReadFile(mountinfo); err != nil || len(writableDisks(string(mounts))) > 0 {
		syscall.Sync()
	}
}

// hurryRCU makes the kernel's grace periods short: ext4 waits for one in a remount, else for several timer ticks.
func hurryRCU() {
	fd, err := syscall.Open("/sys/kernel/rcu_expedited", syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err == nil {
		_, _ = syscall.Write(fd, []byte("1"))
		_ = syscall.Close(fd)
	}
}

type diskMount struct{ device, path string }

// writableDisks reads mountinfo (proc(5)): the mounts of file systems that are on a device and not read-only as a
// whole, the last mounted first. A read-only bind mount of a writable file system counts.
func writableDisks(mountinfo string) []diskMount {
	var found []diskMount
	lines := strings.Split(mountinfo, "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		mount, super, ok := strings.Cut(lines[i], " - ")
		words, superWords := strings.Fields(mount), strings.Fields(super)
		if !ok || len(words) < 6 || len(superWords) < 3 || !strings.HasPrefix(superWords[1], "/dev/") {
			continue
		}
		if options := superWords[2]; options != "ro" && !strings.HasPrefix(options, "ro,") {
			found = append(found, diskMount{device: words[2], path: unescape(words[4])})
		}
	}
	return found
}

// unescape undoes the octal escapes of /proc/self/mountinfo.
func unescape(path string) string {
	for _, pair := range [][2]string{{`\040`, " "}, {`\011`, "\t"}, {`\012`, "\n"}, {`\134`, `\`}} {
		path = strings.Replace(path, pair[0], pair[1], -1)
	}
	return path
}
