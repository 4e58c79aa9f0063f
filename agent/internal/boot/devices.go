package boot

import (
	"os"
	"strings"
	"syscall"
)

const (
	virtioDevices = "/sys/bus/virtio/devices"
	// virtioVsock is the kind of a virtio-vsock device, as sysfs writes it; the numbers are those of the virtio
	// specification, 5 "Device Types".
	virtioVsock = "0x0013"
)

// deviceModules are loaded only where there is the device: each kind's modules, in the order in which they need each
// other. Those of disks and network are loaded at every boot.
var deviceModules = map[string][]string{
	"0x0004":    {"virtio_rng"},
	"0x0005":    {"virtio_balloon"},
	virtioVsock: {"vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"},
}

var hasVsock bool

// HasVsock says that the machine has a vsock device. Run has loaded its driver then, if it is a module.
func HasVsock() bool { return hasVsock }

// loadDeviceModules loads what the machine's virtio devices want: whatever they are attached by is built into the
// kernel or loaded, and has found them. A kernel may have any of the modules built in, an image may lack them.
func loadDeviceModules(kinds []string, load func(name string) error) {
	for _, kind := range kinds {
		for _, name := range deviceModules[kind] {
			if err := load(name); err != nil && err != syscall.EEXIST && err != syscall.ENOENT {
				Log("cannot load module " + name + ": " + err.Error())
			}
		}
		hasVsock = hasVsock || kind == virtioVsock
	}
}

// virtioKinds returns the kind of each device below a directory such as virtioDevices.
func virtioKinds(dir string) []string {
	devices, err := os.Open(dir)
	if err != nil {
		return nil
	}
	names, _ := devices.Readdirnames(-1)
	devices.Close()
	kinds := make([]string, 0, len(names))
	for _, name := range names {
		if kind, err := os.ReadFile(dir + "/" + name + "/device"); err == nil {
			kinds = append(kinds, strings.TrimSpace(string(kind)))
		}
	}
	return kinds
}
