package files

// Numbers that package syscall names differently, or not at all, depending on the architecture.
const (
	sysFstatat   = 262
	sysGetrandom = 318
)
