//go:build !amd64

package guest

// sysGetrandom: the number of arm64 and of all others with the generic table.
const sysGetrandom = 278
