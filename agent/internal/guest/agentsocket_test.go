package guest

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"smolvm.dev/agent/internal/session"
)

// echoing gives everything back until the client leaves.
func echoing(d session.Duplex) error {
	_, err := io.Copy(d, d)
	return err
}

func testSocket(t *testing.T) (*agentSocket, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.sock")
	s, err := listenOnSocket(path, echoing)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s, path
}

func dialSocket(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// answers says a word and waits for it to come back.
func answers(c net.Conn) bool {
	word := []byte("word")
	if _, err := c.Write(word); err != nil {
		return false
	}
	_, err := io.ReadFull(c, word)
	return err == nil
}

func TestSocketIsRootsAlone(t *testing.T) {
	_, path := testSocket(t)
	stat, err := os.Stat(path)
	if err != nil || stat.Mode().Perm() != 0o600 {
		t.Error(stat.Mode(), err)
	}
}

func TestSocketServesAndHangsUp(t *testing.T) {
	s, path := testSocket(t)
	one, two := dialSocket(t, path), dialSocket(t, path)
	if !answers(one) || !answers(two) {
		t.Fatal("no answer")
	}
	s.hangUp()
	if answers(one) || answers(two) {
		t.Error("answers after it hung up")
	}
	if !answers(dialSocket(t, path)) {
		t.Error("no answer to a later client")
	}
	s.close()
	s.close()
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		t.Error("takes clients after its end")
	}
}

func TestSocketReplacesWhatWasThere(t *testing.T) {
	first, path := testSocket(t)
	second, err := listenOnSocket(path, echoing)
	if err != nil {
		t.Fatal(err)
	}
	defer second.close()
	first.close()
	if !answers(dialSocket(t, path)) {
		t.Error("no answer")
	}
}

func TestSocketLetsWaitWhoIsTooMany(t *testing.T) {
	_, path := testSocket(t)
	var clients []net.Conn
	for n := 0; n < maxSocketClients; n++ {
		clients = append(clients, dialSocket(t, path))
		if !answers(clients[n]) {
			t.Fatal("no answer to client ", n)
		}
	}
	late := dialSocket(t, path)
	_ = late.SetDeadline(time.Now().Add(100 * time.Millisecond))
	if answers(late) {
		t.Error("one too many is served")
	}
	_ = late.SetDeadline(time.Now().Add(10 * time.Second))
	clients[0].Close()
	if word := make([]byte, 4); func() error { _, err := io.ReadFull(late, word); return err }() != nil {
		t.Error("the late one is not served once there is room")
	}
}
