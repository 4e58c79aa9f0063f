package mount

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"

	"smolvm.dev/agent/internal/fuse"
)

var errAnswer = errors.New("not an answer of the FUSE protocol")

// relay carries messages between the kernel and the host.
type relay struct {
	device *os.File
	host   io.ReadWriter
	ended  chan struct{} // closed when one direction has ended
	once   sync.Once
	// unmounted is set, before ended is closed, when the kernel has let go of the file system.
	unmounted bool
}

func newRelay(device *os.File, host io.ReadWriter) *relay {
	return &relay{device: device, host: host, ended: make(chan struct{})}
}

func (r *relay) start() {
	go func() {
		err := r.requests()
		r.end(errors.Is(err, syscall.ENODEV))
	}()
	go func() {
		_ = r.answers()
		r.end(false)
	}()
}

func (r *relay) end(unmounted bool) {
	r.once.Do(func() {
		r.unmounted = unmounted
		close(r.ended)
	})
}

// stop lets the kernel give an error to all that waits, now and later.
func (r *relay) stop() {
	_ = r.device.Close()
	r.end(false)
}

// requests reads what the kernel asks. One read gives one whole message.
func (r *relay) requests() error {
	buffer := make([]byte, fuse.MaxMessage)
	for {
		n, err := r.device.Read(buffer)
		switch {
		case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EINTR):
			continue // the request was given up while it was being read
		case err != nil:
			return err
		}
		if _, err := r.host.Write(buffer[:n]); err != nil {
			return err
		}
	}
}

// answers gives the kernel what the host says, each in one write.
func (r *relay) answers() error {
	buffer := make([]byte, fuse.MaxMessage)
	for {
		if _, err := io.ReadFull(r.host, buffer[:fuse.AnswerHeaderSize]); err != nil {
			return err
		}
		size := binary.LittleEndian.Uint32(buffer)
		if size < fuse.AnswerHeaderSize || size > fuse.MaxMessage {
			return errAnswer
		}
		if _, err := io.ReadFull(r.host, buffer[fuse.AnswerHeaderSize:size]); err != nil {
			return err
		}
		// ENOENT: nobody waits for it any more. Others are about this answer alone, too.
		if _, err := r.device.Write(buffer[:size]); errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.ENODEV) {
			return err
		}
	}
}
