package boot

import (
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"
)

const (
	moduleList = "/smolvm/modules"
	moduleDir  = "/smolvm/modules.d/"
)

// sysFinitModule: package syscall has the number only for some architectures.
func sysFinitModule() uintptr {
	if runtime.GOARCH == "amd64" {
		return 313
	}
	return 273 // arm64 and all others with the generic table
}

// loadModules loads the listed modules in order. A kernel may have any of them built in, so nothing here is fatal.
func loadModules(params Params) {
	list, err := os.ReadFile(moduleList)
	if err != nil {
		return
	}
	for _, name := range strings.Fields(string(list)) {
		if err := loadModule(name, params); err != nil && err != syscall.EEXIST {
			Log("cannot load module " + name + ": " + err.Error())
		}
	}
}

func loadModule(name string, params Params) error {
	fd, err := syscall.Open(moduleDir+name+".ko", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return initModule(fd, params.ForModule(name))
}

func initModule(fd int, params string) error {
	text, err := syscall.BytePtrFromString(params)
	if err != nil {
		return err
	}
	_, _, errno := syscall.Syscall(sysFinitModule(), uintptr(fd), uintptr(unsafe.Pointer(text)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
