package guest

import (
	"os"
	"sort"
	"strings"
	"syscall"
	"testing"
)

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o644) }

const (
	keyFile = sshDir + "/" + sshKeyName
	pubFile = keyFile + ".pub"
)

// sshNamesIn lists what an SSH server would offer.
func sshNamesIn(t *testing.T, root string) string {
	t.Helper()
	entries, err := os.ReadDir(root + sshDir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	sort.Strings(names)
	return strings.Join(names, " ")
}

func setTwice(t *testing.T, root string, i *Identity) {
	t.Helper()
	for _, key := range []string{"first", "2nd"} {
		if err := i.ssh.set("PRIVATE "+key, "ssh-ed25519 "+key+"\n", false); err != nil {
			t.Fatal(err)
		}
		private, public := content(t, root+keyFile), content(t, root+pubFile)
		if private != "PRIVATE "+key+"\n" || public != "ssh-ed25519 "+key+"\n" {
			t.Errorf("%q %q", private, public)
		}
	}
	for path, want := range map[string]os.FileMode{keyFile: 0o600, pubFile: 0o644} {
		if stat, err := os.Stat(root + path); err != nil || stat.Mode().Perm() != want {
			t.Error(path, stat, err)
		}
	}
}

func TestSSHKeyReplacesThoseOfTheImage(t *testing.T) {
	root := newRoot(t, map[string]string{keyFile: "a key that all machines of the image have", pubFile: "its public half",
		sshDir + "/ssh_host_rsa_key": "shared", sshDir + "/ssh_host_rsa_key.pub": "shared", sshDir + "/sshd_config": ""})
	i := take(t, root)
	if got := content(t, root+keyFile); got != "a key that all machines of the image have" {
		t.Errorf("before there is another key: %q", got)
	}
	setTwice(t, root, i)
	if got := sshNamesIn(t, root); got != "ssh_host_ed25519_key ssh_host_ed25519_key.pub sshd_config" {
		t.Error(got)
	}
}

func TestSSHKeyOfAnImageWithoutOne(t *testing.T) {
	root := newRoot(t, map[string]string{sshDir + "/sshd_config": ""})
	i := take(t, root)
	if _, err := os.Stat(root + keyFile); !os.IsNotExist(err) {
		t.Error("a key generator would take the name for a key: ", err)
	}
	// The links lead to the guest's /run.
	for _, path := range []string{keyFile, pubFile} {
		if link, _ := os.Readlink(root + path); link != memoryDir+path {
			t.Fatalf("%q", link)
		}
	}
	if err := i.ssh.set("PRIVATE", "public", false); err != nil {
		t.Fatal(err)
	}
	if got := content(t, root+memoryDir+keyFile); got != "PRIVATE\n" {
		t.Errorf("%q", got)
	}
	// The guest has made a key of its own in the link's place.
	_ = os.Remove(root + keyFile)
	_ = os.Remove(root + pubFile)
	if err := os.WriteFile(root+keyFile, []byte("own"), 0o600); err != nil {
		t.Fatal(err)
	}
	setTwice(t, root, i)
}

func TestSSHComesAfterTheBoot(t *testing.T) {
	root := newRoot(t, nil)
	i := take(t, root)
	if err := i.ssh.set("PRIVATE", "public", false); err != nil {
		t.Error("a guest without /etc/ssh:", err)
	}
	if err := os.Mkdir(root+sshDir, 0o755); err != nil {
		t.Fatal(err)
	}
	setTwice(t, root, i)
}

func TestHalfAnSSHKeyIsRefused(t *testing.T) {
	root := newRoot(t, map[string]string{keyFile: "old"})
	i := take(t, root)
	if i.ssh.set("PRIVATE", "", false) == nil || i.ssh.set("", "public", false) == nil || content(t, root+keyFile) != "old" {
		t.Error("passes")
	}
}
