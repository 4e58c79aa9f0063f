package session

import (
	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

// call is one CALL on its way to a REPLY.
type call struct {
	conn   *conn
	id     uint32
	size   int // of the payload, in bytes
	answer func() Result
}

func newCall(c *conn, id uint32, payload []byte) (*call, error) {
	named := false
	name := ""
	err := frame.Each(payload, func(f frame.Field) (err error) {
		if f.Tag == 1 {
			named = true
			name, err = f.Text()
		}
		return err
	})
	if err == nil && !named {
		err = frame.ErrField
	}
	if err != nil {
		return nil, err
	}
	answer := func() Result {
		return Result{Failed: &command.Failure{Code: "ENOSYS",
			Message: "Cannot call \"" + name + "\": unknown operation"}}
	}
	if operation := c.config.Operations[name]; operation != nil {
		if answer, err = operation(payload); err != nil {
			return nil, err
		}
	}
	return &call{conn: c, id: id, size: len(payload), answer: answer}, nil
}

func (c *call) run() {
	result := c.answer()
	c.answer = nil
	if result.Copied {
		c.conn.renew()
	}
	c.conn.settle(c.size)
	c.conn.forget(c.id)
	answer := message{kind: frame.Reply, stream: c.id, payload: result.Reply}
	if result.Failed != nil {
		answer = failedMessage(c.id, result.Failed)
	}
	if result.After == nil {
		_ = c.conn.outlet.send(answer)
		return
	}
	_ = c.conn.outlet.sendLast(answer)
	result.After()
}

// handle: a call takes no further frames.
func (c *call) handle(frame.Header, []byte) error { return errState }

// abandon: an operation runs to its end; only its answer is lost.
func (c *call) abandon() {}

func (c *call) detach() {}
