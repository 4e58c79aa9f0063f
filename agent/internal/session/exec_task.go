package session

import (
	"sync"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

const (
	// maxEarlySignals bounds the signals kept for a command that has not started yet.
	maxEarlySignals = 16
	maxSignal       = 64
	// killLimit bounds the wait for the processes of a killed command: one may hang in the kernel.
	killLimit = 3 * time.Second
)

// task is a command as such, whoever sees its output: its process, its input, and what was asked of it.
type task struct {
	request *execRequest

	mu       sync.Mutex
	changed  *sync.Cond // anything below, or of what embeds this, has changed
	process  *command.Process
	outputs  [2]*pump         // the second is nil with a terminal
	input    *stdin           // nil when nobody may write to it
	terminal *terminal        // nil without
	early    []syscall.Signal // for a process that does not exist yet
	size     terminalSize
	killed   bool
	unwanted bool          // it need not start any more
	gone     chan struct{} // closed when unwanted; nil before anybody asks
	ended    bool          // the process itself has ended
}

func (t *task) init(request *execRequest) {
	t.request = request
	t.size = request.size
	t.changed = sync.NewCond(&t.mu)
	if request.stdin {
		t.input = &stdin{task: t}
	}
}

// sink is where the output of a command goes. There is one caller for each channel.
type sink interface {
	// room waits until the sink takes more of the channel, and returns how much, in bytes; 0: it never will.
	room(channel uint8) int
	// put takes output, which lies behind room for a frame's header, and reports whether it takes more.
	put(channel uint8, chunk []byte) bool
}

// start connects the command to its sink and its input, and starts it. Nothing flows before attend.
func (t *task) start(starter *command.Starter, to sink) (*command.Process, [2]*pump, *command.Failure) {
	var none [2]*pump
	request := t.request
	if request.invalid != nil {
		return nil, none, request.invalid
	}
	files, err := t.connect()
	if err != nil {
		return nil, none, &command.Failure{Code: command.ErrnoName(err),
			Message: "Cannot make pipes or a terminal for a command: " + err.Error()}
	}
	request.spec.Terminal = request.terminal
	request.spec.Caller = t
	process, failed := starter.Start(&request.spec, files.child())
	request.spec = command.Spec{}
	files.closeChildEnds()
	if failed != nil {
		files.close()
		return nil, none, failed
	}
	if t.input != nil {
		t.input.attach(&files)
	}
	t.terminal = files.terminal
	return process, files.pumps(t, to), nil
}

func (t *task) connect() (files, error) {
	if t.request.terminal {
		terminal, err := openTerminal(t.request.size)
		return files{terminal: terminal}, err
	}
	return takeFiles(t.input != nil)
}

// adopt notes the started process and catches up with what has been asked of it meanwhile.
func (t *task) adopt(p *command.Process, outputs [2]*pump) {
	t.mu.Lock()
	t.process = p
	t.outputs = outputs
	early, kill, size := t.early, t.killed, t.size
	t.early = nil
	t.mu.Unlock()
	if t.terminal != nil && size != t.request.size {
		t.terminal.resize(size)
	}
	for _, signal := range early {
		p.Signal(signal)
	}
	if kill {
		p.KillAll()
	}
}

// attend carries input and output until the command has ended and the sink has what it said.
func (t *task) attend(spawn func(run func())) {
	process := t.process
	if t.input != nil {
		spawn(t.input.run)
	}
	var pumps sync.WaitGroup
	for _, p := range t.outputs {
		if p := p; p != nil {
			pumps.Add(1)
			spawn(func() {
				defer pumps.Done()
				p.run()
			})
		}
	}
	<-process.Done
	if !t.request.keepOrphans {
		process.KillAll()
	}
	if t.wasKilled() {
		// Whoever kills a command is told of its end when all of it is gone.
		process.AwaitEmpty(killLimit)
	}
	t.mu.Lock()
	t.ended = true
	t.interruptOutputs()
	t.mu.Unlock()
	t.changed.Broadcast()
	if t.input != nil {
		t.input.stop()
	}
	pumps.Wait()
	if t.terminal != nil {
		t.terminal.close()
	}
	process.Release()
}

// Gone is closed when nobody wants the command any more.
func (t *task) Gone() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gone == nil {
		t.gone = make(chan struct{})
		if t.unwanted {
			close(t.gone)
		}
	}
	return t.gone
}

// cancel says that the command need not start, if it has not begun to. The lock is held.
func (t *task) cancel() {
	if t.unwanted || t.process != nil {
		return
	}
	t.unwanted = true
	if t.gone != nil {
		close(t.gone)
	}
}

func (t *task) signal(payload []byte) error {
	number := uint32(0)
	err := frame.Each(payload, func(f frame.Field) (err error) {
		if f.Tag == 1 {
			number, err = f.U32()
		}
		return err
	})
	if err != nil || number == 0 || number > maxSignal {
		return frame.ErrField
	}
	t.mu.Lock()
	process := t.process
	if process == nil && len(t.early) < maxEarlySignals {
		t.early = append(t.early, syscall.Signal(number))
	}
	t.mu.Unlock()
	if process != nil {
		process.Signal(syscall.Signal(number))
	}
	return nil
}

func (t *task) resize(payload []byte) error {
	var size terminalSize
	if err := frame.Each(payload, func(f frame.Field) error { return size.take(f, 1, 2) }); err != nil {
		return err
	}
	if !size.valid() {
		return frame.ErrField
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size = size
	if t.process != nil && t.terminal != nil {
		t.terminal.resize(size)
	}
	return nil
}

func (t *task) kill() {
	t.mu.Lock()
	t.killed = true
	t.cancel()
	process := t.process
	t.mu.Unlock()
	if process != nil {
		process.KillAll()
	}
}

func (t *task) wasKilled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.killed
}

func (t *task) hasEnded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended
}

// interruptOutputs wakes pumps that wait for output. The lock is held.
func (t *task) interruptOutputs() {
	for _, p := range t.outputs {
		if p != nil {
			p.interrupt()
		}
	}
}

// appendExit adds how the command has ended: its exit code or its signal, by these tags.
func (t *task) appendExit(payload []byte, code, signal uint8) []byte {
	if status := t.process.Status; status.Signaled() {
		return frame.AppendU32(payload, signal, uint32(status.Signal()))
	}
	return frame.AppendU32(payload, code, uint32(t.process.Status.ExitStatus()))
}

// exited returns the frames that end a stream of the command; dropped is what its client has not got of each output.
func (t *task) exited(stream uint32, dropped [3]uint64) [3]message {
	payload := t.appendExit(nil, 1, 2)
	payload = frame.AppendU64(payload, 3, dropped[frame.Stdout])
	payload = frame.AppendU64(payload, 4, dropped[frame.Stderr])
	payload = frame.AppendU64(payload, 5, uint64(t.process.RunTime.Microseconds()))
	return [3]message{
		{kind: frame.End, channel: frame.Stdout, stream: stream},
		{kind: frame.End, channel: frame.Stderr, stream: stream},
		{kind: frame.Exited, stream: stream, payload: payload},
	}
}
