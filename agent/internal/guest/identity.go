package guest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const tmpfsMagic = 0x01021994 // TMPFS_MAGIC, <linux/magic.h>

const (
	hostnameFile  = "/etc/hostname"
	hostsFile     = "/etc/hosts"
	machineIDFile = "/etc/machine-id"
	resolverFile  = "/etc/resolv.conf"
	bootIDFile    = "/proc/sys/kernel/random/boot_id"

	// memoryDir is where the files of the guest's identity are: in memory, so that a copy of the machine gets its own
	// without a write to its disk, which costs an emulated guest tens of milliseconds.
	memoryDir      = "/run/smolvm"
	generationFile = memoryDir + "/generation"
)

var identityFiles = []struct {
	path string
	mode uint32
}{{hostnameFile, 0o644}, {hostsFile, 0o644}, {machineIDFile, 0o444}, {resolverFile, 0o644}}

var errNoMemoryFile = errors.New("/run is not in memory")

// Identity holds the files that say which machine this is.
type Identity struct {
	root string // in front of every path; not empty in tests
	bind func(source, target string) error

	files      map[string]*heldFile // by path; what is missing is replaced on disk
	bound      map[string]bool      // those of files that are mounted over a file of the image
	ssh        *sshKeys
	bootIDText string
	bootID     *heldFile
	generation generation

	// random is an open /dev/urandom: opening it anew costs a fresh copy more than half of its entropy's price.
	random int
}

// TakeIdentity moves the files of the guest's identity to memory. It runs once, before anything of the guest's does.
func TakeIdentity(log func(string)) *Identity {
	i := &Identity{bind: func(source, target string) error {
		return syscall.Mount(source, target, "", syscall.MS_BIND, "")
	}}
	var fs syscall.Statfs_t
	inMemory := syscall.Statfs("/run", &fs) == nil && fs.Type == tmpfsMagic
	i.take(inMemory, log)
	random, err := syscall.Open("/dev/urandom", syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		log("cannot open /dev/urandom: " + err.Error())
	}
	i.random = random // -1 fails with EBADF where it is used
	return i
}

func (i *Identity) take(inMemory bool, log func(string)) {
	i.files, i.bound = map[string]*heldFile{}, map[string]bool{}
	text, _ := os.ReadFile(i.root + bootIDFile)
	i.bootIDText = strings.TrimSpace(string(text))
	i.ssh = &sshKeys{root: i.root, bind: i.bind}
	if !inMemory {
		return
	}
	note := func(what string, err error) {
		if err != nil {
			log("cannot keep " + what + " in memory: " + err.Error())
		}
	}
	if err := os.MkdirAll(i.root+memoryDir+"/etc", 0o755); err != nil {
		note("/etc", err)
		return
	}
	for _, file := range identityFiles {
		note(file.path, i.hold(file.path, file.mode))
	}
	note("SSH host keys", i.ssh.prepare())
	note("the boot id", i.holdBootID())
	var err error
	i.generation.file, err = newHeldFile(i.root+generationFile, i.generation.text(), 0o644)
	note("the generation", err)
}

func (i *Identity) holdBootID() error {
	source := i.root + memoryDir + "/boot_id"
	held, err := newHeldFile(source, i.bootIDText+"\n", 0o444)
	if err != nil {
		return err
	}
	if err := i.bind(source, i.root+bootIDFile); err != nil {
		_ = syscall.Close(held.fd)
		return err
	}
	i.bootID = held
	return nil
}

// hold puts a file of /etc in memory.
func (i *Identity) hold(path string, mode uint32) error {
	stat, err := os.Lstat(i.root + path)
	switch {
	case os.IsNotExist(err):
		if err := makeEmpty(i.root+path, mode); err != nil {
			return nil // a read-only image that lacks the file: nothing to mount over
		}
	case err != nil:
		return err
	case stat.Mode()&os.ModeSymlink != 0:
		return i.holdBehindLink(path, mode)
	case !stat.Mode().IsRegular():
		return nil
	}
	content, err := readRegular(i.root+path, false)
	if err != nil {
		return err
	}
	source := i.root + memoryDir + path
	held, err := newHeldFile(source, content, mode)
	if err != nil {
		return err
	}
	if err := i.bind(source, i.root+path); err != nil {
		_ = syscall.Close(held.fd)
		return err
	}
	i.files[path], i.bound[path] = held, true
	return nil
}

// holdBehindLink makes what a link into /run names, as resolv.conf often is: /run is empty now, and in memory. Any
// other link stays, and is replaced by a file on disk when there is something to write.
func (i *Identity) holdBehindLink(path string, mode uint32) error {
	link, err := os.Readlink(i.root + path)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(link, "/") {
		link = filepath.Dir(path) + "/" + link
	}
	target := filepath.Clean(link)
	if !strings.HasPrefix(target, "/run/") || strings.HasPrefix(target+"/", memoryDir+"/") {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(i.root+target), 0o755); err != nil {
		return err
	}
	held, err := newHeldFile(i.root+target, "", mode)
	if err == nil {
		i.files[path] = held
	}
	return err
}

func makeEmpty(path string, mode uint32) error {
	_ = os.Mkdir(filepath.Dir(path), 0o755)
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, mode)
	if err == nil {
		_ = syscall.Close(fd)
	}
	return err
}

// write gives a file of /etc its content.
func (i *Identity) write(path, content string, mode os.FileMode) error {
	if held := i.files[path]; held != nil {
		return held.write(content)
	}
	return replaceFile(i.root+path, content, mode)
}

func (i *Identity) read(path string) string {
	if held := i.files[path]; held != nil {
		content, _ := held.read()
		return content
	}
	content, _ := readRegular(i.root+path, true)
	return content
}

// saveChanges writes to the disk what the guest itself has changed, for the next boot. Nobody else runs any more.
func (i *Identity) saveChanges(unbind func(target string) error) {
	for _, file := range identityFiles {
		held := i.files[file.path]
		if held == nil || !i.bound[file.path] {
			continue
		}
		now, err := held.read()
		if err != nil || now == held.last {
			continue
		}
		if unbind(i.root+file.path) == nil {
			_ = replaceFile(i.root+file.path, now, os.FileMode(file.mode))
		}
	}
}
