// Package files serves the operations on the guest's files: single calls, contents, and whole trees.
package files

import (
	"io"

	"smolvm.dev/agent/internal/session"
)

// exchange is what the operations need of a session.Exchange.
type exchange interface {
	io.Reader
	io.Writer
	io.ReaderFrom
	Cancelled() <-chan struct{}
}

// Operations returns the table of calls that exchange no data.
func Operations() map[string]session.Operation {
	table := map[string]session.Operation{}
	for name, work := range map[string]func(*request) ([]byte, error){
		"stat": stat, "mkdir": mkdir, "rename": rename, "chmod": chmod, "symlink": symlink, "readlink": readlink,
		"access": access, "utimes": utimes,
	} {
		name, work := name, work
		table["fs."+name] = func(payload []byte) (func() session.Result, error) {
			r, err := parse(payload)
			if err != nil {
				return nil, err
			}
			return func() session.Result { return r.run(name, func() ([]byte, error) { return work(r) }) }, nil
		}
	}
	return table
}

// Exchanges returns the table of calls that exchange data, or that take long enough to be cancelled.
func Exchanges() map[string]session.ExchangeOperation {
	table := map[string]session.ExchangeOperation{}
	for name, work := range map[string]func(*request, exchange) ([]byte, error){
		"readdir": readDirectory, "rm": remove, "read": read, "write": write, "send": send, "receive": receive,
	} {
		name, work := name, work
		table["fs."+name] = func(payload []byte) (func(*session.Exchange) session.Result, error) {
			r, err := parse(payload)
			if err != nil {
				return nil, err
			}
			return func(x *session.Exchange) session.Result {
				return r.run(name, func() ([]byte, error) { return work(r, x) })
			}, nil
		}
	}
	return table
}

// isCancelled tells whether nobody waits any more.
func isCancelled(x exchange) bool {
	select {
	case <-x.Cancelled():
		return true
	default:
		return false
	}
}
