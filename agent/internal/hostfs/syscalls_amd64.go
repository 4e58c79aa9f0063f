package hostfs

// sysRenameat2: package syscall of Go 1.19 lacks it.
const sysRenameat2 = 316

// sysNewfstatat is called fstatat elsewhere.
const sysNewfstatat = 262
