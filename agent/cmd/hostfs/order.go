package main

import (
	"errors"
	"io"
	"strings"
)

// maxOrder bounds what is read from stdin, in bytes.
const maxOrder = 1 << 20

// mount is one directory to serve. All of them come as texts that each end with a NUL: "ro" or "rw", the directory on
// the host and that in the guest; after the last one comes "end".
type mount struct {
	writable            bool
	hostPath, guestPath string
}

var errOrder = errors.New("what to serve was not said on stdin")

func readOrder(from io.Reader) (mounts []mount, err error) {
	text, err := io.ReadAll(io.LimitReader(from, maxOrder))
	if err != nil {
		return nil, err
	}
	words := strings.Split(string(text), "\x00")
	// Whoever starts this program may end before it has said all.
	if len(words) < 5 || len(words)%3 != 2 || words[len(words)-2] != "end" || words[len(words)-1] != "" {
		return nil, errOrder
	}
	for words = words[:len(words)-2]; len(words) > 0; words = words[3:] {
		if words[0] != "ro" && words[0] != "rw" {
			return nil, errOrder
		}
		mounts = append(mounts, mount{writable: words[0] == "rw", hostPath: words[1], guestPath: words[2]})
	}
	return mounts, nil
}
