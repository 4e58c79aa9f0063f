// Package egress decides what a guest may reach, and carries what needs more than a decision: DNS questions, and
// connections that are allowed by name. It is the part that netguard (user mode) and tapguard (TAP mode) share; it
// knows neither frames nor firewall rules. Everything that comes from the guest is hostile, and bounded.
package egress

// Protocol names what was refused, in a record of a refusal.
type Protocol string

// Decide takes the first three and ProtocolOther. The others are only in records.
const (
	ProtocolTCP   Protocol = "tcp"
	ProtocolUDP   Protocol = "udp"
	ProtocolICMP  Protocol = "icmp" // echo requests; everything else of ICMP is ProtocolOther
	ProtocolDNS   Protocol = "dns"
	ProtocolTLS   Protocol = "tls"
	ProtocolHTTP  Protocol = "http"
	ProtocolIPv6  Protocol = "ip6"
	ProtocolOther Protocol = "other"
)

// Rule says why something is refused.
type Rule string

const (
	RuleNone           Rule = ""                 // not refused
	RuleOff            Rule = "off"              // mode "off"
	RuleHost           Rule = "host"             // leads to the host itself
	RuleNever          Rule = "never"            // loopback, link-local, multicast, the guests' own network...
	RulePrivate        Rule = "private"          // a private address that no entry opens
	RuleNotAllowed     Rule = "not-allowed"      // no entry covers the address
	RuleNameNotAllowed Rule = "name-not-allowed" // no entry covers the name
	RuleNoName         Rule = "no-name"          // a connection that tells no name, on a port that needs one
	RulePrivateAnswer  Rule = "private-answer"   // an allowed name that leads only to addresses out of bounds
	RuleUnresolved     Rule = "unresolved"       // an allowed name without an address
	RuleIPv6           Rule = "ip6"
	RuleMalformed      Rule = "malformed"
)

// Action is what to do with a packet or connection.
type Action uint8

const (
	Refuse Action = iota // also what a forgotten case gives
	Direct               // to its destination
	ByName               // to Proxy.Serve: the name it tells decides
)

// Decision is the answer of Rules.Decide.
type Decision struct {
	Action Action
	Rule   Rule   // why it is refused; RuleNone otherwise
	Allow  string // the entry of a policy "allow" that would allow it; "" when none would
}
