package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"

	"smolvm.dev/agent/internal/privilege"
)

const (
	// firstFreeDescriptor is the lowest number that a descriptor of ours can have: stdin, stdout and stderr are below.
	firstFreeDescriptor = 3
	maxPort             = 1<<16 - 1
)

type options struct {
	laneFd    int
	readyFd   int
	control   string
	listeners []inherited
	runAs     privilege.Identity
}

// inherited is a socket that listens already, and where it leads.
type inherited struct{ fd, guestPort int }

func parse(arguments []string, usage io.Writer) (options, error) {
	o := options{runAs: privilege.Nobody}
	flags := flag.NewFlagSet("portd", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.IntVar(&o.laneFd, "lane-fd", 0, "`descriptor` of the lane")
	flags.IntVar(&o.readyFd, "ready-fd", 0, "`descriptor` on which readiness is told; 0 for none")
	flags.StringVar(&o.control, "control", "", "`path` of the socket for orders, which is made")
	flags.Func("listener", "`descriptor:port`: a listening socket and the port of the guest that it leads to", func(text string) error {
		fd, port, _ := strings.Cut(text, ":")
		one := inherited{}
		var err, portErr error
		one.fd, err = strconv.Atoi(fd)
		one.guestPort, portErr = strconv.Atoi(port)
		if err != nil || portErr != nil || one.guestPort < 1 || one.guestPort > maxPort {
			return errors.New("not descriptor:port")
		}
		o.listeners = append(o.listeners, one)
		return nil
	})
	flags.Func("runas", "`uid:gid` that root becomes first (default: nobody)", func(text string) (err error) {
		o.runAs, err = privilege.Parse(text)
		return err
	})
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.control == "" {
		return o, errors.New("-lane-fd and -control are needed, and nothing but options")
	}
	return o, o.checkDescriptors()
}

func (o options) checkDescriptors() error {
	given := []int{o.laneFd}
	if o.readyFd != 0 {
		given = append(given, o.readyFd)
	}
	for _, one := range o.listeners {
		given = append(given, one.fd)
	}
	seen := make(map[int]bool)
	for _, fd := range given {
		if fd < firstFreeDescriptor || seen[fd] {
			return fmt.Errorf("descriptor %d is not an inherited one, or is given twice", fd)
		}
		seen[fd] = true
	}
	return nil
}
