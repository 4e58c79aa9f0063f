package guest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/session"
)

var (
	errBadName  = errors.New("not a host or domain name")
	errBadEntry = errors.New("not KEY=VALUE")
	errBadID    = errors.New("not 32 lower-case hex digits")
	errBadMAC   = errors.New("not a device's address")
)

// configuring keeps two configures, on two lanes, from mixing.
var configuring sync.Mutex

func (m *Machine) configure(payload []byte) (func() session.Result, error) {
	s, err := parseSettings(payload)
	if err != nil {
		return nil, err
	}
	return func() session.Result {
		if s.warm {
			m.warmth.wake()
		}
		if s.isCopy {
			m.warmth.forget()
		}
		configuring.Lock()
		defer configuring.Unlock()
		s.untouched = m.untouched
		m.untouched = false
		m.apply(s)
		if s.isCopy {
			m.holds.end(m.holds.cancel(), m.Freezer.ThawCopy) // Only now is it a machine of its own.
		}
		return session.Result{Reply: s.reply(m.Identity.bootIDText), Copied: s.isCopy}
	}, nil
}

// apply does all that it can; what fails becomes a warning, never the end of the rest.
func (m *Machine) apply(s *settings) {
	// Beside all else: on a second processor the one costs nothing while the other is done. It draws no random numbers.
	connected := make(chan struct{})
	go func() {
		defer close(connected)
		if len(s.addresses) > 0 || len(s.gateways) > 0 || s.mtu != 0 || s.mac != nil {
			m.Network.apply(s)
		}
	}()
	// Entropy first: what comes after may already draw random numbers.
	if len(s.entropy) > 0 {
		s.warn("add entropy", addEntropy(m.Identity.random, s.entropy))
	}
	if s.clock != 0 {
		s.warn("set the clock", setClock(s.clock))
	}
	// Whoever sees the generation rise finds the generator reseeded and the time right.
	if s.isCopy {
		m.Window.Copied()
		m.leaveSSHClients()
		s.warn("raise the generation", m.Identity.generation.raise())
		s.warn("renew the boot id", m.Identity.renewBootID())
	}
	if s.environment != nil {
		m.Starter.Environment.Set(s.environment)
		if !s.isCopy {
			m.renewSSHEnvironment()
		}
	}
	if s.machineID != "" {
		s.warn("write "+machineIDFile, m.Identity.write(machineIDFile, s.machineID+"\n", 0o444))
	}
	if s.hostname != "" {
		m.applyHostname(s)
	}
	if s.sshPrivate != "" || s.sshPublic != "" {
		s.warn("set the SSH host key", m.Identity.ssh.set(s.sshPrivate, s.sshPublic, s.untouched))
	}
	if len(s.nameServers) > 0 || len(s.search) > 0 {
		s.warn("write "+resolverFile, m.Identity.write(resolverFile, s.resolver(), 0o644))
	}
	if s.growRoot {
		s.warn("grow the root file system", growRoot())
	}
	<-connected
}

func (m *Machine) applyHostname(s *settings) {
	s.warn("set the hostname", syscall.Sethostname([]byte(s.hostname)))
	s.warn("write "+hostnameFile, m.Identity.write(hostnameFile, s.hostname+"\n", 0o644))
	hosts := hostsWith(m.Identity.read(hostsFile), s.hostname)
	s.warn("write "+hostsFile, m.Identity.write(hostsFile, hosts, 0o644))
}

// ownAddress is where Debian and its like put the machine's own name.
const ownAddress = "127.0.1.1"

// hostsWith returns the hosts file with the machine's own name replaced and localhost there.
func hostsWith(old, hostname string) string {
	var b strings.Builder
	if !strings.Contains(old, "localhost") {
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	}
	for _, line := range strings.Split(strings.TrimRight(old, "\n"), "\n") {
		if words := strings.Fields(line); len(words) > 0 && words[0] == ownAddress || line == "" && old == "" {
			continue
		}
		b.WriteString(line + "\n")
	}
	b.WriteString(ownAddress + "\t" + hostname)
	if dot := strings.IndexByte(hostname, '.'); dot > 0 {
		b.WriteString(" " + hostname[:dot])
	}
	b.WriteString("\n")
	return b.String()
}

func (s *settings) resolver() string {
	var b strings.Builder
	if len(s.search) > 0 {
		b.WriteString("search " + strings.Join(s.search, " ") + "\n")
	}
	for _, server := range s.nameServers {
		b.WriteString("nameserver " + server + "\n")
	}
	return b.String()
}

// replaceFile writes a file in one step; a symbolic link of that name is replaced, not followed.
func replaceFile(path, content string, mode os.FileMode) error {
	_ = os.Mkdir(filepath.Dir(path), 0o755)
	if same, err := readRegular(path, false); err == nil && same == content {
		return nil
	}
	temporary := path + ".smolvm"
	_ = os.Remove(temporary)
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = file.WriteString(content)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary)
	}
	return err
}

// maxWarnings and maxWarning, in bytes, keep the reply within its limit.
const (
	maxWarnings = 64
	maxWarning  = 512
)

func (s *settings) reply(bootID string) []byte {
	var name syscall.Utsname
	_ = syscall.Uname(&name)
	release := make([]byte, 0, len(name.Release))
	for _, c := range name.Release {
		if c == 0 {
			break
		}
		release = append(release, byte(c))
	}
	p := frame.AppendBytes(nil, 1, release)
	p = frame.AppendText(p, 2, bootID)
	for i, warning := range s.warnings {
		if i == maxWarnings {
			break
		}
		if len(warning) > maxWarning {
			warning = strings.ToValidUTF8(warning[:maxWarning], "")
		}
		p = frame.AppendText(p, 3, warning)
	}
	p = frame.AppendU32(p, tagUptime, uptimeMs())
	return frame.AppendU64(p, tagClock, uint64(time.Now().UnixNano()))
}
