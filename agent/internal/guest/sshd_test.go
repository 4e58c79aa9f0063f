package guest

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"os"

	"smolvm.dev/agent/internal/frame"
)

const testKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB0"

func sshPayload(address string, port uint32, key string) []byte {
	p := frame.AppendText(nil, 1, "ssh")
	p = frame.AppendText(p, 10, address)
	return frame.AppendText(frame.AppendU32(p, 11, port), 12, key)
}

func TestSSHRequest(t *testing.T) {
	r, bad, err := parseSSHRequest(sshPayload("10.0.0.16", 22, testKey))
	if err != nil || bad != nil || r.address.String() != "10.0.0.16" || r.port != 22 || r.key != testKey {
		t.Errorf("%+v %v %v", r, bad, err)
	}
	for _, p := range [][]byte{
		sshPayload("", 22, testKey),
		sshPayload("host\nPermitRootLogin yes", 22, testKey),
		sshPayload("fe80::1%eth0\nx", 22, testKey),
		sshPayload("10.0.0.16", 0, testKey),
		sshPayload("10.0.0.16", 65536, testKey),
		sshPayload("10.0.0.16", 22, ""),
		sshPayload("10.0.0.16", 22, "ssh-ed25519"),
		sshPayload("10.0.0.16", 22, testKey+"\n"+testKey),
		sshPayload("10.0.0.16", 22, `command="x" `+testKey),
		sshPayload("10.0.0.16", 22, testKey+strings.Repeat("A", maxPublicKey)),
	} {
		if _, bad, err := parseSSHRequest(p); bad == nil || err != nil {
			t.Errorf("%q: %v %v", p, bad, err)
		}
	}
	if _, _, err := parseSSHRequest(frame.AppendBytes(nil, 11, []byte{22})); err == nil {
		t.Error("a port of one byte passes")
	}
}

func TestSSHDConfig(t *testing.T) {
	r, _, _ := parseSSHRequest(sshPayload("10.0.0.16", 22, testKey))
	config, leftOut := sshdConfig(r, []string{"PATH=/bin", "TWO=a\nb"}, "Newer no\n")
	for _, line := range []string{"ListenAddress 10.0.0.16", "Port 22", "PasswordAuthentication no",
		"KbdInteractiveAuthentication no", "AuthorizedKeysFile /run/smolvm/ssh/authorized_keys", `SetEnv "PATH=/bin"`,
		"Newer no"} {
		if strings.Count("\n"+config, "\n"+line+"\n") != 1 {
			t.Errorf("%q is not there once:\n%s", line, config)
		}
	}
	if !reflect.DeepEqual(leftOut, []string{"TWO"}) {
		t.Error(leftOut)
	}
}

func TestSSHEnvironment(t *testing.T) {
	line, leftOut := sshEnvironment([]string{`A=say "hi" \ # '`, "B=", "NEW=x\nPermitRootLogin yes", "CR=\r", "1=x",
		"C D=x", "BIG=" + strings.Repeat("x", maxSSHEnvironment), "Z=z"})
	if line != `"A=say \"hi\" \\ # '" "B=" "Z=z"` {
		t.Errorf("%s", line)
	}
	if !reflect.DeepEqual(leftOut, []string{"NEW", "CR", "1", "C D", "BIG"}) {
		t.Error(leftOut)
	}
}

func TestVoiceKeepsTheEnd(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	v := listenTo(reader)
	_, _ = writer.Write([]byte(strings.Repeat("x", 3*maxSaid) + "the end\n"))
	writer.Close()
	if said := v.wait(10 * time.Second); len(said) >= maxSaid || !strings.HasSuffix(said, "xthe end") {
		t.Errorf("%d bytes, %q", len(said), said)
	}
}
