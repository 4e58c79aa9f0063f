package guest

import (
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"

	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/session"
)

var (
	errBadName  = errors.New("not a host or domain name")
	errBadEntry = errors.New("not KEY=VALUE")
	errBadID    = errors.New("not 32 lower-case hex digits")
)

// configuring keeps two configures, on two lanes, from mixing.
var configuring sync.Mutex

func (m *Machine) configure(payload []byte) (func() session.Result, error) {
	s, err := parseSettings(payload)
	if err != nil {
		return nil, err
	}
	return func() session.Result {
		configuring.Lock()
		defer configuring.Unlock()
		m.apply(s)
		return session.Result{Reply: s.reply()}
	}, nil
}

// apply does all that it can; what fails becomes a warning, never the end of the rest.
func (m *Machine) apply(s *settings) {
	// Entropy first: what comes after may already draw random numbers.
	if len(s.entropy) > 0 {
		s.warn("add entropy", addEntropy(s.entropy))
	}
	if s.clock != 0 {
		s.warn("set the clock", setClock(s.clock))
	}
	if s.environment != nil {
		m.Starter.Environment.Set(s.environment)
	}
	if s.machineID != "" {
		s.warn("write /etc/machine-id", replaceFile("/etc/machine-id", s.machineID+"\n", 0o444))
	}
	if s.hostname != "" {
		s.applyHostname()
	}
	if len(s.addresses) > 0 || len(s.gateways) > 0 || s.mtu != 0 {
		s.applyNetwork()
	}
	if len(s.nameServers) > 0 || len(s.search) > 0 {
		s.warn("write /etc/resolv.conf", replaceFile("/etc/resolv.conf", s.resolver(), 0o644))
	}
	if s.growRoot {
		s.warn("grow the root file system", growRoot())
	}
}

func (s *settings) applyHostname() {
	s.warn("set the hostname", syscall.Sethostname([]byte(s.hostname)))
	s.warn("write /etc/hostname", replaceFile("/etc/hostname", s.hostname+"\n", 0o644))
	old, _ := os.ReadFile("/etc/hosts")
	s.warn("write /etc/hosts", replaceFile("/etc/hosts", hostsWith(string(old), s.hostname), 0o644))
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
	_ = os.Mkdir("/etc", 0o755)
	if old, err := os.Readlink(path); err != nil || old == "" {
		if same, err := os.ReadFile(path); err == nil && string(same) == content {
			return nil
		}
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

func (s *settings) reply() []byte {
	var name syscall.Utsname
	_ = syscall.Uname(&name)
	release := make([]byte, 0, len(name.Release))
	for _, c := range name.Release {
		if c == 0 {
			break
		}
		release = append(release, byte(c))
	}
	bootID, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	p := frame.AppendBytes(nil, 1, release)
	p = frame.AppendText(p, 2, strings.TrimSpace(string(bootID)))
	for i, warning := range s.warnings {
		if i == maxWarnings {
			break
		}
		if len(warning) > maxWarning {
			warning = strings.ToValidUTF8(warning[:maxWarning], "")
		}
		p = frame.AppendText(p, 3, warning)
	}
	return frame.AppendU32(p, tagUptime, uptimeMs())
}
