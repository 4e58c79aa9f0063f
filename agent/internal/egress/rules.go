package egress

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Rules is what holds for one guest now: the policy, what leads to the host, and the guests' own networks. It is safe
// for use by many goroutines, and Decide takes no lock.
type Rules struct {
	policy atomic.Value // *Policy
	host   *Host
	guests ranges

	mu    sync.Mutex
	hooks []func()
}

// NewRules makes the rules of a guest. No guest reaches guestNetworks: its own, and those of the other guests.
func NewRules(policy *Policy, host *Host, guestNetworks ...netip.Prefix) *Rules {
	r := &Rules{host: host, guests: rangesOf(guestNetworks)}
	r.policy.Store(policy)
	host.OnChange(r.changed)
	return r
}

// Policy returns the policy in force.
func (r *Rules) Policy() *Policy { return r.policy.Load().(*Policy) }

// Update puts another policy in force, then calls the hooks.
func (r *Rules) Update(policy *Policy) {
	r.policy.Store(policy)
	r.changed()
}

// OnChange makes f be called after each change of the policy or of the host's addresses. It is for ending the
// connections that are refused now; ask Decide again. It may be called by two goroutines at once.
func (r *Rules) OnChange(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hooks = append(r.hooks, f)
}

func (r *Rules) changed() {
	r.mu.Lock()
	hooks := r.hooks
	r.mu.Unlock()
	for _, hook := range hooks {
		hook()
	}
}

// Decide judges a packet or a new connection by where it goes. The port counts for TCP and UDP only. In this order:
// what is never reached; private addresses, unless opened by an entry; networks of entries, directly; TCP to a port
// that has names. So a private address that no entry opens is refused even on a port that has names.
func (r *Rules) Decide(protocol Protocol, destination netip.Addr, port uint16) Decision {
	destination = destination.Unmap()
	if !destination.Is4() {
		return Decision{Rule: RuleIPv6}
	}
	if rule := r.neverReached(destination); rule != RuleNone {
		return Decision{Rule: rule}
	}
	switch protocol {
	case ProtocolTCP, ProtocolUDP:
		if port == anyPort {
			return Decision{Rule: RuleMalformed}
		}
	case ProtocolICMP:
		port = anyPort
	default:
		return r.refuseProtocol()
	}
	policy := r.Policy()
	rule := RuleNotAllowed
	if private.contains(destination) {
		rule = RulePrivate
	}
	switch {
	case policy.mode == ModeOff:
		rule = RuleOff
	case policy.mode == ModeOpen && rule != RulePrivate:
		return Decision{Action: Direct}
	case policy.mode == ModeAllow && policy.networks.allow(destination, port):
		return Decision{Action: Direct}
	case policy.mode == ModeAllow && rule != RulePrivate && protocol == ProtocolTCP && policy.names.hasPort(port):
		return Decision{Action: ByName}
	}
	return Decision{Rule: rule, Allow: addressEntry(destination, port)}
}

// DecideName judges a TCP connection by the name it tells: Direct or Refuse. It does not look at addresses.
func (r *Rules) DecideName(name string, port uint16) Decision {
	policy := r.Policy()
	switch {
	case policy.mode == ModeOpen || policy.mode == ModeAllow && policy.AllowsName(name, port):
		return Decision{Action: Direct}
	case policy.mode == ModeOff:
		return Decision{Rule: RuleOff, Allow: nameEntry(name, port)}
	}
	return Decision{Rule: RuleNameNotAllowed, Allow: nameEntry(name, port)}
}

// DecideQuestion judges a question to DNS: Direct or Refuse.
func (r *Rules) DecideQuestion(name string) Decision {
	policy := r.Policy()
	switch {
	case policy.mode == ModeOpen || policy.mode == ModeAllow && policy.AllowsSomePortOf(name):
		return Decision{Action: Direct}
	case policy.mode == ModeOff:
		return Decision{Rule: RuleOff, Allow: name}
	}
	return Decision{Rule: RuleNameNotAllowed, Allow: name}
}

// DecideAnswer judges an address that an allowed name has: Direct or Refuse, with RulePrivateAnswer.
func (r *Rules) DecideAnswer(address netip.Addr, port uint16) Decision {
	address = address.Unmap()
	if !address.Is4() || r.neverReached(address) != RuleNone {
		return Decision{Rule: RulePrivateAnswer}
	}
	if private.contains(address) && !r.Policy().networks.allow(address, port) {
		return Decision{Rule: RulePrivateAnswer, Allow: addressEntry(address, port)}
	}
	return Decision{Action: Direct}
}

// neverReached takes an IPv4 address.
func (r *Rules) neverReached(address netip.Addr) Rule {
	if never.contains(address) || r.guests.contains(address) {
		return RuleNever
	}
	if r.host.Contains(address) {
		return RuleHost
	}
	return RuleNone
}

// refuseProtocol is for what is neither TCP, nor UDP, nor a ping: no policy lets it through.
func (r *Rules) refuseProtocol() Decision {
	if r.Policy().mode == ModeOff {
		return Decision{Rule: RuleOff}
	}
	return Decision{Rule: RuleNotAllowed}
}

func addressEntry(address netip.Addr, port uint16) string {
	if port == anyPort {
		return address.String()
	}
	return fmt.Sprintf("%s:%d", address, port)
}
