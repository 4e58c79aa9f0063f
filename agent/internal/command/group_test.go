package command

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTasksOfCommandsAreBounded(t *testing.T) {
	for name, c := range map[string]struct{ pidMax, threadsMax, want string }{
		"threads":  {"32768\n", "3635\n", "2908"},
		"pids":     {"1000", "4000000\n", "800"},
		"one only": {"", "500\n", "400"},
		"none":     {"", "", "max"},
	} {
		root := t.TempDir()
		base, sysctls := filepath.Join(root, "smolvm"), filepath.Join(root, "kernel")
		for path, text := range map[string]string{
			root + "/cgroup.subtree_control": "", base + "/pids.max": "max",
			sysctls + "/pid_max": c.pidMax, sysctls + "/threads-max": c.threadsMax,
		} {
			_ = os.Mkdir(filepath.Dir(path), 0o755)
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		limitTasks(base, sysctls)
		got, _ := os.ReadFile(base + "/pids.max")
		if string(got) != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	limitTasks(t.TempDir()+"/smolvm", "/proc/sys/kernel") // without cgroup files: nothing happens
}
