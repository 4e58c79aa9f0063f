package boot

import (
	"os"
	"sync"
	"syscall"
)

var (
	consoleMu sync.Mutex
	console   *os.File
)

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
	if file, err := os.OpenFile("/dev/console", os.O_WRONLY|syscall.O_NOCTTY, 0); err == nil {
		consoleMu.Lock()
		console = file
		consoleMu.Unlock()
	}
}

// Log writes a line to the console. A serial console is slow: few lines.
func Log(text string) { writeConsole("smolvm-agent: " + text + "\n") }

func writeConsole(line string) {
	consoleMu.Lock()
	defer consoleMu.Unlock()
	if console != nil {
		_, _ = console.WriteString(line)
	}
}
