package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

type greeting struct {
	Name string `json:"name"`
}

func operations() map[string]Handler {
	return map[string]Handler{
		"greet": Handle(func(g greeting) (interface{}, error) {
			return map[string]string{"text": "hello " + g.Name}, nil
		}),
		"nothing": Handle(func(struct{}) (interface{}, error) { return nil, nil }),
		"empty":   Handle(func(struct{}) (interface{}, error) { return struct{}{}, nil }),
		"busy": Handle(func(struct{}) (interface{}, error) {
			return nil, &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
		}),
		"strange": Handle(func(struct{}) (interface{}, error) { return nil, syscall.EXDEV }),
		"named":   Handle(func(struct{}) (interface{}, error) { return nil, fmt.Errorf("x: %w", &Error{"EMINE", "mine"}) }),
		"plain":   Handle(func(struct{}) (interface{}, error) { return nil, errors.New("no") }),
		"list":    Handle(func(struct{}) (interface{}, error) { return []int{1}, nil }),
	}
}

func serve(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- Serve(listener, operations()) }()
	t.Cleanup(func() {
		_ = listener.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return path
}

func dial(t *testing.T, path string) (net.Conn, *bufio.Reader) {
	t.Helper()
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client, bufio.NewReader(client)
}

func TestAnswers(t *testing.T) {
	client, answers := dial(t, serve(t))
	for _, c := range []struct{ request, want string }{
		{`{"op":"greet","name":"you"}`, `{"ok":true,"text":"hello you"}`},
		{`{"op":"nothing"}`, `{"ok":true}`},
		{`{"op":"empty"}`, `{"ok":true}`},
		{`{"op":"busy"}`, "EADDRINUSE"},
		{`{"op":"strange"}`, "EIO"},
		{`{"op":"named"}`, "EMINE"},
		{`{"op":"plain"}`, "EINVAL"},
		{`{"op":"list"}`, "EINVAL"},
		{`{"op":"nothing","more":1}`, "EINVAL"},
		{`{"op":"greet","name":1}`, "EINVAL"},
		{`{"op":"other"}`, "ENOSYS"},
		{`{"op":1}`, "EINVAL"},
		{`{}`, "EINVAL"},
		{`null`, "EINVAL"},
		{`[]`, "EINVAL"},
		{``, "EINVAL"},
		{`{"op":"nothing"} {"op":"nothing"}`, "EINVAL"},
		{`{"op":"nothing"}`, `{"ok":true}`},
	} {
		if _, err := io.WriteString(client, c.request+"\n"); err != nil {
			t.Fatal(err)
		}
		line, err := answers.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v", c.request, err)
		}
		if strings.HasPrefix(c.want, "{") {
			if line != c.want+"\n" {
				t.Errorf("%s: got %s", c.request, line)
			}
			continue
		}
		var got failure
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.OK || got.Code != c.want || got.Message == "" {
			t.Errorf("%s: got %s", c.request, line)
		}
	}
}

func TestLinesAreBounded(t *testing.T) {
	path := serve(t)
	longest := `{"op":"greet","name":"` + strings.Repeat("x", lineLimit)
	longest = longest[:lineLimit-2] + `"}`
	client, answers := dial(t, path)
	go func() { _, _ = io.WriteString(client, longest+"\n") }()
	if line, err := answers.ReadString('\n'); err != nil || !strings.HasPrefix(line, `{"ok":true`) {
		t.Errorf("the longest line: %.80s %v", line, err)
	}
	client, answers = dial(t, path)
	go func() { _, _ = io.WriteString(client, longest+" \n") }()
	if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, "EMSGSIZE") {
		t.Errorf("one byte more: %.80s %v", line, err)
	}
	if _, err := answers.ReadString('\n'); err == nil {
		t.Error("the connection goes on")
	}
}

func TestClientsAreBounded(t *testing.T) {
	path := serve(t)
	for i := 0; i < clientLimit; i++ {
		client, answers := dial(t, path)
		_, _ = io.WriteString(client, `{"op":"nothing"}`+"\n")
		if _, err := answers.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	_, answers := dial(t, path)
	if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, "EBUSY") {
		t.Errorf("%s %v", line, err)
	}
	if _, err := answers.ReadString('\n'); err != io.EOF {
		t.Error(err)
	}
}
