//go:build !go1.20

package command

import "syscall"

// placedAtStart: Go before 1.20 cannot; the process is moved right after its start. What it forked before that
// stays outside and is only found by its session id.
const placedAtStart = false

func placeInto(*syscall.SysProcAttr, *group) {}
