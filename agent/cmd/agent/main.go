// Command agent is PID 1 of every SmolVM guest: /init of the initramfs, then the server of the host's channel.
package main

import (
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"smolvm.dev/agent/internal/boot"
	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/connect"
	"smolvm.dev/agent/internal/files"
	"smolvm.dev/agent/internal/guest"
	"smolvm.dev/agent/internal/lane"
	"smolvm.dev/agent/internal/mount"
	"smolvm.dev/agent/internal/session"
)

// version is what WELCOME reports; the build may set it with -ldflags "-X main.version=...".
var version = "0.1.0"

const commandGroups = "/sys/fs/cgroup/smolvm"

// collectAt, in percent, lets the heap grow to 8 MiB before it is collected: an idle agent has about 1 MiB, a command
// leaves some 10 KiB, and a collection costs an emulated guest as much as several commands do.
const collectAt = 200

func main() {
	if os.Getpid() != 1 {
		os.Stderr.WriteString("smolvm-agent " + version + " runs only as PID 1 of a guest\n")
		os.Exit(2)
	}
	debug.SetGCPercent(collectAt)
	boot.Run()
	guest.SwitchIPv6Off()
	window := &session.Window{}
	groups := command.NewGroups(commandGroups)
	freezer := command.NewFreezer(groups)
	processes := &session.Processes{}
	mounts := &mount.Mounts{Log: boot.Log, LoadOverlay: func() error { return boot.LoadSpare("overlay") }}
	machine := &guest.Machine{
		Starter: &command.Starter{
			Reaper:      command.NewReaper(),
			Groups:      groups,
			Environment: &command.Environment{},
			Freezer:     freezer,
			BeforeFork:  mounts.BeforeFork,
		},
		Identity:  guest.TakeIdentity(boot.Log),
		Network:   &guest.Network{},
		Window:    window,
		Freezer:   freezer,
		Processes: processes,
		PowerOff:  boot.PowerOff,
		Log:       boot.Log,
	}
	go obeySignals(machine)
	config := &session.Config{
		Starter:    machine.Starter,
		Window:     window,
		Processes:  processes,
		Operations: machine.Operations(),
		Exchanges:  files.Exchanges(),
		Version:    version,
		Log:        boot.Log,
	}
	for name, operation := range files.Operations() {
		config.Operations[name] = operation
	}
	config.Exchanges["mount"] = mounts.Operation
	config.Exchanges["net.connect"] = (&connect.Connector{}).Operation
	machine.ServeOverSSH(func(d session.Duplex) error { return session.Serve(d, config) })
	if boot.HasVsock() {
		go lane.WatchVsock(boot.Log, func(c *lane.Connection) error { return session.Serve(c, config) })
	}
	lane.Watch(boot.Log, func(p *lane.Port) error { return session.Serve(p, config) })
}

// obeySignals shuts down on SIGTERM and SIGINT. The others are caught because their default would end PID 1 and
// with it the VM; ignoring them instead would be inherited by every command.
func obeySignals(m *guest.Machine) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGABRT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGPWR,
		// Sent by somebody: those that a fault of our own raises still end the program.
		syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGSYS,
		syscall.SIGSTKFLT)
	for s := range signals {
		if s == syscall.SIGTERM || s == syscall.SIGINT {
			m.Settle(guest.DefaultGrace, true)
			m.PowerOff()
		}
	}
}
