package session

import (
	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

// call is one CALL on its way to a REPLY.
type call struct {
	conn     *conn
	id       uint32
	size     int // of the payload, in bytes
	answer   func() Result
	exchange *Exchange // nil for an operation without data
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
	made := &call{conn: c, id: id, size: len(payload)}
	if operation := c.config.Operations[name]; operation != nil {
		made.answer, err = operation(payload)
	} else if operation := c.config.Exchanges[name]; operation != nil {
		var answer func(*Exchange) Result
		answer, err = operation(payload)
		made.exchange = newExchange(c, id)
		made.answer = func() Result { return answer(made.exchange) }
	} else {
		made.answer = func() Result {
			return Result{Failed: &command.Failure{Code: "ENOSYS",
				Message: "Cannot call \"" + name + "\": unknown operation"}}
		}
	}
	if err != nil {
		return nil, err
	}
	return made, nil
}

func (c *call) run() {
	result := c.answer()
	c.answer = nil
	if c.exchange != nil {
		c.exchange.finish()
	}
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

func (c *call) handle(h frame.Header, payload []byte) error {
	if h.Type == frame.Kill {
		c.abandon()
		return nil
	}
	if c.exchange == nil {
		return errState
	}
	return c.exchange.handle(h, payload)
}

// abandon: an operation without data runs to its end; only its answer is lost.
func (c *call) abandon() {
	if c.exchange != nil {
		c.exchange.cancel()
	}
}

func (c *call) detach() { c.abandon() }
