package guest

// sysGetrandom: package syscall has the number only for some architectures.
const sysGetrandom = 318
