package boot

import (
	"syscall"
	"time"
)

// restart says that the machine ends by a restart: QEMU's microvm has no power button, and with -no-reboot a
// restart is its exit.
var restart bool

// PowerOff ends the VM as soon as the console has the last lines. Whoever wants the disk consistent has seen to that
// before.
func PowerOff() {
	theConsole.drain(consoleDrain)
	how := syscall.LINUX_REBOOT_CMD_POWER_OFF
	if restart {
		how = syscall.LINUX_REBOOT_CMD_RESTART
	}
	for {
		_ = syscall.Reboot(how)
		// It does not return, unless it is not allowed; there is nothing else to do.
		time.Sleep(time.Second)
	}
}

// Fatal reports a boot that cannot go on and ends the VM, so that the host need not wait for its deadline.
func Fatal(text string) {
	Log("fatal: " + text)
	PowerOff()
}
