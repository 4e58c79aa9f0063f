package ramcopy

// Numbers that Go's syscall package does not have (arch/x86/entry/syscalls/syscall_64.tbl).
const (
	sysProcessVMReadv = 310
	sysCopyFileRange  = 326
)
