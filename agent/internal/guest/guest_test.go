package guest

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"smolvm.dev/agent/internal/frame"
)

func TestHostsKeepsTheRest(t *testing.T) {
	once := hostsWith("127.0.0.1 localhost\n127.0.1.1 old\n10.0.0.9 db\n", "new.example")
	if once != "127.0.0.1 localhost\n10.0.0.9 db\n127.0.1.1\tnew.example new\n" {
		t.Errorf("%q", once)
	}
	if again := hostsWith(once, "new.example"); again != once {
		t.Errorf("not idempotent: %q", again)
	}
	if fresh := hostsWith("", "vm"); fresh != "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\tvm\n" {
		t.Errorf("%q", fresh)
	}
}

func TestReplaceFileReplacesALink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.WriteFile(target, []byte("keep"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(link, "new", 0o644); err != nil {
		t.Fatal(err)
	}
	kept, _ := os.ReadFile(target)
	written, _ := os.ReadFile(link)
	if string(kept) != "keep" || string(written) != "new" {
		t.Errorf("%q %q", kept, written)
	}
}

func TestSettings(t *testing.T) {
	p := frame.AppendText(nil, 1, "configure")
	p = frame.AppendText(p, 10, "bad name\n")
	p = frame.AppendText(p, 14, "10.0.2.15/24")
	p = frame.AppendText(p, 14, "fd00::2/64")
	p = frame.AppendText(p, 15, "nonsense")
	p = frame.AppendText(p, 16, "1.1.1.1")
	p = frame.AppendText(p, 19, "XYZ")
	s, err := parseSettings(p)
	if err != nil || len(s.addresses) != 2 || len(s.warnings) != 3 || s.hostname != "" || s.machineID != "" {
		t.Errorf("%+v %v", s, err)
	}
	if got := s.resolver(); got != "nameserver 1.1.1.1\n" {
		t.Errorf("%q", got)
	}
	if _, err := parseSettings(frame.AppendBytes(nil, 18, []byte{1})); err == nil {
		t.Error("an MTU of one byte passes")
	}
}

func TestSettingsOfACopy(t *testing.T) {
	p := frame.AppendText(nil, 21, "52:54:00:00:0a:FF")
	p = frame.AppendText(p, 22, "PRIVATE")
	p = frame.AppendText(p, 23, "public")
	p = frame.AppendBytes(p, 24, []byte{1})
	s, err := parseSettings(p)
	if err != nil || !reflect.DeepEqual(s.mac, []byte{0x52, 0x54, 0, 0, 0x0a, 0xff}) || s.sshPrivate != "PRIVATE" ||
		s.sshPublic != "public" || !s.isCopy || len(s.warnings) != 0 {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := parseSettings(frame.AppendBytes(nil, 24, []byte{2})); err == nil {
		t.Error("a flag of two passes")
	}
	for _, bad := range []string{"", "52:54:00:00:0a", "52:54:00:00:0a:0b:0c", "52-54-00-00-0a-0b", "52:54:0:00:0a:0b",
		"53:54:00:00:0a:0b", "+1:54:00:00:0a:0b"} {
		if s, err := parseSettings(frame.AppendText(nil, 21, bad)); err != nil || s.mac != nil || len(s.warnings) != 1 {
			t.Errorf("%q: %+v %v", bad, s, err)
		}
	}
}

func TestParseAddress(t *testing.T) {
	// A RTM_NEWADDR body for 10.1.2.3/30 on interface 2, as the kernel sends it.
	body := []byte{2, 30, 0, 0, 2, 0, 0, 0, 8, 0, 1, 0, 10, 1, 2, 3, 8, 0, 2, 0, 10, 1, 2, 3}
	got, ok := parseAddress(body, 2)
	if !ok || got != netip.MustParsePrefix("10.1.2.3/30") {
		t.Error(got, ok)
	}
	if _, ok := parseAddress(body, 3); ok {
		t.Error("another interface's address")
	}
	for cut := range body {
		parseAddress(body[:cut], 2) // must not panic
	}
}

func TestUnescape(t *testing.T) {
	if got := unescape(`/a\040b\134`); got != `/a b\` {
		t.Errorf("%q", got)
	}
}

func TestWritableDisks(t *testing.T) {
	got := writableDisks(`22 1 254:0 / / rw,noatime shared:1 - ext4 /dev/vda rw
23 22 0:5 / /dev rw,nosuid - devtmpfs devtmpfs rw,size=4k
24 22 254:0 /a\040b /bind\0401 ro,relatime - ext4 /dev/vda rw,errors=continue
25 22 254:16 / /data rw master:1 propagate_from:2 - ext4 /dev/vdb ro
26 22 254:32 / /more rw - xfs /dev/vdc ro,attr2
27 22 7:0 / /loop rw - ext4 /dev/loop0 rw
garbage
- - -
`)
	want := []diskMount{{"7:0", "/loop"}, {"254:0", "/bind 1"}, {"254:0", "/"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
