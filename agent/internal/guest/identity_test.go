package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newRoot makes a file system with these files. A name that ends in "@" is a link to its content.
func newRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"/run", "/etc", filepath.Dir(bootIDFile)} {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(root+bootIDFile, []byte(someBootID+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, content := range files {
		_ = os.MkdirAll(filepath.Dir(root+path), 0o755)
		var err error
		if strings.HasSuffix(path, "@") {
			err = os.Symlink(content, root+strings.TrimSuffix(path, "@"))
		} else {
			err = os.WriteFile(root+path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// take moves a root's identity to memory; a hard link stands for a bind mount.
func take(t *testing.T, root string) *Identity {
	t.Helper()
	i := &Identity{root: root, bind: func(source, target string) error {
		if err := os.Remove(target); err != nil {
			return err
		}
		return os.Link(source, target)
	}}
	i.take(true, func(text string) { t.Error(text) })
	return i
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

const someBootID = "11111111-2222-4333-8444-555555555555"

func TestIdentityStartsAsTheImageHasIt(t *testing.T) {
	root := newRoot(t, map[string]string{hostsFile: "10.0.0.9 db\n", hostnameFile: "image\n"})
	take(t, root)
	for path, want := range map[string]string{hostsFile: "10.0.0.9 db\n", hostnameFile: "image\n", machineIDFile: "",
		resolverFile: "", bootIDFile: someBootID + "\n", generationFile: "00000000000000000000\n"} {
		if got := content(t, root+path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if stat, err := os.Stat(root + machineIDFile); err != nil || stat.Mode().Perm() != 0o444 {
		t.Error(stat, err)
	}
}

func TestIdentityIsWrittenInPlace(t *testing.T) {
	root := newRoot(t, map[string]string{hostnameFile: "a long name of the image\n"})
	i := take(t, root)
	before, err := os.Open(root + hostnameFile)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if err := i.write(hostnameFile, "vm\n", 0o644); err != nil {
		t.Fatal(err)
	}
	var seen [64]byte
	n, _ := before.ReadAt(seen[:], 0)
	if string(seen[:n]) != "vm\n" || content(t, root+hostnameFile) != "vm\n" {
		t.Errorf("%q", seen[:n])
	}
}

func TestGuestCannotTurnAWriteElsewhere(t *testing.T) {
	root := newRoot(t, map[string]string{hostnameFile: "image\n", "/etc/shadow": "secret"})
	i := take(t, root)
	for _, path := range []string{hostnameFile, memoryDir + hostnameFile, generationFile} {
		_ = os.Remove(root + path)
		if err := os.Symlink(root+"/etc/shadow", root+path); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.write(hostnameFile, "vm\n", 0o644); err != nil {
		t.Error(err)
	}
	if err := i.generation.raise(); err != nil {
		t.Error(err)
	}
	if got := content(t, root+"/etc/shadow"); got != "secret" {
		t.Errorf("%q", got)
	}
}

func TestResolverBehindALink(t *testing.T) {
	const target = "/run/systemd/resolve/stub-resolv.conf"
	for _, link := range []string{target, ".." + target} {
		root := newRoot(t, map[string]string{resolverFile + "@": link})
		i := take(t, root)
		if err := i.write(resolverFile, "nameserver 1.1.1.1\n", 0o644); err != nil {
			t.Error(err)
		}
		if got := content(t, root+target); got != "nameserver 1.1.1.1\n" {
			t.Errorf("%q", got)
		}
		if got, _ := os.Readlink(root + resolverFile); got != link {
			t.Errorf("the link became %q", got)
		}
	}
}

func TestLinkElsewhereIsReplacedWhenThereIsSomethingToWrite(t *testing.T) {
	for _, link := range []string{"shadow", "../run/../etc/shadow", "/run/smolvm/boot_id"} {
		root := newRoot(t, map[string]string{resolverFile + "@": link, "/etc/shadow": "secret"})
		i := take(t, root)
		if got, _ := os.Readlink(root + resolverFile); got != link {
			t.Errorf("%q", got)
		}
		if err := i.write(resolverFile, "nameserver 1.1.1.1\n", 0o644); err != nil {
			t.Error(err)
		}
		if got := content(t, root+resolverFile); got != "nameserver 1.1.1.1\n" || content(t, root+"/etc/shadow") != "secret" {
			t.Errorf("%q", got)
		}
	}
}

func TestWithoutMemoryFilesOnDiskAreReplaced(t *testing.T) {
	root := newRoot(t, nil)
	i := &Identity{root: root}
	i.take(false, func(text string) { t.Error(text) })
	if err := i.write(hostnameFile, "vm\n", 0o644); err != nil || content(t, root+hostnameFile) != "vm\n" {
		t.Error(err)
	}
	if i.bootIDText != someBootID || i.generation.raise() == nil || i.renewBootID() == nil {
		t.Error("a copy without a generation passes silently")
	}
}

func TestCopyHasItsOwnGenerationAndBootID(t *testing.T) {
	root := newRoot(t, nil)
	i := take(t, root)
	reader, err := os.Open(root + generationFile)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	seen := map[string]bool{i.bootIDText: true}
	for _, want := range []string{"00000000000000000001\n", "00000000000000000002\n"} {
		if err := i.generation.raise(); err != nil {
			t.Fatal(err)
		}
		if err := i.renewBootID(); err != nil {
			t.Fatal(err)
		}
		var text [64]byte
		if n, _ := reader.ReadAt(text[:], 0); string(text[:n]) != want {
			t.Errorf("%q, want %q", text[:n], want)
		}
		if seen[i.bootIDText] || content(t, root+bootIDFile) != i.bootIDText+"\n" {
			t.Errorf("%q", i.bootIDText)
		}
		if i.bootIDText[14] != '4' || strings.IndexByte("89ab", i.bootIDText[19]) < 0 || len(i.bootIDText) != 36 {
			t.Errorf("%q is no random UUID", i.bootIDText)
		}
		seen[i.bootIDText] = true
	}
}

func TestChangesOfTheGuestSurviveAShutdown(t *testing.T) {
	root := newRoot(t, map[string]string{hostsFile: "10.0.0.9 db\n", hostnameFile: "image\n"})
	i := take(t, root)
	if err := i.write(hostnameFile, "vm\n", 0o644); err != nil {
		t.Fatal(err)
	}
	hosts, err := os.OpenFile(root+hostsFile, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = hosts.WriteString("10.0.0.8 cache\n")
	_ = hosts.Close()
	var unbound []string
	i.saveChanges(func(target string) error {
		unbound = append(unbound, strings.TrimPrefix(target, root))
		return os.Remove(target)
	})
	if len(unbound) != 1 || unbound[0] != hostsFile {
		t.Errorf("%q", unbound)
	}
	if got := content(t, root+hostsFile); got != "10.0.0.9 db\n10.0.0.8 cache\n" {
		t.Errorf("%q", got)
	}
}

func TestPipeOfTheGuestDoesNotHoldTheAgent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := mkfifo(path); err != nil {
		t.Fatal(err)
	}
	if _, err := readRegular(path, true); err != errNotRegular {
		t.Error(err)
	}
	if err := replaceFile(path, "x", 0o644); err != nil || content(t, path) != "x" {
		t.Error(err)
	}
}
