package boot

import (
	"sync"
	"syscall"
)

// spares are modules that were not loaded at boot, as open files: the initramfs is emptied to give its memory back.
var spares = struct {
	mu    sync.Mutex
	files map[string]int
}{files: map[string]int{}}

// keepSpare keeps a module for LoadSpare, if there is one of this name.
func keepSpare(name string) {
	fd, err := syscall.Open(moduleDir+name+".ko", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err == nil {
		spares.files[name] = fd
	}
}

// LoadSpare loads a module that was kept, once. What has none may be built into the kernel: whoever needs it finds out.
func LoadSpare(name string) error {
	spares.mu.Lock()
	defer spares.mu.Unlock()
	fd, ok := spares.files[name]
	if !ok {
		return nil
	}
	err := initModule(fd, "")
	if err == nil || err == syscall.EEXIST {
		delete(spares.files, name)
		_ = syscall.Close(fd)
		return nil
	}
	return err
}
