package egress

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// hostEvery is how often the host's own addresses and local routes are read again: a laptop changes networks.
const hostEvery = 5 * time.Second

// Host is what leads to the host itself.
type Host struct {
	read  func() ([]netip.Prefix, error)
	known atomic.Value // ranges

	mu    sync.Mutex
	hooks []func()
}

// ReadHost reads the addresses and local routes of this network namespace. Watch keeps them fresh.
func ReadHost() (*Host, error) {
	h := &Host{read: HostNetworks}
	h.known.Store(ranges(nil))
	return h, h.Refresh()
}

// FixedHost is a host with these networks, for tests.
func FixedHost(networks ...netip.Prefix) *Host {
	h := &Host{read: func() ([]netip.Prefix, error) { return networks, nil }}
	h.known.Store(rangesOf(networks))
	return h
}

// Contains tells whether the address leads to the host.
func (h *Host) Contains(address netip.Addr) bool {
	address = address.Unmap()
	return address.Is4() && h.known.Load().(ranges).contains(address)
}

// OnChange makes f be called after each change.
func (h *Host) OnChange(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hooks = append(h.hooks, f)
}

// Refresh reads again. When that fails, what was known stays.
func (h *Host) Refresh() error {
	networks, err := h.read()
	if err != nil {
		return err
	}
	now := rangesOf(networks)
	h.mu.Lock()
	hooks := h.hooks
	if now.equal(h.known.Load().(ranges)) {
		hooks = nil
	}
	h.known.Store(now)
	h.mu.Unlock()
	for _, hook := range hooks {
		hook()
	}
	return nil
}

// Watch refreshes every 5 s until the context ends.
func (h *Host) Watch(ctx context.Context) {
	ticker := time.NewTicker(hostEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = h.Refresh() // What was known stays; the next try is soon.
		}
	}
}
