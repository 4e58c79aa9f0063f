package command

import (
	"os"
	"strings"
	"syscall"
	"time"
)

// Spec is a command to start. Exactly one of Argv and Line is set.
type Spec struct {
	Argv        []string
	Line        string // for the login shell
	Environment []string
	Dir         string // empty for the user's home
	User        string // empty for root
}

// Starter holds what all commands share.
type Starter struct {
	Reaper      *Reaper
	Groups      *Groups // nil without cgroup v2
	Environment *Environment
}

// Start starts the command with the given descriptors as stdin, stdout and stderr.
func (s *Starter) Start(spec *Spec, files [3]uintptr) (*Process, *Failure) {
	user := spec.User
	if user == "" {
		user = "root"
	}
	account, ok := LookupAccount("", user)
	if !ok {
		return nil, &Failure{"EUSER", "Cannot run as user \"" + user + "\": not in /etc/passwd"}
	}
	argv := spec.Argv
	if len(argv) == 0 {
		argv = []string{account.Shell, "-lc", spec.Line}
	}
	dir, failed := workingDirectory(spec.Dir, account.Home)
	if failed != nil {
		return nil, failed
	}
	env := s.Environment.merge(&account, spec.Environment)
	program, failed := findProgram(argv[0], lookupEnv(env, "PATH"), dir)
	if failed != nil {
		return nil, failed
	}
	attr := &syscall.ProcAttr{Dir: dir, Env: env, Files: files[:], Sys: &syscall.SysProcAttr{Setsid: true}}
	// Without root (in tests) there are no other users to become.
	if os.Geteuid() == 0 {
		attr.Sys.Credential = &syscall.Credential{Uid: account.UID, Gid: account.GID, Groups: account.Groups}
	}
	p, err := s.fork(program, argv, attr)
	if err == syscall.EACCES && spec.Dir == "" && dir != "/" {
		// Nobody asked for the home; a user who may not enter it can work elsewhere.
		attr.Dir = "/"
		p, err = s.fork(program, argv, attr)
	}
	if err != nil {
		return nil, explain(err, program, dir)
	}
	return p, nil
}

func (s *Starter) fork(program string, argv []string, attr *syscall.ProcAttr) (*Process, error) {
	p := &Process{Done: make(chan struct{}), reaper: s.Reaper, group: s.Groups.take()}
	if p.group != nil {
		placeInto(attr.Sys, p.group)
	}
	err := s.Reaper.start(p, func() (int, error) {
		p.started = time.Now()
		pid, err := syscall.ForkExec(program, argv, attr)
		if err == nil && p.group != nil && !placedAtStart {
			_ = p.group.add(pid)
		}
		return pid, err
	})
	if err != nil {
		if p.group != nil {
			p.group.retire()
		}
		return nil, err
	}
	if p.group != nil {
		p.group.taken()
	}
	return p, nil
}

func workingDirectory(dir, home string) (string, *Failure) {
	if dir == "" {
		// An image need not have the home that its passwd names.
		if info, err := os.Stat(home); err == nil && info.IsDir() {
			return home, nil
		}
		return "/", nil
	}
	if dir[0] != '/' {
		return "", &Failure{"EINVAL", "Cannot use working directory \"" + dir + "\": not an absolute path"}
	}
	var stat syscall.Stat_t
	if err := syscall.Stat(dir, &stat); err != nil {
		return "", failure(err, "Cannot use working directory \""+dir+"\"")
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return "", failure(syscall.ENOTDIR, "Cannot use working directory \""+dir+"\"")
	}
	return dir, nil
}

// findProgram resolves a name like a shell does: with a slash it is a path, else PATH is searched.
func findProgram(name, path, dir string) (string, *Failure) {
	if name == "" {
		return "", failure(syscall.ENOENT, "Cannot run program \"\"")
	}
	if strings.IndexByte(name, '/') >= 0 {
		full := name
		if name[0] != '/' {
			full = dir + "/" + name
		}
		if err := runnable(full); err != nil {
			return "", failure(err, "Cannot run program \""+name+"\"")
		}
		return full, nil
	}
	var reason error = syscall.ENOENT
	for _, place := range strings.Split(path, ":") {
		if place == "" || place[0] != '/' {
			place = dir + "/" + place
		}
		full := place + "/" + name
		err := runnable(full)
		if err == nil {
			return full, nil
		}
		if err == syscall.EACCES {
			reason = err
		}
	}
	return "", failure(reason, "Cannot run program \""+name+"\": not found in PATH \""+path+"\"")
}

func runnable(path string) error {
	var stat syscall.Stat_t
	if err := syscall.Stat(path, &stat); err != nil {
		return err
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFREG || stat.Mode&0o111 == 0 {
		return syscall.EACCES
	}
	return nil
}

// explain words an error of fork, chdir or exec; the kernel does not say which of them it was.
func explain(err error, program, dir string) *Failure {
	switch err {
	case syscall.ESHUTDOWN:
		return &Failure{"ESHUTDOWN", "Cannot start a command: the VM is shutting down"}
	case syscall.ENOENT:
		return failure(err, "Cannot run program \""+program+"\": its interpreter or loader is missing")
	case syscall.EACCES:
		return failure(err, "Cannot run program \""+program+"\" in directory \""+dir+"\" as this user")
	}
	return failure(err, "Cannot run program \""+program+"\"")
}
