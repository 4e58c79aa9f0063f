package guest

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"smolvm.dev/agent/internal/frame"
)

const (
	sshdDir            = memoryDir + "/ssh" // in memory, for root alone
	sshdConfigFile     = sshdDir + "/sshd_config"
	sshdAuthorizedFile = sshdDir + "/authorized_keys"
	sshdPidFile        = sshdDir + "/sshd.pid"

	// maxPublicKey is the longest line of a public key that is taken, in bytes; an Ed25519 key has 80.
	maxPublicKey = 1024
	// maxSSHEnvironment bounds the line of the configuration that has the VM's variables, in bytes: sshd hands its
	// configuration on in a message of at most 256 KiB (ssh_msg_recv in OpenSSH's msg.c).
	maxSSHEnvironment = 64 << 10
)

var (
	errBadListener = errors.New("not an address and port to listen on")
	errBadKey      = errors.New("not a public key on one line")
)

// sshRequest is a parsed ssh call.
type sshRequest struct {
	address netip.Addr
	port    uint32
	key     string
}

// parseSSHRequest tells an error of the client's, and by bad what makes no sense.
func parseSSHRequest(payload []byte) (r sshRequest, bad, err error) {
	address := ""
	err = frame.Each(payload, func(f frame.Field) (err error) {
		switch f.Tag {
		case 10:
			address, err = f.Text()
		case 11:
			r.port, err = f.U32()
		case 12:
			r.key, err = f.Text()
		}
		return err
	})
	if err != nil {
		return r, nil, err
	}
	r.address, bad = netip.ParseAddr(address)
	if bad != nil || r.address.Zone() != "" || r.port == 0 || r.port > 65535 {
		return r, errBadListener, nil
	}
	if !validPublicKey(r.key) {
		return r, errBadKey, nil
	}
	return r, nil, nil
}

// validPublicKey takes a type and base64 and nothing else: no options, no second line.
func validPublicKey(key string) bool {
	words := strings.Split(key, " ")
	if len(key) > maxPublicKey || len(words) != 2 || words[0] == "" || words[1] == "" {
		return false
	}
	for _, c := range []byte(words[0] + words[1]) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("+/=-@.", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// sshdOptional are options that not every sshd knows: it ends when it meets one.
//
// All clients come from one address, the guest's loopback, so one that fails must not keep the others out (OpenSSH 9.8).
const sshdOptional = "PerSourcePenalties no\n"

// sshdConfig is the whole configuration of our sshd; the image's is not read.
func sshdConfig(r sshRequest, entries []string, optional string) (config string, leftOut []string) {
	environment, leftOut := sshEnvironment(entries)
	lines := []string{
		"Port " + strconv.Itoa(int(r.port)),
		"ListenAddress " + r.address.String(),
		"HostKey " + sshDir + "/" + sshKeyName,
		"PidFile " + sshdPidFile,
		"AuthorizedKeysFile " + sshdAuthorizedFile,
		// The file is the agent's own. What strict modes look at is the way to it, from the image's root directory on.
		"StrictModes no",
		"AllowUsers root",
		"PermitRootLogin prohibit-password",
		"AuthenticationMethods publickey",
		"PubkeyAuthentication yes",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"HostbasedAuthentication no",
		// To the agent's socket, and to servers in the guest; never from the guest to the client's side.
		"AllowStreamLocalForwarding local",
		"AllowTcpForwarding local",
		"AllowAgentForwarding no",
		"X11Forwarding no",
		"PermitTunnel no",
		"PermitUserRC no",
		"Subsystem sftp internal-sftp",
		"AcceptEnv COLORTERM NO_COLOR",
		"UseDNS no",
		"PrintMotd no",
		"PrintLastLog no",
		"LogLevel ERROR",
		"LoginGraceTime 60",
		// Beyond the default of 10, clients that come at once are refused at random.
		"MaxStartups 64",
		"MaxSessions 64",
		"SetEnv " + environment,
	}
	return strings.Join(lines, "\n") + "\n" + optional, leftOut
}

// sshEnvironment writes variables as one line; sshd takes only the first of several. What cannot be said in a line, or
// is too much for it, is left out.
func sshEnvironment(entries []string) (line string, leftOut []string) {
	var b strings.Builder
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	for _, entry := range entries {
		name, _, _ := strings.Cut(entry, "=")
		word := `"` + quote.Replace(entry) + `"`
		if !isVariableName(name) || strings.ContainsAny(entry, "\n\r") || b.Len()+len(word) >= maxSSHEnvironment {
			leftOut = append(leftOut, name)
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(word)
	}
	return b.String(), leftOut
}

func isVariableName(name string) bool {
	for i, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_':
		case c >= '0' && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return name != ""
}
