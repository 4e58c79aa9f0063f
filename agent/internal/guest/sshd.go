package guest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/session"
)

const (
	agentSocketPath = memoryDir + "/agent.sock"
	// sshdPrivilegeDir is where Debian's sshd shuts in what has not logged in yet; in other images it is part of them.
	sshdPrivilegeDir = "/run/sshd"

	// sshdStartLimit bounds the wait for sshd to listen; an emulated guest takes a fraction of a second.
	sshdStartLimit = 15 * time.Second
	sshdPoll       = 2 * time.Millisecond
	// sshdRenewLimit bounds the same after a change of its configuration.
	sshdRenewLimit = 5 * time.Second
	// sshdLastWords is how long what sshd said may take to arrive after its end.
	sshdLastWords = 200 * time.Millisecond
	// sshdKillPasses bounds the looks for processes of an sshd that is ended: they may fork meanwhile.
	sshdKillPasses = 50
	// maxSaid is how much of what sshd says is kept, in bytes.
	maxSaid = 2048
)

var sshdPlaces = [...]string{"/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd"}

// sshd is the machine's one SSH server.
var sshd sshServer

// sshServer is the image's sshd, running with a configuration of ours, and the socket that it leads to. The zero value
// is none.
type sshServer struct {
	serve func(session.Duplex) error // set before anybody can ask for it

	mu       sync.Mutex // held while it is started or ended, which may wait for commands to be let go
	process  *command.Process
	cgroup   string // as /proc has it
	request  sshRequest
	optional string

	socketMu sync.Mutex // never held in a wait
	socket   *agentSocket
}

// ServeOverSSH says how the socket's clients are served. It is called once, before the first client of a lane.
func (m *Machine) ServeOverSSH(serve func(session.Duplex) error) { sshd.serve = serve }

// startSSH answers the ssh call.
func (m *Machine) startSSH(payload []byte) (func() session.Result, error) {
	request, bad, err := parseSSHRequest(payload)
	if err != nil {
		return nil, err
	}
	return func() session.Result {
		if bad != nil {
			return session.Result{Failed: &command.Failure{Code: "EINVAL", Message: "Cannot start sshd: " + bad.Error()}}
		}
		return session.Result{Failed: m.replaceSSHD(request)}
	}, nil
}

func (m *Machine) replaceSSHD(request sshRequest) *command.Failure {
	s := &sshd
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
	program := findSSHD()
	if program == "" {
		return &command.Failure{Code: "ENOENT", Message: "Cannot start sshd: the image has none"}
	}
	_ = os.Mkdir(sshdPrivilegeDir, 0o755)
	err := os.MkdirAll(sshdDir, 0o700)
	if err == nil {
		err = replaceFile(sshdAuthorizedFile, request.key+"\n", 0o600)
	}
	if err == nil {
		err = s.openSocket()
	}
	if err != nil {
		return &command.Failure{Code: command.ErrnoName(errnoOf(err)), Message: "Cannot start sshd: " + err.Error()}
	}
	s.request, s.optional = request, sshdOptional
	for {
		said, failed := s.start(m, program)
		if failed == nil {
			return nil
		}
		if s.optional == "" || !strings.Contains(said, "Bad configuration option") {
			s.closeSocket()
			return failed
		}
		s.optional = "" // an sshd that is older than they are
	}
}

func findSSHD() string {
	for _, path := range sshdPlaces {
		if stat, err := os.Stat(path); err == nil && stat.Mode().IsRegular() && stat.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

func errnoOf(err error) error {
	switch e := err.(type) {
	case *os.PathError:
		return e.Err
	case *os.LinkError:
		return e.Err
	}
	return err
}

func (s *sshServer) openSocket() error {
	socket, err := listenOnSocket(agentSocketPath, s.serve)
	if err != nil {
		return err
	}
	s.socketMu.Lock()
	s.socket = socket
	s.socketMu.Unlock()
	return nil
}

func (s *sshServer) closeSocket() {
	s.socketMu.Lock()
	socket := s.socket
	s.socket = nil
	s.socketMu.Unlock()
	if socket != nil {
		socket.close()
	}
}

// start runs sshd and waits until it listens. Otherwise nothing of it is left, and what it said is told.
func (s *sshServer) start(m *Machine, program string) (said string, failed *command.Failure) {
	if err := s.writeConfig(m); err != nil {
		return "", &command.Failure{Code: "EIO", Message: "Cannot write sshd's configuration: " + err.Error()}
	}
	_ = os.Remove(sshdPidFile)
	voice, process, failed := s.launch(m, program)
	if failed != nil {
		return "", failed
	}
	s.process, s.cgroup = process, cgroupOf(strconv.Itoa(process.Pid))
	if s.awaitPidFile(process, sshdStartLimit) {
		go m.tellEndOf(process, voice)
		return "", nil
	}
	what := "sshd did not listen in time: "
	select {
	case <-process.Done:
		what = "sshd ended at its start: "
	default:
	}
	s.endProcess()
	said = voice.wait(sshdLastWords)
	return said, &command.Failure{Code: "EIO", Message: what + said}
}

func (s *sshServer) launch(m *Machine, program string) (*voice, *command.Process, *command.Failure) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, &command.Failure{Code: "EIO", Message: "Cannot start sshd: " + err.Error()}
	}
	defer null.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, nil, &command.Failure{Code: "EIO", Message: "Cannot start sshd: " + err.Error()}
	}
	defer writer.Close()
	// One of the VM's commands, so that a copy of the machine finds it and its sessions standing still.
	spec := &command.Spec{Argv: []string{program, "-D", "-e", "-f", sshdConfigFile}, Dir: "/"}
	process, failed := m.Starter.Start(spec, [3]uintptr{null.Fd(), null.Fd(), writer.Fd()})
	if failed != nil {
		reader.Close()
		return nil, nil, failed
	}
	return listenTo(reader), process, nil
}

func (s *sshServer) writeConfig(m *Machine) error {
	config, leftOut := sshdConfig(s.request, m.Starter.Environment.Entries(), s.optional)
	if len(leftOut) > 0 {
		m.Log("not in the environment of SSH sessions: " + strings.Join(leftOut, " "))
	}
	return replaceFile(sshdConfigFile, config, 0o600)
}

// renewSSHEnvironment lets SSH sessions that begin from now on have the VM's environment as it is. Those that are there
// stay. It waits for nothing: what has to be waited for may only happen when commands are let go.
func (m *Machine) renewSSHEnvironment() {
	s := &sshd
	if s.mu.TryLock() {
		renewed := s.renew(m)
		go s.awaitRenewal(renewed)
		return
	}
	go func() {
		s.mu.Lock()
		s.awaitRenewal(s.renew(m))
	}()
}

func (s *sshServer) renew(m *Machine) bool {
	if s.process == nil {
		return false
	}
	if err := s.writeConfig(m); err != nil {
		m.Log("cannot renew sshd's configuration: " + err.Error())
		return false
	}
	_ = os.Remove(sshdPidFile)
	s.process.Signal(syscall.SIGHUP) // it starts itself anew, with the same pid
	return true
}

// awaitRenewal gives the lock back when sshd takes the next signal: while it starts itself anew it ignores them.
func (s *sshServer) awaitRenewal(renewed bool) {
	defer s.mu.Unlock()
	if renewed {
		s.awaitPidFile(s.process, sshdRenewLimit)
	}
}

// awaitPidFile waits until sshd has written its file, which it does once it listens and takes signals (main in OpenSSH's
// sshd.c). It reports whether that came before the limit and sshd's end.
func (s *sshServer) awaitPidFile(process *command.Process, limit time.Duration) bool {
	own := strconv.Itoa(process.Pid)
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if pid, err := os.ReadFile(sshdPidFile); err == nil && strings.TrimSpace(string(pid)) == own {
			return true
		}
		select {
		case <-process.Done:
			return false
		case <-time.After(sshdPoll):
		}
	}
	return false
}

// leaveSSHClients ends all connections over SSH: in a copy of the machine they are the original's. Whatever they had
// begun goes on like the commands of other lost clients; a host's ssh call ends sshd itself.
func (m *Machine) leaveSSHClients() {
	sshd.socketMu.Lock()
	socket := sshd.socket
	sshd.socketMu.Unlock()
	if socket != nil {
		socket.hangUp()
	}
}

// end ends sshd and all its sessions, and closes the socket. What people have started in them and left running goes on.
func (s *sshServer) end() {
	s.closeSocket()
	s.endProcess()
}

func (s *sshServer) endProcess() {
	if s.process == nil {
		return
	}
	s.process.Signal(syscall.SIGKILL)
	killSSHDs(s.cgroup)
	<-s.process.Done
	s.process.Release()
	s.process = nil
}

// killSSHDs kills every process of an sshd that is in the cgroup, whatever the parts of that version are called
// (sshd, sshd-session, sshd-auth). Another sshd of the guest's is in another cgroup.
func killSSHDs(cgroup string) {
	for pass := 0; pass < sshdKillPasses; pass++ {
		found := false
		entries, _ := os.ReadDir("/proc")
		for _, entry := range entries {
			pid, err := strconv.Atoi(entry.Name())
			if err != nil || pid <= 1 {
				continue
			}
			exe, err := os.Readlink("/proc/" + entry.Name() + "/exe")
			if err != nil || !strings.HasPrefix(filepath.Base(exe), "sshd") || cgroupOf(entry.Name()) != cgroup {
				continue
			}
			found = true
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if !found {
			return
		}
		time.Sleep(sshdPoll)
	}
}

func cgroupOf(pid string) string {
	text, _ := os.ReadFile("/proc/" + pid + "/cgroup")
	return string(text)
}

func (m *Machine) tellEndOf(process *command.Process, v *voice) {
	<-process.Done
	if process.Status.Signaled() && process.Status.Signal() == syscall.SIGKILL {
		return // by ourselves, as a rule
	}
	m.Log("sshd ended: " + v.wait(sshdLastWords))
}

// voice keeps the last of what somebody says.
type voice struct {
	mu   sync.Mutex
	said []byte
	over chan struct{}
}

func listenTo(reader *os.File) *voice {
	v := &voice{over: make(chan struct{})}
	go func() {
		defer close(v.over)
		defer reader.Close()
		buffer := make([]byte, maxSaid)
		for {
			n, err := reader.Read(buffer)
			v.mu.Lock()
			v.said = append(v.said, buffer[:n]...)
			if extra := len(v.said) - maxSaid; extra > 0 {
				v.said = append(v.said[:0], v.said[extra:]...)
			}
			v.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return v
}

// wait returns what was said, at its end or when the limit has passed.
func (v *voice) wait(limit time.Duration) string {
	select {
	case <-v.over:
	case <-time.After(limit):
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return strings.TrimSpace(strings.ToValidUTF8(string(v.said), "?"))
}
