package egress

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"time"
)

// copyBuffer is in bytes; each connection has two.
const copyBuffer = 32 << 10

// carry copies both ways until both sides have ended, one has failed, or nothing has moved for long.
func (c *connection) carry() {
	defer c.close()
	c.begun = time.Now()
	ended := make(chan struct{}, 2)
	go func() { c.send(); ended <- struct{}{} }()
	go func() { c.receive(); ended <- struct{}{} }()
	wait := c.proxy.idleWait
	idle := time.NewTimer(wait)
	defer idle.Stop()
	for running := 2; running > 0; {
		select {
		case <-ended:
			running--
		case <-idle.C:
			left := wait - (time.Since(c.begun) - time.Duration(c.active.Load()))
			if left <= 0 {
				c.end()
				left = wait
			}
			idle.Reset(left)
		}
	}
}

func (c *connection) touch() { c.active.Store(int64(time.Since(c.begun))) }

// send carries what the client says.
func (c *connection) send() {
	said := c.read
	c.read = nil
	var err error
	if c.request != nil {
		err = c.sendRequest(said)
	} else if _, err = c.server.Write(said); err == nil {
		err = c.copy(c.server, c.client)
	}
	switch {
	case err == nil:
		err = closeWrite(c.server)
	case errors.Is(err, errBody):
		c.note(malformed(""))
	}
	// A response that is whole must not be cut by what the client still says.
	if err != nil && !c.answered.Load() {
		c.end()
	}
}

// sendRequest passes on one request, and nothing behind it: a second one would need a check of its own. Its client is
// told by the server, which sees "Connection: close", that the connection ends.
func (c *connection) sendRequest(said []byte) error {
	if _, err := c.server.Write(c.request.head); err != nil {
		return err
	}
	rest := said[headEnd(said):]
	body := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(rest), activeReader{c}), bodyBuffer)
	if err := c.request.copyBody(c.server, body); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c.client)
	return err
}

// receive carries what the server says.
func (c *connection) receive() {
	err := c.copy(c.client, c.server)
	if err == nil && c.request != nil {
		c.answered.Store(true)
		// Reading goes on for a moment, so that closing does not reset the connection. See farewell.
		_ = c.client.SetReadDeadline(time.Now().Add(lingerWait))
	}
	if err == nil {
		err = closeWrite(c.client)
	}
	if err != nil {
		c.end()
	}
}

func (c *connection) copy(to, from net.Conn) error {
	buffer := make([]byte, copyBuffer)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			c.touch()
			if _, err := to.Write(buffer[:n]); err != nil {
				return err
			}
			c.touch()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// activeReader reads from the client.
type activeReader struct{ c *connection }

func (r activeReader) Read(buffer []byte) (int, error) {
	n, err := r.c.client.Read(buffer)
	if n > 0 {
		r.c.touch()
	}
	return n, err
}
