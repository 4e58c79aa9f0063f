package session

import (
	"smolvm.dev/agent/internal/command"
	"smolvm.dev/agent/internal/frame"
)

// readSize is the size of the buffer between the lane and the decoder, in bytes.
const readSize = frame.MaxData + frame.HeaderSize

// Config is what all lanes share.
type Config struct {
	Starter    *command.Starter
	Window     *Window // nil: commands never survive their connection
	Operations map[string]Operation
	Exchanges  map[string]ExchangeOperation
	Processes  *Processes   // nil: none can be detached
	Version    string       // the agent's own
	Log        func(string) // for what only a developer can use
}

// Operation reads the fields of a CALL, the name included, and returns what answers it. The first part must be
// quick and must keep nothing of the payload; an error there is a protocol error. The second runs in a goroutine
// of its own.
type Operation func(payload []byte) (answer func() Result, err error)

// ExchangeOperation is an Operation that also takes data from the client, or gives data to it. The second part may
// wait for either; it returns soon after its exchange was cancelled.
type ExchangeOperation func(payload []byte) (answer func(*Exchange) Result, err error)

// Result is the outcome of an operation. After, if any, runs when the reply has reached the host.
type Result struct {
	Reply  []byte
	Failed *command.Failure
	// Copied says that the machine turned out to be a copy, and that the caller is the copy's own client.
	Copied bool
	After  func()
}

// server is one lane. All of it belongs to the goroutine that reads.
type server struct {
	duplex  Duplex
	config  *Config
	matcher frame.Matcher
	decoder frame.Decoder
	conn    *conn   // nil while waiting for a preamble
	outlet  *outlet // the last one that may still be writing
}

// Serve serves the lane until reading from it fails.
func Serve(d Duplex, config *Config) error {
	s := &server{duplex: d, config: config, decoder: frame.Decoder{From: frame.FromClient}}
	defer s.hangUp()
	buffer := make([]byte, readSize)
	prepareOutputs()
	for {
		n, err := d.Read(buffer)
		if n > 0 {
			s.take(buffer[:n])
		}
		if err == ErrClientLeft {
			s.hangUp()
		} else if err != nil {
			return err
		}
	}
}

// take handles the next bytes from the client.
func (s *server) take(p []byte) {
	defer func() {
		// One broken connection must not end PID 1 and with it the VM.
		if r := recover(); r != nil {
			s.config.Log("panic in a session: " + describePanic(r))
			s.hangUp()
		}
	}()
	for {
		at := s.matcher.Find(p)
		if at < 0 {
			break
		}
		s.hangUp()
		s.conn = newConn(s)
		p = p[at:]
	}
	if s.conn == nil {
		return
	}
	if err := s.decoder.Feed(p, s.conn.handle); err != nil {
		code := "EPROTO"
		if err == errVersion {
			code = "EPROTONOSUPPORT"
		}
		s.conn.fatal(code, err.Error())
		s.conn = nil
	}
}

// hangUp ends the connection, if there is one, without a word to the client.
func (s *server) hangUp() {
	s.decoder.Reset()
	if s.conn != nil {
		s.conn.close()
		s.conn = nil
	}
	if s.outlet != nil {
		s.outlet.kill()
		s.outlet = nil
	}
}

func describePanic(r interface{}) string {
	switch v := r.(type) {
	case error:
		return v.Error()
	case string:
		return v
	}
	return "unknown"
}
