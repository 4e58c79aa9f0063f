package boot

import (
	"os"
	"syscall"
	"unsafe"
)

const (
	// openFiles and openFilesHard are the limits of the agent and, by inheritance, of all commands.
	openFiles     = 65536
	openFilesHard = 1048576
)

// Run takes PID 1 from the first instruction to a usable root. It returns only when that has worked.
func Run() Params {
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		_ = os.Mkdir(dir, 0o755)
	}
	mountOr("devtmpfs", "/dev", syscall.MS_NOSUID, "mode=0755")
	mountOr("proc", "/proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "")
	mountOr("sysfs", "/sys", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "")
	openConsole()
	Log("boot") // The host reads from its last boot on; see console-log.ts.
	params := ReadParams()
	restart = params.Get("smolvm.poweroff") == "restart"
	// Ctrl-Alt-Del, Firecracker's way to ask for an end, becomes a SIGINT.
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_CAD_OFF)
	loadModules(params)
	if params.Get("smolvm.probe") == "1" {
		writeConsole("SMOLVM-PROBE-OK\n")
		PowerOff()
	}
	loadDeviceModules(virtioKinds(virtioDevices), func(name string) error { return loadModule(name, params) })
	mountRoot(params)
	mountRest()
	loopbackUp()
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: openFiles, Max: openFilesHard})
	return params
}

// mountRest mounts what programs expect besides the root. The image may lack anything and be read-only.
func mountRest() {
	_ = os.Mkdir("/dev/pts", 0o755)
	_ = os.Mkdir("/dev/shm", 0o1777)
	mountOr("devpts", "/dev/pts", syscall.MS_NOSUID|syscall.MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666")
	mountOr("tmpfs", "/dev/shm", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=1777")
	for _, link := range [][2]string{{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"},
		{"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"}} {
		_ = os.Symlink(link[0], link[1])
	}
	_ = os.Mkdir("/run", 0o755)
	mountOr("tmpfs", "/run", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=0755")
	if !writable("/tmp") {
		_ = os.Mkdir("/tmp", 0o1777)
		mountOr("tmpfs", "/tmp", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=1777")
	}
	mountOr("cgroup2", "/sys/fs/cgroup", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, "")
}

func mountOr(kind, target string, flags uintptr, options string) {
	err := syscall.Mount(kind, target, kind, flags, options)
	if err != nil && err != syscall.EBUSY { // the kernel may have mounted it itself
		Log("cannot mount " + kind + " at " + target + ": " + err.Error())
	}
}

// writable reports a directory in which files can be made.
func writable(dir string) bool {
	const writeOK = 2 // W_OK; a read-only file system says EROFS even to root
	return syscall.Access(dir, writeOK) == nil
}

// loopbackUp sets IFF_UP on lo; the kernel adds the addresses.
func loopbackUp() {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer syscall.Close(fd)
	request := struct { // struct ifreq
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{flags: syscall.IFF_UP | syscall.IFF_RUNNING}
	copy(request.name[:], "lo")
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		Log("cannot bring up lo: " + errno.Error())
	}
}
