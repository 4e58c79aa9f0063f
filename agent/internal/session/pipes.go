package session

import (
	"os"
	"sync"
	"syscall"

	"smolvm.dev/agent/internal/frame"
)

// files are what a command's stdin, stdout and stderr are connected to.
type files struct {
	stdin    duct // without an end of ours when it is /dev/null
	outputs  [2]duct
	terminal *terminal // in place of all others, if it is there
}

// duct is a pipe between the agent and a command.
type duct struct {
	ours   *os.File
	theirs int
}

// spareOutputs is a pair of pipes made beforehand: a command need not wait for them.
var spareOutputs = make(chan [2]duct, 1)

// prepareOutputs makes the pipes for the outputs of the next command.
func prepareOutputs() {
	if len(spareOutputs) > 0 {
		return
	}
	outputs, err := newOutputs()
	if err != nil {
		return // who needs them will see
	}
	select {
	case spareOutputs <- outputs:
	default:
		closeOutputs(outputs)
	}
}

func takeFiles(stdinPiped bool) (f files, err error) {
	select {
	case f.outputs = <-spareOutputs:
	default:
		if f.outputs, err = newOutputs(); err != nil {
			return f, err
		}
	}
	if stdinPiped {
		f.stdin, err = newDuct(0, 1)
	} else {
		f.stdin.theirs, err = openNull()
	}
	if err != nil {
		closeOutputs(f.outputs)
	}
	return f, err
}

func newOutputs() (outputs [2]duct, err error) {
	if outputs[0], err = newDuct(1, 0); err != nil {
		return outputs, err
	}
	if outputs[1], err = newDuct(1, 0); err != nil {
		outputs[0].close()
	}
	return outputs, err
}

func closeOutputs(outputs [2]duct) {
	for _, d := range outputs {
		d.close()
	}
}

// newDuct makes a pipe; the arguments say which of its ends (0 to read, 1 to write) is whose.
func newDuct(theirEnd, ourEnd int) (duct, error) {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return duct{}, err
	}
	// Only our end is non-blocking; programs do not expect that of theirs.
	if err := syscall.SetNonblock(p[ourEnd], true); err != nil {
		_ = syscall.Close(p[0])
		_ = syscall.Close(p[1])
		return duct{}, err
	}
	return duct{ours: os.NewFile(uintptr(p[ourEnd]), "pipe"), theirs: p[theirEnd]}, nil
}

func (d duct) close() {
	_ = d.ours.Close()
	_ = syscall.Close(d.theirs)
}

var (
	nullMu sync.Mutex
	null   = -1
)

// openNull returns a descriptor of /dev/null that all commands share and nobody closes.
func openNull() (fd int, err error) {
	nullMu.Lock()
	defer nullMu.Unlock()
	if null < 0 {
		if fd, err = syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err != nil {
			return -1, err
		}
		null = fd
	}
	return null, nil
}

// child returns the command's descriptors 0 to 2.
func (f *files) child() [3]uintptr {
	if f.terminal != nil {
		slave := uintptr(f.terminal.slave)
		return [3]uintptr{slave, slave, slave}
	}
	return [3]uintptr{uintptr(f.stdin.theirs), uintptr(f.outputs[0].theirs), uintptr(f.outputs[1].theirs)}
}

// closeChildEnds closes what only the command needs.
func (f *files) closeChildEnds() {
	if f.terminal != nil {
		return // see terminal.slave
	}
	if f.stdin.ours != nil {
		_ = syscall.Close(f.stdin.theirs)
	}
	for _, d := range f.outputs {
		_ = syscall.Close(d.theirs)
	}
}

// pumps returns what carries the outputs to the sink.
func (f *files) pumps(t *task, to sink) [2]*pump {
	if f.terminal != nil {
		p := newPump(t, to, frame.Stdout, f.terminal.master)
		p.shared = true
		return [2]*pump{p}
	}
	return [2]*pump{newPump(t, to, frame.Stdout, f.outputs[0].ours), newPump(t, to, frame.Stderr, f.outputs[1].ours)}
}

// close closes the agent's ends.
func (f *files) close() {
	if f.terminal != nil {
		f.terminal.close()
		return
	}
	if f.stdin.ours != nil {
		_ = f.stdin.ours.Close()
	}
	for _, d := range f.outputs {
		_ = d.ours.Close()
	}
}

const (
	setPipeSize = 1031 // F_SETPIPE_SZ, <linux/fcntl.h>
	// pipeSize in bytes: fewer switches between a program that floods its output and the agent.
	pipeSize = 256 << 10
)

func growPipe(fd uintptr) {
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, fd, setPipeSize, pipeSize)
}
