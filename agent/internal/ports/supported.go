package ports

import (
	"errors"
	"time"

	"smolvm.dev/agent/internal/frame"
	"smolvm.dev/agent/internal/laneclient"
)

const (
	// notThere is the code with which an agent answers an operation that it does not have.
	notThere = "ENOSYS"
	// askedPort is tcpmux, RFC 1078: nobody serves it, and the answer comes at once.
	askedPort = 1
	// askLimit is how long an agent may take to say that it does not know an operation. One that knows it may take longer.
	askLimit = 2 * time.Second
)

// Supported has the agent connect once, to learn whether it can: it fails with ENOSYS where it cannot. An agent of an
// earlier SmolVM takes what is sent for a connection as a breach of the protocol, so no client may be the first to ask.
func Supported(guest caller) error {
	call, err := guest.Call(operation, frame.AppendU32(nil, tagPort, askedPort))
	if err != nil {
		return err
	}
	timer := time.NewTimer(askLimit)
	defer timer.Stop()
	select {
	case <-call.Done():
		var failure *laneclient.Failure
		if err := call.Err(); !errors.As(err, &failure) || failure.Code == notThere {
			return err
		}
		return nil
	case <-call.Ready():
	case <-timer.C:
	}
	return call.Kill()
}
