package tapguard

import (
	"net/netip"
	"strings"
	"syscall"

	"smolvm.dev/agent/internal/egress"
)

// loggedRules are the prefixes of the packet filter's log that are rules by themselves. Every other prefix ("spoofed")
// is of a packet that no honest guest sends.
var loggedRules = map[string]egress.Rule{
	string(egress.RuleOff):        egress.RuleOff,
	string(egress.RuleHost):       egress.RuleHost,
	string(egress.RuleNever):      egress.RuleNever,
	string(egress.RulePrivate):    egress.RulePrivate,
	string(egress.RuleNotAllowed): egress.RuleNotAllowed,
	string(egress.RuleIPv6):       egress.RuleIPv6,
}

// denialOf makes a record of a packet that the packet filter refused. The entry that would allow it is what the policy
// in force says.
func denialOf(logged Logged, rules *egress.Rules) egress.Denial {
	denial := egress.Denial{Protocol: egress.ProtocolOther, Rule: egress.RuleMalformed}
	if rule, ok := loggedRules[strings.TrimSpace(logged.Prefix)]; ok {
		denial.Rule = rule
	}
	if logged.Family == syscall.AF_INET6 {
		denial.Protocol, denial.Address = egress.ProtocolIPv6, ipv6Target(logged.Packet)
		return denial
	}
	to, ok := parseIPv4(logged.Packet)
	if logged.Family != syscall.AF_INET || !ok {
		return denial
	}
	denial.Protocol, denial.Address, denial.Port = to.protocol, to.address, to.port
	switch denial.Rule {
	case egress.RuleOff, egress.RulePrivate, egress.RuleNotAllowed:
		denial.Allow = allowing(to, rules)
	}
	return denial
}

func allowing(to target, rules *egress.Rules) string {
	if decision := rules.Decide(to.protocol, to.address, to.port); decision.Action == egress.Refuse {
		return decision.Allow
	}
	return ""
}

// noteRefusals records what the packet filter refuses, until the log is closed.
func noteRefusals(log *Log, rules *egress.Rules, denials *egress.Denials) error {
	return log.Run(func(logged Logged) { denials.Note(denialOf(logged, rules)) })
}

// guestNetworks are where the guests of this host live: no guest reaches another.
var guestNetworks = netip.MustParsePrefix("172.16.0.0/16")
