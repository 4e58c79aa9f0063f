// Command logkeeper runs on the host, one for each VM: it copies the VM's consoles from inherited descriptors into
// bounded files. It outlives the program that started the VM, and ends when all its inputs have ended.
package main

import (
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"smolvm.dev/agent/internal/logfile"
	"smolvm.dev/agent/internal/privilege"
)

const (
	bufferSize = 32 << 10 // bytes
	minLimit   = 4096     // bytes
	gcPercent  = 20

	usage = "usage: logkeeper --dir DIR --limit BYTES NAME=FD [NAME=FD ...]\n"
)

type input struct {
	name string
	fd   int
}

type options struct {
	dir    string
	limit  int64
	inputs []input
}

func main() {
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(gcPercent)
	o, ok := parse(os.Args[1:])
	if !ok {
		os.Stderr.WriteString(usage)
		os.Exit(2)
	}
	// Caught and dropped: the log must go on when the terminal or the program that started the VM goes away.
	// SIGTERM keeps its default and ends the process; nothing is buffered that could be lost.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	// What it reads is the guest's. Its files may be another user's than root.
	if err := privilege.Limit(privilege.DACOverride); err != nil {
		os.Stderr.WriteString("logkeeper: " + err.Error() + "\n")
		os.Exit(1)
	}
	var running sync.WaitGroup
	running.Add(len(o.inputs))
	for _, in := range o.inputs {
		in := in
		go func() {
			defer running.Done()
			keep(in.fd, logfile.New(o.dir, in.name, o.limit))
		}()
	}
	running.Wait()
}

// keep reads with plain system calls, so that it does not matter what kind of descriptor it is.
func keep(fd int, log *logfile.File) {
	defer log.Close()
	_ = syscall.SetNonblock(fd, false)
	buffer := make([]byte, bufferSize)
	for {
		n, err := syscall.Read(fd, buffer)
		switch {
		case err == syscall.EINTR:
		case err != nil || n <= 0:
			return
		default:
			log.Append(buffer[:n])
		}
	}
}

func parse(arguments []string) (o options, ok bool) {
	for len(arguments) > 0 {
		argument := arguments[0]
		arguments = arguments[1:]
		if argument == "--dir" || argument == "--limit" {
			if len(arguments) == 0 {
				return o, false
			}
			value := arguments[0]
			arguments = arguments[1:]
			if argument == "--dir" {
				o.dir = value
			} else if limit, err := strconv.ParseInt(value, 10, 64); err == nil {
				o.limit = limit
			}
			continue
		}
		equals := strings.IndexByte(argument, '=')
		if equals < 1 || !validName(argument[:equals]) {
			return o, false
		}
		fd, err := strconv.Atoi(argument[equals+1:])
		if err != nil || fd < 0 {
			return o, false
		}
		o.inputs = append(o.inputs, input{argument[:equals], fd})
	}
	return o, o.dir != "" && o.limit >= minLimit && len(o.inputs) > 0
}

// validName keeps a log inside its directory.
func validName(name string) bool {
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '-' && c != '_' && c != '.') {
			return false
		}
	}
	return true
}
