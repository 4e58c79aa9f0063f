// Package control serves the control socket of a program of the host: one JSON object a line, and one line in answer to
// each. Who may connect is a matter of the directory that the socket is in, and of Only; it is never the guest.
package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// lineLimit is the longest request, in bytes, without the end of its line.
	lineLimit = 1 << 20
	// clientLimit is how many clients are served at a time.
	clientLimit = 16
	// idleLimit is how long a client may say nothing: one that has forgotten to leave keeps others out.
	idleLimit = 60 * time.Second
	// writeLimit is how long a client may take to read an answer.
	writeLimit = 10 * time.Second
	// acceptPause is the wait after a failure that may pass, such as too many open files.
	acceptPause = 100 * time.Millisecond
)

// Handler carries out a request, which comes without its "op". What it returns is said beside "ok": an object, or nil.
type Handler func(request json.RawMessage) (interface{}, error)

type server struct {
	operations map[string]Handler
	places     chan struct{}
	mu         sync.Mutex // one request at a time
}

// Serve answers requests until the listener is closed, which is no error.
func Serve(listener net.Listener, operations map[string]Handler) error {
	s := &server{operations: operations, places: make(chan struct{}, clientLimit)}
	for {
		client, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			if passing, ok := err.(interface{ Temporary() bool }); ok && passing.Temporary() {
				time.Sleep(acceptPause)
				continue
			}
			return err
		}
		select {
		case s.places <- struct{}{}:
			go s.serve(client)
		default:
			s.reply(client, nil, &Error{"EBUSY", fmt.Sprintf("%d clients are served already", clientLimit)})
			_ = client.Close()
		}
	}
}

// serve answers one client.
func (s *server) serve(client net.Conn) {
	defer func() { <-s.places }()
	defer client.Close()
	lines := bufio.NewReaderSize(client, lineLimit+1)
	for {
		_ = client.SetReadDeadline(time.Now().Add(idleLimit))
		line, err := lines.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			s.reply(client, nil, &Error{"EMSGSIZE", fmt.Sprintf("a request has at most %d bytes", lineLimit)})
			return
		}
		if err != nil {
			return
		}
		result, err := s.do(line)
		if !s.reply(client, result, err) {
			return
		}
	}
}

// do carries out the request of a line.
func (s *server) do(line []byte) (interface{}, error) {
	var request map[string]json.RawMessage
	decoder := json.NewDecoder(bytes.NewReader(line))
	if err := decoder.Decode(&request); err != nil {
		return nil, &Error{invalid, "a request is one object of JSON on one line"}
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, &Error{invalid, "something follows the request on its line"}
	}
	var name string
	if err := json.Unmarshal(request["op"], &name); err != nil {
		return nil, &Error{invalid, "a request has an \"op\""}
	}
	operation, ok := s.operations[name]
	if !ok {
		return nil, &Error{"ENOSYS", fmt.Sprintf("there is no operation %q", name)}
	}
	delete(request, "op")
	fields, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return operation(fields)
}

type failure struct {
	OK      bool   `json:"ok"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// reply writes an answer and reports whether the client can be told more.
func (s *server) reply(client net.Conn, result interface{}, err error) bool {
	var line []byte
	if err == nil {
		line, err = success(result)
	}
	if err != nil {
		line, _ = json.Marshal(failure{Code: codeOf(err), Message: err.Error()})
	}
	_ = client.SetWriteDeadline(time.Now().Add(writeLimit))
	_, err = client.Write(append(line, '\n'))
	return err == nil
}

// success puts "ok" before the fields of a result.
func success(result interface{}) ([]byte, error) {
	const alone = `{"ok":true}`
	if result == nil {
		return []byte(alone), nil
	}
	fields, err := json.Marshal(result)
	switch {
	case err != nil:
		return nil, err
	case len(fields) < 2 || fields[0] != '{':
		return nil, fmt.Errorf("the result %s is not an object", fields)
	case len(fields) == len("{}"):
		return []byte(alone), nil
	}
	return append([]byte(`{"ok":true,`), fields[1:]...), nil
}

// Handle makes a Handler of a function whose request has these fields and no other.
func Handle[Request any](operation func(Request) (interface{}, error)) Handler {
	return func(fields json.RawMessage) (interface{}, error) {
		var request Request
		decoder := json.NewDecoder(bytes.NewReader(fields))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&request); err != nil {
			return nil, &Error{invalid, err.Error()}
		}
		return operation(request)
	}
}
