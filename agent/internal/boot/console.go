package boot

import (
	"io"
	"os"
	"syscall"
	"time"
)

const (
	// consoleQueue bounds the lines that wait for the console; more are lost.
	consoleQueue = 64
	// consoleDrain is how long the machine's end waits for the console.
	consoleDrain = 500 * time.Millisecond
)

// console takes lines from anybody at any time and never makes them wait: root in the guest can stop the terminal
// (TCOOFF, flow control), and whoever writes to it then hangs. One goroutine does that for all.
type console chan consoleEntry

// consoleEntry is a line, or somebody who waits until all lines before are written.
type consoleEntry struct {
	line    string
	written chan struct{}
}

var theConsole = make(console, consoleQueue)

func (c console) write(line string) {
	select {
	case c <- consoleEntry{line: line}:
	default:
	}
}

// drain waits until what was written so far is out, or for the limit.
func (c console) drain(limit time.Duration) {
	written, timeout := make(chan struct{}), time.After(limit)
	select {
	case c <- consoleEntry{written: written}:
	case <-timeout:
		return
	}
	select {
	case <-written:
	case <-timeout:
	}
}

func (c console) serve(to io.Writer) {
	for entry := range c {
		if entry.written != nil {
			close(entry.written)
			continue
		}
		_, _ = io.WriteString(to, entry.line)
	}
}

// openConsole makes /dev/console the place for log lines, and makes sure that descriptors 0 to 2 are taken, so
// that no pipe of a command ever gets one of them.
func openConsole() {
	for {
		fd, err := syscall.Open("/dev/null", syscall.O_RDWR, 0)
		if err != nil {
			break
		}
		if fd > 2 {
			_ = syscall.Close(fd)
			break
		}
	}
	var to io.Writer = io.Discard
	if file, err := os.OpenFile("/dev/console", os.O_WRONLY|syscall.O_NOCTTY, 0); err == nil {
		to = file
	}
	go theConsole.serve(to)
}

// Log writes a line to the console, soon. A serial console is slow: few lines.
func Log(text string) { writeConsole("smolvm-agent: " + text + "\n") }

func writeConsole(line string) { theConsole.write(line) }
