package sentinel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"smolvm.dev/agent/internal/egress"
	"smolvm.dev/agent/internal/netlink"
)

// What the library's rules are called: src/network/tap/base-rules.ts and vm-rules.ts.
const (
	table        = "smolvm"
	devicePrefix = "svm"
	setNever     = "never"
	setPrivate   = "private"
	setRates     = "rate_of"
	// sealText stands in the comment of a chain's first rule, before how many rules the chain has.
	sealText = "rules: "
	// markedChain is the one whose first rule says, after markText, which version of the library has written the table.
	markedChain = "forward"
	markText    = "smolvm "
)

// hooked are the chains that packets come to by themselves.
var hooked = []chain{
	{familyInet, "early"}, {familyInet, "names"}, {familyInet, "input"}, {familyInet, markedChain},
	{familyInet, "output"}, {familyInet, "source_nat"}, {familyARP, "input"},
}

// earlierNames are those of chains that were called otherwise before there were seals.
var earlierNames = map[string]string{"source_nat": "masquerade"}

// shared are those that the hooked ones of all guests lead to.
var shared = []chain{
	{familyInet, "known_sender"}, {familyInet, "to_host"}, {familyInet, "from_guest"}, {familyInet, "direct"},
	{familyInet, "refuse"},
}

type chain struct {
	family byte
	name   string
}

// From <linux/netfilter/nf_tables.h>, beside those of events.go.
const (
	tableFlags   = 2 // NFTA_TABLE_FLAGS
	tableDormant = 1 // NFT_TABLE_F_DORMANT
	chainHook    = 4 // NFTA_CHAIN_HOOK
	ruleUserdata = 7 // NFTA_RULE_USERDATA
	// An element that is the first address after a range (NFT_SET_ELEM_INTERVAL_END).
	intervalEnd = 1
	// commentType is what nft puts before a rule's comment: type and length, a byte each (libnftnl/udata.h).
	commentType = 0
	// tries is how often a list is read that changes meanwhile.
	tries = 5
)

// world is what one guest depends on.
type world struct {
	number   int
	elements map[string][]byte // By set: how the key begins.
	socket   *netlink.Socket
	isRated  bool // There was a limit of the rate when all was well.
	// isEarlier: a version that knew no seals has written the table, all of it, since no version keeps what another wrote.
	isEarlier bool
}

func newWorld(o Options) (*world, error) {
	number, err := strconv.ParseUint(strings.TrimPrefix(o.Device, devicePrefix), 10, 16)
	if err != nil || !strings.HasPrefix(o.Device, devicePrefix) {
		return nil, fmt.Errorf("%q is not the name of a TAP device of ours", o.Device)
	}
	socket, err := netlink.Open(netlinkNetfilter, 0)
	if err != nil {
		return nil, err
	}
	name := make([]byte, deviceKey)
	copy(name, o.Device)
	gateway := o.Gateway.As4()
	elements := map[string][]byte{"gateways": gateway[:]}
	for _, set := range []string{"guests", "addresses", "forward_of", "input_of", "names_of", setRates, "neighbours"} {
		elements[set] = name
	}
	return &world{number: int(number), elements: elements, socket: socket}, nil
}

// missing names something of the rules that is not there; empty when all is in force. The rules of one transaction are
// whole at any moment, so it does not matter that this takes more than one look.
func (w *world) missing() (what string, err error) {
	for try := 0; try < tries; try++ {
		if w.isEarlier, err = w.isOfEarlier(); err == nil {
			what, err = w.look()
		}
		if err == nil && what == "" || err != nil && !errors.Is(err, netlink.ErrInterrupted) {
			break
		}
		// Another version may have come between.
		if isEarlier, again := w.isOfEarlier(); err == nil && again == nil && isEarlier == w.isEarlier {
			break
		}
	}
	return what, err
}

// isOfEarlier tells whether a version that knew no seals has written the table. A seal that is missing says nothing: whoever
// removes the first rule of a chain removes it, too. The mark stands in the same rule of one chain.
func (w *world) isOfEarlier() (bool, error) {
	_, comment, err := w.rulesOf(chain{familyInet, markedChain})
	_, isSealed := sealOf(comment)
	return strings.HasPrefix(comment, markText) && !isSealed, err
}

func (w *world) look() (string, error) {
	for _, look := range []func() (string, error){w.missingTable, w.missingChain, w.missingRange, w.missingElement} {
		if what, err := look(); what != "" || err != nil {
			return what, err
		}
	}
	return "", nil
}

func (w *world) missingTable() (string, error) {
	for _, family := range []byte{familyInet, familyARP} {
		isAwake := false
		err := w.ask(getTable, 0, request(family, named{tableName, table}), func(body []byte) {
			flags := netlink.Attribute(body, tableFlags)
			isAwake = len(flags) == 4 && binary.BigEndian.Uint32(flags)&tableDormant == 0
		})
		if err != nil {
			return "", err
		}
		if !isAwake {
			return "table", nil
		}
	}
	return "", nil
}

func (w *world) missingChain() (string, error) {
	for _, c := range w.hooked() {
		isHooked := false
		err := w.ask(getChain, 0, request(c.family, named{inTable, table}, named{chainName, c.name}), func(body []byte) {
			isHooked = netlink.Attribute(body, chainHook) != nil
		})
		if err != nil {
			return "", err
		}
		if !isHooked {
			return "chain " + c.name, nil
		}
	}
	number := strconv.Itoa(w.number)
	own := []chain{{familyInet, "forward" + number}, {familyInet, "input" + number}}
	for _, chains := range [][]chain{w.hooked(), shared, own} {
		for _, c := range chains {
			if is, err := w.isSealed(c, false); err != nil || !is {
				return "rules of chain " + c.name, err
			}
		}
	}
	// Without names there is nothing in the first; if it has lost all of its rules, nothing is reached by them. The second is
	// only there with a limit of the rate.
	for name, mayBeEmpty := range map[string]bool{"names" + number: true, "rate" + number: !w.isRated} {
		if is, err := w.isSealed(chain{familyInet, name}, mayBeEmpty); err != nil || !is {
			return "rules of chain " + name, err
		}
	}
	return "", nil
}

// hooked are the hooked chains, by the names that they have now.
func (w *world) hooked() []chain {
	if !w.isEarlier {
		return hooked
	}
	named := append([]chain(nil), hooked...)
	for i, c := range named {
		if name, ok := earlierNames[c.name]; ok {
			named[i].name = name
		}
	}
	return named
}

// isSealed tells whether a chain has as many rules as its first one says; one of an earlier version has any.
func (w *world) isSealed(c chain, mayBeEmpty bool) (bool, error) {
	count, comment, err := w.rulesOf(c)
	seal, isThere := sealOf(comment)
	return (count == seal || w.isEarlier && !isThere) && (count > 0 || mayBeEmpty), err
}

// rulesOf returns how many rules a chain has, and the comment of the first one.
func (w *world) rulesOf(c chain) (count int, comment string, err error) {
	body := request(c.family, named{inTable, table}, named{ruleChain, c.name})
	err = w.ask(getRule, syscall.NLM_F_DUMP, body, func(rule []byte) {
		if netlink.Text(netlink.Attribute(rule, ruleChain)) != c.name {
			return // Kernels before 4.9 give all of them.
		}
		if count++; count == 1 {
			comment = commentOf(netlink.Attribute(rule, ruleUserdata))
		}
	})
	return count, comment, err
}

// sealOf reads the number of rules out of a comment; false when it says nothing of them.
func sealOf(comment string) (count int, isThere bool) {
	at := strings.LastIndex(comment, sealText)
	if at < 0 {
		return 0, false
	}
	number, _ := strconv.ParseUint(comment[at+len(sealText):], 10, 16)
	return int(number), true
}

// commentOf finds the comment in what nft keeps with a rule; empty when it is not there.
func commentOf(userdata []byte) string {
	for len(userdata) >= 2 {
		kind, size := userdata[0], int(userdata[1])
		if userdata = userdata[2:]; size > len(userdata) {
			return ""
		}
		if kind == commentType {
			return netlink.Text(userdata[:size])
		}
		userdata = userdata[size:]
	}
	return ""
}

// missingRange looks at the addresses that are closed to all guests.
func (w *world) missingRange() (string, error) {
	unreached, privates := egress.Closed()
	for _, set := range []struct {
		name   string
		wanted []egress.AddressRange
	}{{setNever, append(unreached, guestPool)}, {setPrivate, privates}} {
		var edges []edge
		err := w.list(familyInet, set.name, func(element []byte) {
			if key := keyOf(element); len(key) == 4 {
				flags := netlink.Attribute(element, elementFlags)
				isEnd := len(flags) == 4 && binary.BigEndian.Uint32(flags)&intervalEnd != 0
				edges = append(edges, edge{binary.BigEndian.Uint32(key), isEnd})
			}
		})
		if err != nil || !coverAll(edges, set.wanted) {
			return "elements of set " + set.name, err
		}
	}
	return "", nil
}

// guestPool is where the guests of this host live: none reaches another.
var guestPool = poolOf(netip.MustParsePrefix("172.16.0.0/16"))

func poolOf(prefix netip.Prefix) egress.AddressRange {
	first := prefix.Addr().As4()
	from := binary.BigEndian.Uint32(first[:])
	return egress.AddressRange{First: from, Last: from | 1<<(32-prefix.Bits()) - 1}
}

// edge is where a range begins, or the first address after one.
type edge struct {
	address uint32
	isEnd   bool
}

// coverAll tells whether each wanted range lies within one of the set's. A range without an end goes on to the last address.
func coverAll(edges []edge, wanted []egress.AddressRange) bool {
	sort.Slice(edges, func(i, j int) bool {
		a, b := edges[i], edges[j]
		return a.address < b.address || a.address == b.address && a.isEnd && !b.isEnd
	})
	for _, r := range wanted {
		// The last edge at or before its beginning must open a range, and no edge lies within.
		next := sort.Search(len(edges), func(i int) bool { return edges[i].address > r.First })
		if next == 0 || edges[next-1].isEnd || next < len(edges) && edges[next].address <= r.Last {
			return false
		}
	}
	return true
}

func (w *world) missingElement() (string, error) {
	for set, wanted := range w.elements {
		family := byte(familyInet)
		if set == "neighbours" {
			family = familyARP
		}
		isThere := false
		err := w.list(family, set, func(element []byte) {
			isThere = isThere || bytes.HasPrefix(keyOf(element), wanted)
		})
		if err != nil || !isThere && (set != setRates || w.isRated) {
			return "element of " + set, err
		}
		if set == setRates {
			w.isRated = isThere
		}
	}
	return "", nil
}

// list hands each element of a set or map to take.
func (w *world) list(family byte, set string, take func(element []byte)) error {
	body := request(family, named{inTable, table}, named{setName, set})
	return w.ask(getElement, syscall.NLM_F_DUMP, body, func(body []byte) {
		netlink.Attributes(netlink.Attribute(body, elementList), func(_ uint16, element []byte) { take(element) })
	})
}

// ask leaves it to the caller to see that nothing was handed to take.
func (w *world) ask(kind, flags uint16, body []byte, take func(body []byte)) error {
	err := w.socket.Ask(kind, flags, body, func(message syscall.NetlinkMessage) {
		if len(message.Data) >= familyHeader {
			take(message.Data[familyHeader:])
		}
	})
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

type named struct {
	kind uint16
	name string
}

func request(family byte, names ...named) []byte {
	body := []byte{family, 0, 0, 0}
	for _, n := range names {
		body = netlink.AppendAttribute(body, n.kind, append([]byte(n.name), 0))
	}
	return body
}
