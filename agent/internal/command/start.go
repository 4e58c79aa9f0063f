package command

import (
	"os"
	"strings"
	"syscall"
	"time"
)

// Spec is a command to start. At most one of Argv and Line is set.
type Spec struct {
	Argv        []string
	Line        string // for the login shell; with no Argv either, that shell itself
	Environment []string
	Dir         string // empty for the user's home
	User        string // empty for root
	// Terminal says that the files are a terminal, which is to be the command's own.
	Terminal bool
	Caller   Caller // nil: it is always wanted
}

// Starter holds what all commands share.
type Starter struct {
	Reaper      *Reaper
	Groups      *Groups // nil without cgroup v2
	Environment *Environment
	Freezer     *Freezer // nil: commands are never frozen
	// BeforeFork, if any, is called before each fork, and what it returns after it.
	BeforeFork func() (after func())
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
		if spec.Line == "" {
			argv = argv[:2:2]
			argv[1] = "-l"
		}
	}
	dir, failed := workingDirectory(spec.Dir, account.Home, argv[0])
	if failed != nil {
		return nil, failed
	}
	env := s.Environment.merge(&account, spec)
	program, failed := findProgram(argv[0], lookupEnv(env, "PATH"), dir)
	if failed != nil {
		return nil, failed
	}
	attr := &syscall.ProcAttr{Dir: dir, Env: env, Files: files[:], Sys: &syscall.SysProcAttr{Setsid: true}}
	// Root has all that already. Without root (in tests) there are no other users to become.
	if (account.UID != 0 || account.GID != 0 || len(account.Groups) > 0) && os.Geteuid() == 0 {
		attr.Sys.Credential = &syscall.Credential{Uid: account.UID, Gid: account.GID, Groups: account.Groups}
	}
	if spec.Terminal {
		attr.Sys.Setctty = true // as the command's session leader, on its descriptor 0
		if err := syscall.Fchown(int(files[0]), int(account.UID), -1); err != nil && os.Geteuid() == 0 {
			return nil, failure(err, "Cannot give a terminal to user \""+user+"\"")
		}
	}
	p, err := s.fork(program, argv, attr, spec.Caller)
	if err != nil && spec.Dir == "" && dir != "/" && (err == syscall.EACCES || !isDirectory(dir)) {
		// Nobody asked for the home: an image need not have the one that its passwd names, and a user who may not enter
		// it can work elsewhere.
		dir = "/"
		attr.Dir = "/"
		p, err = s.fork(program, argv, attr, spec.Caller)
	}
	if err != nil {
		return nil, explain(err, program, dir)
	}
	return p, nil
}

func (s *Starter) fork(program string, argv []string, attr *syscall.ProcAttr, caller Caller) (*Process, error) {
	// A child that is born frozen never gets to its exec, and whoever forked it waits for that without yielding.
	if !s.Freezer.beginStart(caller) {
		return nil, syscall.ECANCELED
	}
	defer s.Freezer.endStart()
	p, err := s.forkInto(s.Groups.take(), program, argv, attr)
	if err == syscall.EBUSY || err == syscall.EOPNOTSUPP || err == syscall.ENODEV {
		// Root in the guest can make a cgroup unfit for processes, or remove it.
		p, err = s.forkInto(s.Groups.create(), program, argv, attr)
	}
	return p, err
}

func (s *Starter) forkInto(g *group, program string, argv []string, attr *syscall.ProcAttr) (*Process, error) {
	p := &Process{Done: make(chan struct{}), reaper: s.Reaper, group: g}
	if g != nil {
		placeInto(attr.Sys, g)
	}
	err := s.Reaper.start(p, func() (int, error) {
		p.started = time.Now()
		if s.BeforeFork != nil {
			defer s.BeforeFork()()
		}
		pid, err := syscall.ForkExec(program, argv, attr)
		if err == nil && g != nil && !placedAtStart {
			_ = g.add(pid)
		}
		return pid, err
	})
	if err != nil {
		if g != nil {
			g.retire()
		}
		return nil, err
	}
	return p, nil
}

func workingDirectory(dir, home, program string) (string, *Failure) {
	if dir == "" {
		// Whether the home is there shows when the command starts, except where the program is looked for in it.
		if strings.IndexByte(program, '/') > 0 && !isDirectory(home) {
			return "/", nil
		}
		return home, nil
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

func isDirectory(path string) bool {
	var stat syscall.Stat_t
	return syscall.Stat(path, &stat) == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFDIR
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
	case syscall.ECANCELED:
		return &Failure{"ECANCELED", "Cannot start a command: who asked for it no longer wants it"}
	case syscall.ENOENT:
		return failure(err, "Cannot run program \""+program+"\": its interpreter or loader is missing")
	case syscall.EACCES:
		return failure(err, "Cannot run program \""+program+"\" in directory \""+dir+"\" as this user")
	}
	return failure(err, "Cannot run program \""+program+"\"")
}
