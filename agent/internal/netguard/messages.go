package netguard

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync"
)

// logLimit bounds what netguard and its children write to stderr in all their lives, in bytes; the guest can provoke
// messages.
const logLimit = 64 * 1024

// Messages is a bounded log.
type Messages struct {
	to    io.Writer
	mutex sync.Mutex
	left  int
}

// NewMessages writes to `to`.
func NewMessages(to io.Writer) *Messages { return &Messages{to: to, left: logLimit} }

// Printf writes a line.
func (m *Messages) Printf(format string, values ...any) { m.write(fmt.Sprintf(format+"\n", values...)) }

func (m *Messages) write(line string) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if len(line) > m.left {
		line = line[:m.left]
	}
	m.left -= len(line)
	if line != "" {
		_, _ = io.WriteString(m.to, line)
	}
}

// Copy copies a child's lines until it ends. passt complains about a missing syslog line by line.
func (m *Messages) Copy(from io.Reader) {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 && !strings.HasPrefix(string(line), "Failed to send ") && strings.TrimSpace(string(line)) != "" {
			m.write(string(line))
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}
