//go:build !amd64

package files

// The numbers of arm64 and of all others with the generic table.
const (
	sysFstatat   = 79
	sysGetrandom = 278
)
