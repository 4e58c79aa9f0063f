package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"smolvm.dev/agent/internal/control"
	"smolvm.dev/agent/internal/egress"
	"smolvm.dev/agent/internal/netguard"
)

// serveControl takes policies on a unix socket, from root and the user who started this program.
func serveControl(path string, starter int, guard *netguard.Switch) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // An earlier netguard's.
		return nil, fmt.Errorf("cannot use the control socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot use the control socket: %w", err)
	}
	operations := map[string]control.Handler{
		"policy": control.Handle(func(request struct {
			Policy json.RawMessage `json:"policy"`
		}) (interface{}, error) {
			policy, err := egress.ParsePolicy(request.Policy)
			if err != nil {
				return nil, err
			}
			return nil, guard.Update(policy)
		}),
	}
	go func() { _ = control.Serve(control.Only(listener, starter), operations) }()
	return listener, nil
}
