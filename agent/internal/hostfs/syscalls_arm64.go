package hostfs

// sysRenameat2: package syscall of Go 1.19 lacks it.
const sysRenameat2 = 276

// sysNewfstatat is called newfstatat elsewhere.
const sysNewfstatat = 79
