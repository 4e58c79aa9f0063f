package session

import (
	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

// noLimit stands for output without a limit.
const noLimit = ^uint64(0)

// execRequest is a parsed EXEC.
type execRequest struct {
	spec        command.Spec
	limits      [3]uint64 // by channel; stdin's is not used
	keepOrphans bool
	stdin       bool
	terminal    bool
	size        terminalSize
	detached    bool
	bytes       int // of the payload
	invalid     *command.Failure
}

func parseExec(payload []byte) (*execRequest, error) {
	r := &execRequest{limits: [3]uint64{noLimit, noLimit, noLimit}, bytes: len(payload)}
	hasLine := false
	hasLimit := false
	err := frame.Each(payload, func(f frame.Field) (err error) {
		var text string
		switch f.Tag {
		case 1:
			text, err = f.Text()
			r.spec.Argv = append(r.spec.Argv, text)
		case 2:
			text, err = f.Text()
			r.spec.Environment = append(r.spec.Environment, text)
			if !command.ValidEntry(text) {
				r.refuse("environment entry \"" + text + "\" is not KEY=VALUE")
			}
		case 3:
			r.spec.Dir, err = f.Text()
			if r.spec.Dir == "" {
				r.refuse("working directory is empty")
			}
		case 4:
			r.spec.User, err = f.Text()
		case 5:
			hasLimit = true
			r.limits[frame.Stdout], err = f.U64()
		case 6:
			hasLimit = true
			r.limits[frame.Stderr], err = f.U64()
		case 7:
			r.keepOrphans, err = f.Flag()
		case 8:
			hasLine = true
			r.spec.Line, err = f.Text()
		case 9:
			r.stdin, err = f.Flag()
		case 10, 11:
			r.terminal = true
			err = r.size.take(f, 10, 11)
		case 12:
			r.detached, err = f.Flag()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if hasLine == (len(r.spec.Argv) > 0) {
		r.refuse("needs either arguments or a command line")
	}
	if r.terminal && !r.size.valid() {
		r.refuse("a terminal has 1 to 65535 columns and rows")
	}
	if r.detached && hasLimit {
		r.refuse("the output of a detached process has no limits")
	}
	return r, nil
}

// refuse notes the first reason why a well-formed request cannot be carried out.
func (r *execRequest) refuse(reason string) {
	if r.invalid == nil {
		r.invalid = &command.Failure{Code: "EINVAL", Message: "Cannot start a command: " + reason}
	}
}
