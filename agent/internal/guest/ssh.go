package guest

import (
	"errors"
	"os"
	"strings"
	"syscall"
)

const (
	sshDir       = "/etc/ssh"
	sshKeyName   = "ssh_host_ed25519_key"
	sshMemoryDir = memoryDir + sshDir
)

var errHalfKey = errors.New("needs both the private and the public key")

// sshKeys puts the SSH server's one host key where OpenSSH looks for it. The files are in memory; their names on disk
// are made before, because making them costs.
type sshKeys struct {
	root  string
	bind  func(source, target string) error
	files [2]sshFile
	ready bool
}

type sshFile struct {
	held   *heldFile // nil: not made yet, or on disk
	linked bool      // the name on disk is a link to the file in memory
}

var sshNames = [2]struct {
	name string
	mode uint32
}{{sshKeyName, 0o600}, {sshKeyName + ".pub", 0o644}}

// prepare makes the names where there is an /etc/ssh: a key of the image is mounted over and keeps its content; where
// there is none a link is made that leads nowhere yet, which key generators take for no key. Idempotent.
func (k *sshKeys) prepare() error {
	if k.ready || !isDirectory(k.root+sshDir) {
		return nil
	}
	if err := os.MkdirAll(k.root+sshMemoryDir, 0o755); err != nil {
		return err
	}
	k.ready = true
	for n, file := range sshNames {
		path, source := k.root+sshDir+"/"+file.name, sshMemoryDir+"/"+file.name
		stat, err := os.Lstat(path)
		switch {
		case os.IsNotExist(err):
			k.files[n].linked = os.Symlink(source, path) == nil
		case err != nil:
		case stat.Mode()&os.ModeSymlink != 0:
			link, _ := os.Readlink(path)
			k.files[n].linked = link == source
		case stat.Mode().IsRegular():
			content, err := readRegular(path, false)
			if err != nil {
				return err
			}
			held, err := newHeldFile(k.root+source, content, file.mode)
			if err != nil {
				return err
			}
			if err := k.bind(k.root+source, path); err != nil {
				return err
			}
			k.files[n].held = held
		}
	}
	return nil
}

// set gives the SSH server its key and takes all others away: they would be those of other machines, too. A guest
// without /etc/ssh needs none. Untouched: nobody can have changed anything since the last call.
func (k *sshKeys) set(private, public string, untouched bool) error {
	if private == "" || public == "" {
		return errHalfKey
	}
	if !isDirectory(k.root + sshDir) {
		return nil
	}
	var err error
	untouched = untouched && k.files[0].held != nil && k.files[1].held != nil
	if !untouched {
		err = k.removeOthers()
	}
	for n, content := range [2]string{private, public} {
		if !strings.HasSuffix(content, "\n") {
			content += "\n"
		}
		write := k.write
		if untouched {
			write = func(n int, content string) error { return k.files[n].held.write(content) }
		}
		if writeErr := write(n, content); err == nil {
			err = writeErr
		}
	}
	return err
}

func (k *sshKeys) write(n int, content string) error {
	file, name, mode := &k.files[n], sshNames[n].name, sshNames[n].mode
	path, source := k.root+sshDir+"/"+name, sshMemoryDir+"/"+name
	if file.linked {
		// The guest may have put a file of its own in the link's place.
		if link, err := os.Readlink(path); err != nil || link != source {
			_ = os.Remove(k.root + source)
			*file = sshFile{}
		} else if file.held == nil {
			held, err := newHeldFile(k.root+source, content, mode)
			if err == nil {
				file.held = held
				return nil
			}
			file.linked = false
		}
	}
	if file.held != nil {
		return file.held.write(content)
	}
	return replaceFile(path, content, os.FileMode(mode))
}

func (k *sshKeys) removeOthers() error {
	dir, err := os.Open(k.root + sshDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	for _, name := range names {
		if !isHostKey(name) || name == sshNames[0].name || name == sshNames[1].name {
			continue
		}
		if removeErr := os.Remove(k.root + sshDir + "/" + name); err == nil {
			err = removeErr
		}
	}
	return err
}

// isHostKey knows the names that OpenSSH's own configuration has, and their certificates.
func isHostKey(name string) bool {
	if !strings.HasPrefix(name, "ssh_host_") {
		return false
	}
	for _, end := range []string{"_key", "_key.pub", "_key-cert.pub"} {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

func isDirectory(path string) bool {
	var stat syscall.Stat_t
	return syscall.Lstat(path, &stat) == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFDIR
}
