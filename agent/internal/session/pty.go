package session

import (
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"smolvm.dev/agent/internal/frame"
)

// Requests of ioctl_tty(2), <asm-generic/ioctls.h>.
const (
	tiocswinsz  = 0x5414
	tiocsptlck  = 0x40045431
	tiocgptn    = 0x80045430
	tiocgptpeer = 0x5441
)

const (
	// terminalHeld, in bytes, is more than the kernel holds of a terminal's output: 8 KiB on its way (drivers/tty/pty.c)
	// and 4 KiB to be read (N_TTY_BUF_SIZE).
	terminalHeld = 64 << 10
	ctrlD        = 4
	maxSide      = 65535
)

// terminalSize is in characters. Zero is what was not given.
type terminalSize struct{ columns, rows uint32 }

func (s terminalSize) valid() bool {
	return s.columns > 0 && s.columns <= maxSide && s.rows > 0 && s.rows <= maxSide
}

// take reads a field that has one of these tags.
func (s *terminalSize) take(f frame.Field, columns, rows uint8) (err error) {
	switch f.Tag {
	case columns:
		s.columns, err = f.U32()
	case rows:
		s.rows, err = f.U32()
	}
	return err
}

// terminal is a pseudo-terminal between the agent and a command.
type terminal struct {
	master *os.File
	raw    syscall.RawConn
	// slave stays open here too: else reading from the master would end whenever no process has it open.
	slave int
}

func openTerminal(size terminalSize) (*terminal, error) {
	fd, err := syscall.Open("/dev/ptmx", syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	slave := -1
	unlocked := int32(0)
	if err = ioctl(uintptr(fd), tiocsptlck, uintptr(unsafe.Pointer(&unlocked))); err == nil {
		slave, err = openSlave(uintptr(fd))
	}
	if err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	t := &terminal{master: os.NewFile(uintptr(fd), "terminal"), slave: slave}
	t.raw, _ = t.master.SyscallConn()
	t.resize(size)
	return t, nil
}

// openSlave opens the other end by the kernel's own way, which needs no name in a file system that is the guest's.
func openSlave(master uintptr) (int, error) {
	const flags = syscall.O_RDWR | syscall.O_NOCTTY | syscall.O_CLOEXEC
	if fd, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master, tiocgptpeer, flags); errno == 0 {
		return int(fd), nil
	}
	var number uint32 // before Linux 4.13
	if err := ioctl(master, tiocgptn, uintptr(unsafe.Pointer(&number))); err != nil {
		return -1, err
	}
	return syscall.Open("/dev/pts/"+strconv.Itoa(int(number)), flags, 0)
}

func ioctl(fd, request, argument uintptr) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, argument); errno != 0 {
		return errno
	}
	return nil
}

// resize tells the foreground process group with a SIGWINCH, if the size is another.
func (t *terminal) resize(size terminalSize) {
	cells := [4]uint16{uint16(size.rows), uint16(size.columns)} // struct winsize
	_ = t.raw.Control(func(fd uintptr) { _ = ioctl(fd, tiocswinsz, uintptr(unsafe.Pointer(&cells))) })
}

// typeEnd types what ends the input. Within a line a first Ctrl-D only hands that over, as long as the terminal knows
// lines.
func (t *terminal) typeEnd(last byte) {
	keys := []byte{ctrlD}
	if last != '\n' && last != '\r' && t.knowsLines() {
		keys = append(keys, ctrlD)
	}
	_, _ = t.master.Write(keys)
}

func (t *terminal) knowsLines() bool {
	var settings syscall.Termios
	err := syscall.EBADF
	_ = t.raw.Control(func(fd uintptr) {
		_, _, err = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TCGETS, uintptr(unsafe.Pointer(&settings)))
	})
	return err == 0 && settings.Lflag&syscall.ICANON != 0
}

// close ends the terminal for everybody who has it open. Only one goroutine may call it.
func (t *terminal) close() {
	if t.slave >= 0 {
		_ = syscall.Close(t.slave)
		t.slave = -1
	}
	_ = t.master.Close()
}
