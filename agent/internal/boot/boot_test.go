package boot

import (
	"bufio"
	"os"
	"reflect"
	"testing"
	"time"
)

func TestAStoppedConsoleStopsNobody(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	c := make(console, consoleQueue)
	line := string(make([]byte, 1023)) + "\n"
	done := make(chan struct{})
	go c.serve(write)
	go func() {
		for i := 0; i < 1000; i++ { // more than the pipe takes
			c.write(line)
		}
		c.drain(50 * time.Millisecond)
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("a writer waits for the console")
	}

	// It goes on: what there was room for comes, and what is said now.
	lines := bufio.NewScanner(read)
	for i := 0; i < consoleQueue; i++ {
		if !lines.Scan() || lines.Text() != line[:1023] {
			t.Fatalf("line %d is %q", i, lines.Text())
		}
	}
	go func() {
		c.drain(5 * time.Second) // there is room again
		c.write("power off\n")
		c.drain(5 * time.Second)
		write.Close()
	}()
	last := ""
	for lines.Scan() {
		last = lines.Text()
	}
	if last != "power off" {
		t.Errorf("the last line is %q", last)
	}
}

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
