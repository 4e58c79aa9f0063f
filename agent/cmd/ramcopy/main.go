// Command ramcopy runs on the host while a virtual machine is copied: it copies the machine's memory out of its VMM's
// process into a file. It talks with whoever started it:
//
//	ramcopy --pid PID --start-time TICKS --address ADDRESS --size BYTES --target-fd FD [--base-fd FD]
//
//	stdout "ready"           the machine may be stopped
//	stdin  "go"              it stands still
//	stdout "copied BYTES"    it may go on
//	exit status 0            the file is complete
//
// It ends at once when its stdin does: a copy that nobody waits for is of no use.
//
//	ramcopy digest PATH...
//
// prints the digest of each file (package sparsehash), one a line.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"

	"smolvm.dev/agent/internal/ramcopy"
	"smolvm.dev/agent/internal/sparsehash"
)

// Exit statuses, beside 0.
const (
	exitFailed    = 1
	exitUsage     = 2
	exitForbidden = 3
	exitStorage   = 4
	exitSource    = 5
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "digest" {
		if err := digest(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(exitFailed)
		}
		return
	}
	o, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitUsage)
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(status(err))
	}
}

func digest(paths []string) error {
	for _, path := range paths {
		sum, err := sparsehash.Sum(path)
		if err != nil {
			return err
		}
		fmt.Println(sum)
	}
	return nil
}

func run(o ramcopy.Options) error {
	stopped := make(chan struct{}, 1)
	go listen(stopped)
	copier, err := ramcopy.Open(o)
	if err != nil {
		return err
	}
	if err := copier.Prepare(); err != nil {
		return err
	}
	fmt.Println("ready")
	<-stopped
	if err := copier.Copy(); err != nil {
		return err
	}
	fmt.Println("copied", copier.Copied())
	return copier.Write()
}

// listen passes on that the machine stands still, and ends the program with its stdin.
func listen(stopped chan<- struct{}) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if lines.Text() == "go" {
			select {
			case stopped <- struct{}{}:
			default:
			}
		}
	}
	fmt.Fprintln(os.Stderr, "nobody waits for the copy")
	os.Exit(exitFailed)
}

func parse(arguments []string) (o ramcopy.Options, err error) {
	flags := flag.NewFlagSet("ramcopy", flag.ContinueOnError)
	address := flags.String("address", "", "where the memory begins in the process, hexadecimal")
	target := flags.Int("target-fd", -1, "descriptor of an empty file")
	base := flags.Int("base-fd", -1, "descriptor of the file that the memory was made from")
	flags.IntVar(&o.Pid, "pid", 0, "the process")
	flags.StringVar(&o.StartTime, "start-time", "", "field 22 of its /proc/PID/stat")
	flags.Int64Var(&o.Size, "size", 0, "bytes of memory")
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	if o.Address, err = strconv.ParseUint(*address, 0, 64); err != nil {
		return o, err
	}
	if o.Pid <= 0 || o.StartTime == "" || o.Size <= 0 || *target < 3 || *base == *target || flags.NArg() > 0 {
		return o, errors.New("usage: ramcopy --pid PID --start-time TICKS --address ADDRESS --size BYTES --target-fd FD")
	}
	o.Target = os.NewFile(uintptr(*target), "target")
	if *base >= 3 {
		o.Base = os.NewFile(uintptr(*base), "base")
	}
	o.BufferLimit = ramcopy.DefaultBufferLimit()
	return o, nil
}

func status(err error) int {
	switch {
	case errors.Is(err, ramcopy.ErrForbidden):
		return exitForbidden
	case errors.Is(err, ramcopy.ErrStorage):
		return exitStorage
	case errors.Is(err, ramcopy.ErrSource):
		return exitSource
	}
	return exitFailed
}
