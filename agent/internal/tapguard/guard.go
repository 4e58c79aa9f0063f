// Package tapguard serves the guest of one TAP device: it answers its DNS questions, carries the connections that are
// allowed by name, and records what the packet filter refuses. The packet filter itself is the library's; without
// this program it refuses what would have come here.
package tapguard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"smolvm.dev/agent/internal/control"
	"smolvm.dev/agent/internal/egress"
)

// Companion is a process beside the guard, without which there shall be none; see package sentinel.
type Companion interface {
	// Watch tells it of the VMM, as a descriptor of the process (pidfd).
	Watch(process int) error
	// Wait returns when it has ended.
	Wait()
}

// errAlone is the end of a guard whose companion was ended.
var errAlone = errors.New("the sentinel has ended")

// errStopped is the end of a server that should go on: half a guard is none.
var errStopped = errors.New("a socket was closed")

// Guard is what serves one guest.
type Guard struct {
	sockets *Sockets
	rules   *egress.Rules
	denials *egress.Denials
	host    *egress.Host
	ended   chan error
	// companion may be nil.
	companion Companion

	mu       sync.Mutex
	followed *process
	name     followRequest
	lonely   *time.Timer
}

// Accompany gives the guard a companion, before it runs.
func (g *Guard) Accompany(companion Companion) { g.companion = companion }

// New makes a guard that ends unless it is told within followLimit whom to follow.
func New(sockets *Sockets, policy *egress.Policy, denials *egress.Denials, followLimit time.Duration) (*Guard, error) {
	host, err := egress.ReadHost()
	if err != nil {
		return nil, fmt.Errorf("cannot read the host's addresses: %w", err)
	}
	g := &Guard{sockets: sockets, denials: denials, host: host, ended: make(chan error, 1)}
	g.rules = egress.NewRules(policy, host, guestNetworks)
	g.lonely = time.AfterFunc(followLimit, func() {
		g.end(fmt.Errorf("not told within %s which VMM to follow", followLimit))
	})
	return g, nil
}

// Run serves until the followed process ends, then it returns nil. door is the socket for orders.
func (g *Guard) Run(ctx context.Context, door net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go g.host.Watch(ctx)
	resolver := egress.NewResolver(g.rules, g.denials)
	proxy := egress.NewProxy(g.rules, resolver, g.denials)
	operations := map[string]control.Handler{
		"policy": control.Handle(g.setPolicy),
		"follow": control.Handle(g.follow),
	}
	for _, serve := range []func() error{
		func() error { return resolver.ServeUDP(g.sockets.packets) },
		func() error { return resolver.ServeTCP(g.sockets.dns) },
		func() error { return proxy.ServeListener(g.sockets.proxy, g.sockets.proxy.originalOf) },
		func() error { return noteRefusals(g.sockets.log, g.rules, g.denials) },
		func() error { return control.Serve(door, operations) },
	} {
		serve := serve
		go func() {
			if err := serve(); err != nil {
				g.end(err)
				return
			}
			g.end(errStopped)
		}()
	}
	if g.companion != nil {
		go func() {
			g.companion.Wait()
			if !g.isVMMGone() { // With the VMM it ends as well.
				g.end(errAlone)
			}
		}()
	}
	select {
	case err := <-g.ended:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (g *Guard) isVMMGone() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.followed != nil && g.followed.ended(false)
}

// end ends Run; the first reason counts.
func (g *Guard) end(reason error) {
	select {
	case g.ended <- reason:
	default:
	}
}

type policyRequest struct {
	Policy json.RawMessage `json:"policy"`
}

// setPolicy puts a policy in force and ends the connections that it refuses.
func (g *Guard) setPolicy(request policyRequest) (interface{}, error) {
	policy, err := egress.ParsePolicy(request.Policy)
	if err != nil {
		return nil, err
	}
	g.rules.Update(policy)
	return nil, nil
}

type followRequest struct {
	PID int `json:"pid"`
	// StartTime is field 22 of /proc/PID/stat.
	StartTime string `json:"startTime"`
}

// follow makes the guard end when the VMM does. To say it again is fine, to name another is not.
func (g *Guard) follow(request followRequest) (interface{}, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.followed != nil {
		if request != g.name {
			return nil, &control.Error{Code: "EBUSY", Message: fmt.Sprintf("process %d is followed already", g.name.PID)}
		}
		return nil, nil
	}
	vmm, err := openProcess(request.PID, request.StartTime)
	if err != nil {
		return nil, fmt.Errorf("cannot follow process %d: %w", request.PID, err)
	}
	if g.companion != nil {
		if err := g.companion.Watch(vmm.fd); err != nil {
			vmm.close()
			return nil, fmt.Errorf("cannot tell the sentinel of process %d: %w", request.PID, err)
		}
	}
	if !g.lonely.Stop() {
		vmm.close()
		return nil, &control.Error{Code: "EBUSY", Message: "it is ending: nobody said in time which VMM to follow"}
	}
	g.followed, g.name = vmm, request
	go func() {
		vmm.wait()
		g.end(nil)
	}()
	return nil, nil
}
