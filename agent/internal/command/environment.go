package command

import (
	"strings"
	"sync"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Environment is what every command of the VM gets; configure replaces it as a whole.
type Environment struct {
	mu      sync.Mutex
	entries []string
}

// Set replaces all entries.
func (e *Environment) Set(entries []string) {
	e.mu.Lock()
	e.entries = entries
	e.mu.Unlock()
}

// defaultTerminal is what programs can take a client's terminal for when nobody says otherwise.
const defaultTerminal = "xterm-256color"

// merge builds the environment of a command: the user's basics, then the VM's entries, then the command's own.
func (e *Environment) merge(a *Account, spec *Spec) []string {
	e.mu.Lock()
	vm := e.entries
	e.mu.Unlock()
	merged := make([]string, 0, 7+len(vm)+len(spec.Environment))
	at := make(map[string]int, cap(merged))
	add := func(entry string) {
		name := entry[:strings.IndexByte(entry, '=')]
		if i, known := at[name]; known {
			merged[i] = entry
			return
		}
		at[name] = len(merged)
		merged = append(merged, entry)
	}
	add("PATH=" + defaultPath)
	add("HOME=" + a.Home)
	add("USER=" + a.Name)
	add("LOGNAME=" + a.Name)
	add("SHELL=" + a.Shell)
	add("LANG=C.UTF-8")
	if spec.Terminal {
		add("TERM=" + defaultTerminal)
	}
	for _, entry := range vm {
		add(entry)
	}
	for _, entry := range spec.Environment {
		add(entry)
	}
	return merged
}

// ValidEntry reports whether an entry is KEY=VALUE with a key.
func ValidEntry(entry string) bool {
	return strings.IndexByte(entry, '=') > 0 && strings.IndexByte(entry, 0) < 0
}

func lookupEnv(entries []string, name string) string {
	for _, entry := range entries {
		if len(entry) > len(name) && entry[len(name)] == '=' && entry[:len(name)] == name {
			return entry[len(name)+1:]
		}
	}
	return ""
}
