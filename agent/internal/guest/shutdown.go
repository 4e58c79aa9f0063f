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
	err := frame.Each(payload, func(f frame.Field) error {
		if f.Tag != 10 {
			return nil
		}
		ms, err := f.U32()
		grace = time.Duration(ms) * time.Millisecond
		return err
	})
	if err != nil {
		return nil, err
	}
	if grace > maxGrace {
		grace = maxGrace
	}
	return func() session.Result {
		m.Settle(grace)
		return session.Result{After: m.PowerOff}
	}, nil
}

// Settle ends all processes and leaves the disks consistent and read-only. It says so on the console, by which the
// host tells this end from a crash.
func (m *Machine) Settle(grace time.Duration) {
	m.Starter.Reaper.Close()
	if !command.Idle() {
		_ = syscall.Kill(-1, syscall.SIGTERM)
		// A stopped process can only act on its SIGTERM when it runs.
		_ = syscall.Kill(-1, syscall.SIGCONT)
		if !waitIdle(grace) {
			_ = syscall.Kill(-1, syscall.SIGKILL)
			waitIdle(killWait)
		}
	}
	freezeDisks()
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
	failed := false
	mounts, err := os.ReadFile("/proc/self/mounts")
	lines := strings.Split(strings.TrimSpace(string(mounts)), "\n")
	for i := len(lines) - 1; i >= 0 && err == nil; i-- {
		words := strings.Fields(lines[i])
		if len(words) < 4 || !strings.HasPrefix(words[0], "/dev/") {
			continue
		}
		if syscall.Mount("", unescape(words[1]), "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "") != nil {
			failed = true
		}
	}
	if err != nil || failed {
		syscall.Sync()
	}
}

// unescape undoes the octal escapes of /proc/self/mounts.
func unescape(path string) string {
	for _, pair := range [][2]string{{`\040`, " "}, {`\011`, "\t"}, {`\012`, "\n"}, {`\134`, `\`}} {
		path = strings.Replace(path, pair[0], pair[1], -1)
	}
	return path
}
