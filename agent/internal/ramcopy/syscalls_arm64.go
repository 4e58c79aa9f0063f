package ramcopy

// Numbers that Go's syscall package does not have (include/uapi/asm-generic/unistd.h).
const (
	sysProcessVMReadv = 270
	sysCopyFileRange  = 285
)
