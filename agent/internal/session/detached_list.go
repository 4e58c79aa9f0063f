package session

import (
	"encoding/hex"
	"io"
	"os"
	"sync"
	"time"

	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

const (
	// maxDetached is how many detached processes may run at once.
	maxDetached = 64
	// keptEnded is how many are kept when they have ended, for who wants to hear of it.
	keptEnded = 32
)

// Processes are the detached processes of the machine. The zero value has none.
type Processes struct {
	mu      sync.Mutex
	running int         // also those that are being started
	list    []*detached // by their start
	ended   []*detached // by their end; these are in list too
}

// admit makes room for a process that is about to be started; add or refuse must follow.
func (p *Processes) admit(d *detached) *command.Failure {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running >= maxDetached {
		return &command.Failure{Code: "EAGAIN", Message: "Cannot detach a process: too many are running"}
	}
	id, err := p.freshID()
	if err == nil {
		d.ring, err = newRing()
	}
	if err != nil {
		return &command.Failure{Code: command.ErrnoName(err), Message: "Cannot detach a process: " + err.Error()}
	}
	d.id = id
	d.users = 1
	p.running++
	return nil
}

// freshID is random, so that no id means another process in a copy of the machine, or after a restart.
func (p *Processes) freshID() (string, error) {
	source, err := os.Open("/dev/urandom")
	if err != nil {
		return "", err
	}
	defer source.Close()
	for {
		var b [4]byte
		if _, err := io.ReadFull(source, b[:]); err != nil {
			return "", err
		}
		if id := hex.EncodeToString(b[:]); p.byID(id) == nil {
			return id, nil
		}
	}
}

func (p *Processes) byID(id string) *detached {
	for _, d := range p.list {
		if d.id == id {
			return d
		}
	}
	return nil
}

// refuse is for a process that could not be started.
func (p *Processes) refuse(d *detached) {
	p.mu.Lock()
	p.running--
	p.mu.Unlock()
	d.leave()
}

func (p *Processes) add(d *detached) {
	p.mu.Lock()
	p.list = append(p.list, d)
	p.mu.Unlock()
}

// end notes the end of a process, and forgets the one that ended longest ago.
func (p *Processes) end(d *detached) {
	p.mu.Lock()
	p.running--
	p.ended = append(p.ended, d)
	var forgotten *detached
	if len(p.ended) > keptEnded {
		forgotten = p.ended[0]
		p.ended = append([]*detached(nil), p.ended[1:]...)
		for i, other := range p.list {
			if other == forgotten {
				p.list = append(p.list[:i:i], p.list[i+1:]...)
				break
			}
		}
	}
	p.mu.Unlock()
	if forgotten != nil {
		forgotten.leave()
	}
}

// find returns the process of that id, for one more user, or nil.
func (p *Processes) find(id string) *detached {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.byID(id)
	if d != nil {
		d.mu.Lock()
		d.users++
		d.mu.Unlock()
	}
	return d
}

// List is the operation that lists them.
func (p *Processes) List([]byte) (func() Result, error) {
	return func() Result {
		p.mu.Lock()
		list := append([]*detached(nil), p.list...)
		p.mu.Unlock()
		var reply []byte
		for _, d := range list {
			reply = frame.AppendBytes(reply, 10, d.describeNow())
		}
		return Result{Reply: reply}
	}, nil
}

// startedNow adds to what describe says.
func startedNow(process *command.Process) []byte {
	p := frame.AppendU32(nil, 2, uint32(process.Pid))
	return frame.AppendU64(p, 5, uint64(time.Now().UnixNano()))
}

func (d *detached) describeNow() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := append(frame.AppendText(nil, 1, d.id), d.about...)
	if d.ended {
		p = d.appendExit(p, 6, 7)
	}
	p = frame.AppendU64(p, 8, d.ring.start)
	p = frame.AppendU64(p, 9, d.ring.end)
	if d.input != nil && !d.input.closed() {
		p = frame.AppendBytes(p, 12, []byte{1})
	}
	return p
}
