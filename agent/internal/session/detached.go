package session

import (
	"unicode/utf8"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

// detached is a command that belongs to the machine. It is the sink of its own output, of which clients have views.
type detached struct {
	task // whose lock guards what follows too

	id    string
	about []byte // what List says of it that never changes; of the process, once it has started
	ring  *ring
	users int  // who may still read the ring
	over  bool // it has ended, and all its output is in the ring
}

func newDetached(request *execRequest) *detached {
	d := &detached{}
	d.init(request)
	return d
}

// launch starts the command and lets it run until it ends, whatever becomes of whoever asked for it. When it has worked,
// the caller is a user of the ring.
func (d *detached) launch(config *Config) *command.Failure {
	if d.request.invalid != nil {
		return d.request.invalid
	}
	owner := config.Processes
	if owner == nil {
		return &command.Failure{Code: "ENOSYS", Message: "Cannot detach a process: not possible here"}
	}
	if failed := owner.admit(d); failed != nil {
		return failed
	}
	about := describe(&d.request.spec, d.request.terminal)
	process, outputs, failed := d.start(config.Starter, d)
	if failed != nil {
		owner.refuse(d)
		return failed
	}
	d.about = append(about, startedNow(process)...)
	d.adopt(process, outputs)
	d.users++ // nobody else knows of it yet
	owner.add(d)
	spawn := func(run func()) { guard(config.Log, d.kill, run) }
	spawn(func() {
		d.attend(spawn)
		d.mu.Lock()
		d.over = true
		d.mu.Unlock()
		d.changed.Broadcast()
		owner.end(d)
	})
	return nil
}

// guard runs part of a process in a goroutine that cannot take the agent down.
func guard(log func(string), failed, run func()) {
	go func() {
		defer func() {
			if r := recover(); r != nil {
				log("panic in a detached process: " + describePanic(r))
				failed()
			}
		}()
		run()
	}()
}

func (d *detached) room(uint8) int { return maxChunk }

func (d *detached) put(channel uint8, chunk []byte) bool {
	d.mu.Lock()
	d.ring.write(channel, chunk[frame.HeaderSize:])
	d.mu.Unlock()
	d.changed.Broadcast()
	return true
}

// leave says that somebody no longer reads the ring.
func (d *detached) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.users--; d.users == 0 {
		d.ring.free()
	}
}

const (
	// maxDescribed bounds what is kept of an argv or a command line, in bytes, with the headers of its fields: what List
	// answers must fit one frame.
	maxDescribed = 512
	maxUserName  = 64
)

func describe(spec *command.Spec, terminal bool) []byte {
	user := spec.User
	if user == "" {
		user = "root"
	}
	p := frame.AppendText(nil, 10, cut(user, maxUserName))
	if terminal {
		p = frame.AppendBytes(p, 11, []byte{1})
	}
	if len(spec.Argv) == 0 {
		return frame.AppendText(p, 4, cut(spec.Line, maxDescribed))
	}
	left := maxDescribed
	for _, argument := range spec.Argv {
		if left <= 0 {
			break
		}
		argument = cut(argument, left)
		p = frame.AppendText(p, 3, argument)
		left -= len(argument) + fieldOverhead
	}
	return p
}

// fieldOverhead is the size of a field without its value, in bytes.
const fieldOverhead = 5

// cut shortens a text to at most n bytes, between two characters.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
