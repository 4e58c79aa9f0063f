package boot

import (
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"syscall"
	"testing"
)

func machineWith(t *testing.T, kinds map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for device, kind := range kinds {
		if err := os.Mkdir(filepath.Join(dir, device), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, device, "device"), []byte(kind+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func loadedFor(t *testing.T, kinds map[string]string, answer error) []string {
	t.Helper()
	hasVsock = false
	var loaded []string
	loadDeviceModules(virtioKinds(machineWith(t, kinds)), func(name string) error {
		loaded = append(loaded, name)
		return answer
	})
	return loaded
}

func TestModulesOfDevicesThatAreNotThereStayUnloaded(t *testing.T) {
	qemu := map[string]string{"virtio0": "0x0001", "virtio1": "0x0002", "virtio2": "0x0003"}
	if loaded := loadedFor(t, qemu, nil); loaded != nil || HasVsock() {
		t.Errorf("loaded %q, vsock %v", loaded, HasVsock())
	}
	if kinds := virtioKinds(filepath.Join(t.TempDir(), "none")); kinds != nil {
		t.Errorf("%q", kinds)
	}
}

func TestModulesOfDevicesThatAreThere(t *testing.T) {
	firecracker := map[string]string{"virtio0": "0x0002", "virtio1": "0x0013", "virtio2": "0x0004"}
	// A module that is built in, loaded or not in the image leaves the others their chance.
	for _, answer := range []error{nil, syscall.EEXIST, syscall.ENOENT} {
		loaded := loadedFor(t, firecracker, answer)
		if !HasVsock() {
			t.Error("no vsock")
		}
		at := map[string]int{}
		for n, name := range loaded {
			at[name] = n + 1
		}
		if at["vsock"] == 0 || at["vsock"] > at["vmw_vsock_virtio_transport_common"] ||
			at["vmw_vsock_virtio_transport_common"] > at["vmw_vsock_virtio_transport"] {
			t.Errorf("in the order %q", loaded)
		}
		sort.Strings(loaded)
		want := []string{"virtio_rng", "vmw_vsock_virtio_transport", "vmw_vsock_virtio_transport_common", "vsock"}
		if !reflect.DeepEqual(loaded, want) {
			t.Errorf("%v: %q", answer, loaded)
		}
	}
	hasVsock = false
}
