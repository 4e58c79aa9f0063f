package boot

import (
	"reflect"
	"testing"
)

func TestParams(t *testing.T) {
	p := ParseParams("console=ttyS0 quiet smolvm.root=/dev/vda a=1 a=2 dyndbg=\"file x +p\" " +
		"virtio_mmio.device=512@0xfeb00e00:12 virtio-mmio.device=512@0xfeb00c00:11\n")
	if p.Get("smolvm.root") != "/dev/vda" || p.Get("a") != "2" || p.Get("quiet") != "" || p.Get("roo") != "" {
		t.Errorf("%q", p)
	}
	if got := p.Get("dyndbg"); got != "file x +p" {
		t.Errorf("quoted: %q", got)
	}
	if got := p.ForModule("virtio_mmio"); got != "device=512@0xfeb00e00:12 device=512@0xfeb00c00:11" {
		t.Errorf("%q", got)
	}
	if got := ParseParams(""); !reflect.DeepEqual([]string(got), []string{}) {
		t.Errorf("%q", got)
	}
}
