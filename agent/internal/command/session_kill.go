package command

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// killPasses bounds how often the process table is read: a process may fork while it is being read.
const killPasses = 4

// killSession kills all processes of a session, the way to end a command where there is no cgroup v2. A program
// that called setsid itself escapes it.
func killSession(session int) {
	for pass := 0; pass < killPasses; pass++ {
		if !killSessionOnce(session) {
			return
		}
	}
}

func killSessionOnce(session int) (found bool) {
	dir, err := os.Open("/proc")
	if err != nil {
		return false
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid <= 1 {
			continue
		}
		if alive, id := sessionOf(name); alive && id == session {
			found = true
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return found
}

// sessionOf reads the session id of a process; one that is only a zombie counts as gone.
func sessionOf(pid string) (alive bool, session int) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false, 0
	}
	// The name in parentheses may hold anything; state, ppid, pgrp and session follow the last one.
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 4 || fields[0] == "Z" || fields[0] == "X" {
		return false, 0
	}
	session, err = strconv.Atoi(fields[3])
	return err == nil, session
}
