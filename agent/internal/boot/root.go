package boot

import (
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	newRoot = "/newroot"
	// rootDeadline bounds the wait for the root device.
	rootDeadline = 10 * time.Second
	rootPoll     = time.Millisecond
)

// mountRoot mounts the root device and makes it /.
func mountRoot(params Params) {
	device := params.Get("smolvm.root")
	if device == "" {
		Fatal("no smolvm.root= on the kernel command line")
	}
	if !waitFor(device) {
		Fatal("root device " + device + " did not appear")
	}
	flags := uintptr(syscall.MS_NOATIME)
	if params.Get("smolvm.ro") == "1" {
		flags |= syscall.MS_RDONLY
	}
	if err := mountAny(device, flags, params.Get("smolvm.rootflags")); err != nil {
		Fatal("cannot mount root device " + device + ": " + err.Error())
	}
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		_ = os.Mkdir(newRoot+dir, 0o755)
		if err := syscall.Mount(dir, newRoot+dir, "", syscall.MS_MOVE, ""); err != nil {
			// A read-only image may lack the directory; without it commands can do little, but some can.
			Log("cannot move " + dir + " to the root: " + err.Error())
		}
	}
	keepSpare("overlay")
	// The initramfs stays mounted below the root for ever, so its files go, to give their memory back.
	_ = os.RemoveAll("/smolvm")
	_ = os.Remove("/init")
	enter(newRoot)
}

func enter(root string) {
	if err := syscall.Chdir(root); err != nil {
		Fatal("cannot enter the root: " + err.Error())
	}
	if err := syscall.Mount(".", "/", "", syscall.MS_MOVE, ""); err != nil {
		Fatal("cannot move the root: " + err.Error())
	}
	if err := syscall.Chroot("."); err != nil {
		Fatal("cannot change the root: " + err.Error())
	}
	_ = syscall.Chdir("/")
}

func waitFor(device string) bool {
	var stat syscall.Stat_t
	for end := time.Now().Add(rootDeadline); ; time.Sleep(rootPoll) {
		if syscall.Stat(device, &stat) == nil {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// mountAny tries ext4, then whatever else the kernel knows.
func mountAny(device string, flags uintptr, options string) error {
	_ = os.Mkdir(newRoot, 0o755)
	first := syscall.Mount(device, newRoot, "ext4", flags, options)
	if first == nil {
		return nil
	}
	known, _ := os.ReadFile("/proc/filesystems")
	for _, line := range strings.Split(string(known), "\n") {
		kind := strings.TrimPrefix(line, "\t")
		if kind == line || kind == "ext4" || kind == "" {
			continue // "nodev" stands before the tab of those that take no device
		}
		if syscall.Mount(device, newRoot, kind, flags, options) == nil {
			return nil
		}
	}
	return first
}
