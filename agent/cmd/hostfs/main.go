// Command hostfs runs on the host, one for each VM with mounts: it serves directories of the host to the guest over a
// lane of the guest's channel. It outlives the program that started the VM, and ends when the lane or all mounts do.
//
//	hostfs -lane-fd FD
//
// The descriptor is a connected socket of a lane, which nobody else reads. What to serve comes on stdin (see order.go), so that it is in no process list. On stdout it says "ready" once the
// guest can use every mount, or "error", a tab, the number of the mount or -1, a tab, an errno's name, a tab and a
// sentence; then it ends.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/fuse"
	"smolvm.dev/agent/internal/hostfs"
	"smolvm.dev/agent/internal/laneclient"
	"smolvm.dev/agent/internal/privilege"
)

const (
	// greetLimit is how long the agent may take to answer.
	greetLimit = 10 * time.Second
	// readyLimit is how long the guest may take until every mount can be used.
	readyLimit = 30 * time.Second
	// keptBytes is for what the guest's kernel makes this program remember: some 600,000 names of usual length, as
	// large trees have. With a half more that waits for the collector it stays below memoryLimit.
	keptBytes = 224 << 20
	// memoryLimit is for the whole heap, in bytes. Near to it the collector works more often; nothing fails.
	memoryLimit = 352 << 20
	// maxHandles is how many files a guest may have open.
	maxHandles = 1 << 15
	// spareFiles is how many descriptors are for everything else, also for requests that are being worked on.
	spareFiles = 512
	gcPercent  = 50
	bufferSize = 64 << 10
)

func main() {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	// Caught and dropped: mounts must go on when the terminal or the program that started the VM goes away.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	// Root keeps what the files of others need, and nothing that reaches beyond files.
	err := privilege.Limit(privilege.Chown, privilege.DACOverride, privilege.DACReadSearch, privilege.FOwner, privilege.FSetID)
	if err == nil {
		err = run(os.Args[1:])
	}
	if err != nil {
		report(err)
		os.Exit(1)
	}
}

// mountError is a failure of one mount.
type mountError struct {
	index int
	code  string
	text  string
}

func (e *mountError) Error() string { return e.text }

func report(err error) {
	failure := &mountError{index: -1, code: "EIO", text: err.Error()}
	var told *mountError
	if errors.As(err, &told) {
		failure = told
	}
	fmt.Fprintf(os.Stdout, "error\t%d\t%s\t%q\n", failure.index, failure.code, failure.text)
}

func run(arguments []string) error {
	lane, err := inheritLane(arguments)
	if err != nil {
		return err
	}
	// Before all of it has come, nothing is read from the lane or written to it: who started us may use it still.
	mounts, err := readOrder(os.Stdin)
	if err != nil {
		return err
	}
	_ = syscall.Umask(0) // The guest's kernel has applied that of its process.
	roots, err := openRoots(mounts)
	if err != nil {
		return err
	}
	client, err := laneclient.Open(lane, greetLimit)
	if err != nil {
		return fmt.Errorf("cannot speak to the guest: %w", err)
	}
	defer client.Close()
	calls, err := mountAll(client, mounts, roots)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_ = os.Stdout.Close()
	for _, call := range calls {
		<-call.Done()
	}
	return nil
}

func inheritLane(arguments []string) (net.Conn, error) {
	flags := flag.NewFlagSet("hostfs", flag.ContinueOnError)
	fd := flags.Int("lane-fd", 0, "`descriptor` of the lane")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if *fd <= 2 {
		return nil, errors.New("-lane-fd must be an inherited descriptor")
	}
	syscall.CloseOnExec(*fd)
	file := os.NewFile(uintptr(*fd), "lane")
	defer file.Close()
	lane, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("cannot use descriptor %d as a lane: %w", *fd, err)
	}
	return lane, nil
}

// openRoots opens what is served: from now on it is those directories, whatever becomes of their paths.
func openRoots(mounts []mount) ([]*hostfs.Root, error) {
	memory, handles := hostfs.NewBudget(keptBytes), hostfs.NewBudget(handleLimit())
	roots := make([]*hostfs.Root, len(mounts))
	for i, m := range mounts {
		root, err := hostfs.OpenRoot(m.hostPath, m.writable, memory, handles)
		if err != nil {
			return nil, &mountError{i, errnoName(err), "cannot open the directory on the host: " + err.Error()}
		}
		roots[i] = root
	}
	return roots, nil
}

func handleLimit() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
	switch {
	case limit.Cur < 2*spareFiles:
		return int(limit.Cur / 2)
	case limit.Cur > maxHandles+spareFiles:
		return maxHandles
	}
	return int(limit.Cur) - spareFiles
}

const (
	tagGuestPath = 10
	tagWritable  = 12
	tagIndex     = 13
)

// mountAll has the guest mount one after the other: one may be inside of an earlier one.
func mountAll(client *laneclient.Client, mounts []mount, roots []*hostfs.Root) ([]*laneclient.Call, error) {
	limit := time.NewTimer(readyLimit)
	defer limit.Stop()
	calls := make([]*laneclient.Call, len(mounts))
	for i, m := range mounts {
		fields := frame.AppendBytes(nil, tagGuestPath, []byte(m.guestPath))
		if m.writable {
			fields = frame.AppendBytes(fields, tagWritable, []byte{1})
		}
		call, err := client.Call("mount", frame.AppendU32(fields, tagIndex, uint32(i)))
		if err != nil {
			return nil, err
		}
		calls[i] = call
		go serve(call, roots[i], m.writable)
		select {
		case <-call.Ready():
		case <-call.Done():
			return nil, refusal(i, call.Err())
		case <-limit.C:
			return nil, &mountError{i, "ETIMEDOUT", "the guest did not mount it in time"}
		}
	}
	return calls, nil
}

func serve(call *laneclient.Call, root *hostfs.Root, writable bool) {
	server := &fuse.Server{FS: root, ReadOnly: !writable}
	_ = server.Serve(bufio.NewReaderSize(call, bufferSize), call)
	root.Close()
}

// refusal is why a mount ended before it could be used.
func refusal(index int, err error) error {
	var failure *laneclient.Failure
	switch {
	case errors.As(err, &failure):
		return &mountError{index, failure.Code, failure.Message}
	case err == nil || err == io.EOF:
		return &mountError{index, "ECONNRESET", "the guest ended it at once"}
	}
	return &mountError{index, "EPROTO", err.Error()}
}

func errnoName(err error) string {
	switch err {
	case syscall.ENOENT:
		return "ENOENT"
	case syscall.EACCES, syscall.EPERM:
		return "EACCES"
	case syscall.ENOTDIR:
		return "ENOTDIR"
	case syscall.ELOOP:
		return "ELOOP"
	case syscall.ENOSYS:
		return "ENOSYS"
	}
	return "EIO"
}
