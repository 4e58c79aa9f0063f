// Package ramcopy copies a virtual machine's memory out of the process that holds it, in three steps: what can be done
// while the machine runs, what must be done while it stands still, and what can be done when it runs again. Linux only.
//
// What is in the memory is a guest's: it is moved and compared with zero, never interpreted.
package ramcopy

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

const (
	pageSize  = 4096
	chunkSize = 2 << 20 // bytes; what one worker takes at a time, and the size of a huge page on x86-64
	// chunkPages is the number of pages in a chunk: few enough runs for one process_vm_readv (IOV_MAX is 1024).
	chunkPages = chunkSize / pageSize
	workers    = 2
)

// Failures by what the caller can do about them; others are defects.
var (
	// ErrForbidden means that this host does not let one process read another's memory.
	ErrForbidden = errors.New("the host does not let this program read the memory of the VMM")
	// ErrSource means that the process is gone, or is not the one that was meant.
	ErrSource = errors.New("the VMM is not as it was described")
	// ErrStorage means that a file could not be read or written.
	ErrStorage = errors.New("cannot copy to the memory file")
)

// Options say what to copy.
type Options struct {
	Pid int
	// StartTime is field 22 of /proc/PID/stat: the pid alone may be another process's by now.
	StartTime string
	// Address is where the memory begins in the process.
	Address uint64
	// Size of the memory in bytes; a multiple of the page size.
	Size int64
	// Target is an empty file.
	Target *os.File
	// Base is the file that the process has mapped privately as its memory; nil if the memory began empty.
	Base *os.File
	// BufferLimit is how much changed memory to hold, in bytes; what is beyond goes to the file at once.
	BufferLimit int64
}

// Copier copies one process's memory once.
type Copier struct {
	options Options
	pagemap *os.File
	buffer  *buffer
	// fromBase has the pages that have the base's content in the target; complete when baseDone is closed.
	fromBase  bitmap
	baseDone  chan struct{}
	baseError error

	mu     sync.Mutex
	chunks []chunk
	direct int64
}

// Open checks that the process is the one that is meant and may be read.
func Open(o Options) (*Copier, error) {
	if os.Getpagesize() != pageSize {
		return nil, fmt.Errorf("%w: its pages have %d bytes", ErrForbidden, os.Getpagesize())
	}
	if o.Size <= 0 || o.Size%pageSize != 0 || o.Address%pageSize != 0 {
		return nil, fmt.Errorf("address %#x and size %d are not whole pages", o.Address, o.Size)
	}
	if err := checkIdentity(o.Pid, o.StartTime); err != nil {
		return nil, err
	}
	if err := checkMapping(o); err != nil {
		return nil, err
	}
	pagemap, err := openPagemap(o.Pid)
	if err != nil {
		return nil, err
	}
	// A look at one page, before anything is done: Linux may let a program see the map and yet not the memory.
	if err := readRuns(o.Pid, o.Address, []run{{0, 1}}, make([]byte, pageSize)); err != nil {
		pagemap.Close()
		return nil, err
	}
	pages := newBitmap(o.Size / pageSize)
	return &Copier{options: o, pagemap: pagemap, fromBase: pages, baseDone: make(chan struct{})}, nil
}

// Prepare begins with the base's part of the file, which needs no machine that stands still and goes on meanwhile, and
// finds memory to copy into.
func (c *Copier) Prepare() error {
	changed, err := c.scan(0, c.options.Size/pageSize)
	if err != nil {
		return err
	}
	if err := c.options.Target.Truncate(c.options.Size); err != nil {
		return storageError(err)
	}
	go func() {
		defer close(c.baseDone)
		if c.options.Base != nil {
			c.baseError = c.copyBase(changed)
		}
	}()
	// A little more than has changed up to now; where it is not enough, the copy is only slower.
	size := countPages(changed)*pageSize + countPages(changed)*pageSize/16 + chunkSize
	if c.buffer, err = newBuffer(min64(c.options.Size, c.options.BufferLimit)); err != nil {
		return err
	}
	c.buffer.populate(size)
	if size > c.options.BufferLimit {
		return c.base() // Some of it will go to the file while the machine stands still.
	}
	return nil
}

// base waits until the base's part of the file is there: only then may others be written over it.
func (c *Copier) base() error {
	<-c.baseDone
	return c.baseError
}

// Copy takes what has changed; the machine must stand still.
func (c *Copier) Copy() error {
	pages := c.options.Size / pageSize
	next := make(chan int64, pages/chunkPages+1)
	for first := int64(0); first < pages; first += chunkPages {
		next <- first
	}
	close(next)
	failures := make(chan error, workers)
	for i := 0; i < workers; i++ {
		go func() { failures <- c.copyChunks(next) }()
	}
	var failure error
	for i := 0; i < workers; i++ {
		if err := <-failures; err != nil && failure == nil {
			failure = err
		}
	}
	if failure != nil {
		return failure
	}
	// Had the process ended in between, another could have got its pid.
	return checkIdentity(c.options.Pid, c.options.StartTime)
}

func (c *Copier) copyChunks(next <-chan int64) error {
	for first := range next {
		count := min64(chunkPages, c.options.Size/pageSize-first)
		runs, err := c.scan(first, count)
		if err != nil {
			return err
		}
		if len(runs) == 0 {
			continue
		}
		part := chunk{runs: runs, data: c.buffer.take(countPages(runs) * pageSize)}
		isDirect := part.data == nil
		if isDirect {
			part.data = make([]byte, countPages(runs)*pageSize)
		}
		if err := readRuns(c.options.Pid, c.options.Address, runs, part.data); err != nil {
			return err
		}
		if isDirect {
			if err := c.base(); err != nil {
				return err
			}
			if err := c.write(part); err != nil {
				return err
			}
		}
		c.mu.Lock()
		if isDirect {
			c.direct += int64(len(part.data))
		} else {
			c.chunks = append(c.chunks, part)
		}
		c.mu.Unlock()
	}
	return nil
}

// Write puts what was copied into the file. The machine may run.
func (c *Copier) Write() error {
	if err := c.base(); err != nil {
		return err
	}
	for _, part := range c.chunks {
		if err := c.write(part); err != nil {
			return err
		}
	}
	return nil
}

// Copied is how many bytes Copy took.
func (c *Copier) Copied() int64 {
	copied := c.direct
	for _, part := range c.chunks {
		copied += int64(len(part.data))
	}
	return copied
}

func min64(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}

func storageError(err error) error {
	return fmt.Errorf("%w: %v", ErrStorage, err)
}
