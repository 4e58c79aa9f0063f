package guest

import (
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

// settings is a parsed configure. What is zero was not asked for.
type settings struct {
	hostname    string
	entropy     []byte
	clock       uint64 // nanoseconds since 1970
	environment []string
	addresses   []netip.Prefix
	gateways    []netip.Addr
	nameServers []string
	search      []string
	mtu         uint32
	machineID   string
	growRoot    bool
	mac         []byte // six bytes
	sshPrivate  string // as OpenSSH writes it to a file
	sshPublic   string // one line
	warm        bool   // run something beside this, because whoever comes next will
	isCopy      bool
	mu          sync.Mutex
	warnings    []string
	// untouched: since settle nothing has run in this machine but the agent, so what it knows still holds.
	untouched bool
}

// warn may be called by several goroutines.
func (s *settings) warn(what string, err error) {
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.warnings = append(s.warnings, "Cannot "+what+": "+err.Error())
	}
}

func parseSettings(payload []byte) (*settings, error) {
	s := &settings{}
	err := frame.Each(payload, s.field)
	return s, err
}

// field takes one field. A value of the wrong type is an error of the client; one that makes no sense, a warning.
func (s *settings) field(f frame.Field) (err error) {
	var text string
	switch f.Tag {
	case 10, 13, 14, 15, 16, 17, 19, 21, 22, 23:
		if text, err = f.Text(); err != nil {
			return err
		}
	}
	switch f.Tag {
	case 10:
		s.hostname = text
		if !validName(text) {
			s.hostname = ""
			s.warn("set hostname \""+text+"\"", errBadName)
		}
	case 11:
		s.entropy = append([]byte(nil), f.Value...)
	case 12:
		s.clock, err = f.U64()
	case 13:
		if !command.ValidEntry(text) {
			s.warn("use environment entry \""+text+"\"", errBadEntry)
			return nil
		}
		s.environment = append(s.environment, text)
	case 14:
		address, bad := netip.ParsePrefix(text)
		s.warn("use address", bad)
		if bad == nil {
			s.addresses = append(s.addresses, address)
		}
	case 15:
		gateway, bad := netip.ParseAddr(text)
		s.warn("use gateway", bad)
		if bad == nil {
			s.gateways = append(s.gateways, gateway)
		}
	case 16:
		server, bad := netip.ParseAddr(text)
		s.warn("use DNS server", bad)
		if bad == nil {
			s.nameServers = append(s.nameServers, server.String())
		}
	case 17:
		if !validName(text) {
			s.warn("use search domain \""+text+"\"", errBadName)
			return nil
		}
		s.search = append(s.search, text)
	case 18:
		s.mtu, err = f.U32()
	case 19:
		s.machineID = text
		if !validMachineID(text) {
			s.machineID = ""
			s.warn("set machine id \""+text+"\"", errBadID)
		}
	case 20:
		s.growRoot, err = f.Flag()
	case 21:
		if s.mac = parseMAC(text); s.mac == nil {
			s.warn("use MAC address \""+text+"\"", errBadMAC)
		}
	case 22:
		s.sshPrivate = text
	case 23:
		s.sshPublic = text
	case 25:
		s.warm, err = f.Flag()
	case 24:
		s.isCopy, err = f.Flag()
	case 26:
		whole := false
		if whole, err = f.Flag(); whole && s.environment == nil {
			s.environment = []string{}
		}
	}
	return err
}

// validName keeps what ends up in /etc/hosts and /etc/resolv.conf to one harmless word.
func validName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}

// parseMAC reads six hexadecimal bytes joined by colons; nil is none. A group's address is no device's.
func parseMAC(text string) []byte {
	parts := strings.Split(text, ":")
	if len(parts) != 6 {
		return nil
	}
	var mac []byte
	for _, part := range parts {
		number, err := strconv.ParseUint(part, 16, 8)
		if err != nil || len(part) != 2 {
			return nil
		}
		mac = append(mac, byte(number))
	}
	if mac[0]&1 != 0 {
		return nil
	}
	return mac
}

func validMachineID(id string) bool {
	if len(id) != 32 {
		return false
	}
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
