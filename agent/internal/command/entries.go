package command

// Entries returns what all commands of the VM get, whoever runs them: PATH and LANG, then the VM's own, each name once.
func (e *Environment) Entries() []string {
	e.mu.Lock()
	vm := e.entries
	e.mu.Unlock()
	entries := make([]string, 0, 2+len(vm))
	for _, basic := range [...]string{"PATH=" + defaultPath, "LANG=" + defaultLang} {
		if lookupEnv(vm, basic[:4]) == "" {
			entries = append(entries, basic)
		}
	}
	return append(entries, vm...)
}

const defaultLang = "C.UTF-8"
