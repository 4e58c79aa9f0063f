//go:build go1.20

package command

import "syscall"

// placedAtStart says that a process is born in its cgroup, so that nothing of it can be outside.
const placedAtStart = true

func placeInto(attr *syscall.SysProcAttr, c *group) {
	attr.UseCgroupFD = true
	attr.CgroupFD = c.dir
}
