package egress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sort"
	"strings"
)

const (
	// policyLimit is the longest policy, in bytes of JSON.
	policyLimit = 1 << 20
	// entryLimit bounds names and networks together.
	entryLimit = 1024
	// resolverLimit bounds the host's resolvers; glibc itself uses three.
	resolverLimit = 16
)

// Mode is what a policy is based on.
type Mode string

const (
	ModeOpen  Mode = "open"  // everything but private networks and what no guest reaches
	ModeOff   Mode = "off"   // nothing, no DNS
	ModeAllow Mode = "allow" // only what entries name
)

// Policy is what the host's user wants. It never changes; Rules exchanges it for another.
type Policy struct {
	mode      Mode
	names     names
	networks  networks
	resolvers []netip.AddrPort
	entries   []string
}

type policyJSON struct {
	Mode  Mode `json:"mode"`
	Names []struct {
		Name string `json:"name"`
		Port int    `json:"port"`
	} `json:"names"`
	Networks []struct {
		CIDR string `json:"cidr"`
		Port *int   `json:"port"`
	} `json:"networks"`
	Resolvers []string `json:"resolvers"`
}

// ParsePolicy reads the JSON that the library makes. It refuses whatever it does not know.
func ParsePolicy(data []byte) (*Policy, error) {
	if len(data) > policyLimit {
		return nil, fmt.Errorf("the policy has %d bytes, at most %d are taken", len(data), policyLimit)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var raw policyJSON
	if err := decoder.Decode(&raw); err != nil {
		return nil, fmt.Errorf("cannot read the policy: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("cannot read the policy: something follows its end")
	}
	return newPolicy(&raw)
}

func newPolicy(raw *policyJSON) (*Policy, error) {
	p := &Policy{mode: raw.Mode}
	switch raw.Mode {
	case ModeAllow:
	case ModeOpen, ModeOff:
		if len(raw.Names)+len(raw.Networks) > 0 {
			return nil, fmt.Errorf("a policy %q has no names and no networks", raw.Mode)
		}
	default:
		return nil, fmt.Errorf("the mode %q is not known", raw.Mode)
	}
	if len(raw.Names)+len(raw.Networks) > entryLimit || len(raw.Resolvers) > resolverLimit {
		return nil, fmt.Errorf("more than %d entries or %d resolvers", entryLimit, resolverLimit)
	}
	for _, entry := range raw.Names {
		port, err := parsePort(entry.Port)
		if err == nil {
			err = p.names.add(entry.Name, port)
		}
		if err != nil {
			return nil, fmt.Errorf("name %q: %w", entry.Name, err)
		}
		p.entries = append(p.entries, nameEntry(entry.Name, port))
	}
	for _, entry := range raw.Networks {
		prefix, err := parseNetwork(entry.CIDR)
		var port uint16
		if err == nil && entry.Port != nil {
			port, err = parsePort(*entry.Port)
		}
		if err != nil {
			return nil, fmt.Errorf("network %q: %w", entry.CIDR, err)
		}
		p.networks.add(prefix, port)
		p.entries = append(p.entries, networkEntry(prefix, port))
	}
	for _, text := range raw.Resolvers {
		server, err := netip.ParseAddrPort(text)
		if err != nil || server.Port() == 0 {
			return nil, fmt.Errorf("resolver %q: not an address and a port", text)
		}
		p.resolvers = append(p.resolvers, server)
	}
	p.networks.finish()
	return p, nil
}

// Mode returns the mode.
func (p *Policy) Mode() Mode { return p.mode }

// NamePorts returns the TCP ports on which names decide, in order.
func (p *Policy) NamePorts() []uint16 {
	ports := make([]uint16, 0, len(p.names.ports))
	for port := range p.names.ports {
		ports = append(ports, port)
	}
	sort.Slice(ports, func(i, j int) bool { return ports[i] < ports[j] })
	return ports
}

// AllowsName tells whether an entry covers the name on that TCP port.
func (p *Policy) AllowsName(name string, port uint16) bool {
	return p.names.allow(strings.ToLower(name), port)
}

// AllowsSomePortOf tells whether an entry covers the name on any port: then it may be asked of DNS.
func (p *Policy) AllowsSomePortOf(name string) bool {
	return p.names.allow(strings.ToLower(name), anyPort)
}

// Resolvers returns the host's resolvers, in the order in which they are asked. It must not be changed.
func (p *Policy) Resolvers() []netip.AddrPort { return p.resolvers }

// Entries returns what a policy "allow" allows, for messages: "api.example.com:443", "203.0.113.0/24". It must not be
// changed.
func (p *Policy) Entries() []string { return p.entries }

func parsePort(port int) (uint16, error) {
	if port < 1 || port > 65535 {
		return 0, fmt.Errorf("%d is not a port", port)
	}
	return uint16(port), nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err != nil || !prefix.Addr().Is4() {
		return prefix, errors.New("not an IPv4 network")
	}
	if prefix.Masked() != prefix {
		return prefix, fmt.Errorf("has bits of a host; the network is %s", prefix.Masked())
	}
	return prefix, nil
}

func nameEntry(name string, port uint16) string { return fmt.Sprintf("%s:%d", name, port) }

func networkEntry(prefix netip.Prefix, port uint16) string {
	text := prefix.String()
	if prefix.IsSingleIP() {
		text = prefix.Addr().String()
	}
	if port == 0 {
		return text
	}
	return fmt.Sprintf("%s:%d", text, port)
}
