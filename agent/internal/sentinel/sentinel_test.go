package sentinel

import (
	"net/netip"
	"syscall"
	"testing"

	"smolvm.dev/agent/internal/egress"
	"smolvm.dev/agent/internal/netlink"
)

func testWorld(t *testing.T) *world {
	t.Helper()
	w, err := newWorld(Options{Device: "svm12", Gateway: netip.MustParseAddr("172.16.0.49")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.socket.Close() })
	return w
}

func TestDeviceNames(t *testing.T) {
	for _, name := range []string{"", "svm", "svm-1", "svm1x", "svm99999", "eth0", "12"} {
		if _, err := newWorld(Options{Device: name, Gateway: netip.MustParseAddr("172.16.0.1")}); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
}

func TestMayMiss(t *testing.T) {
	w := testWorld(t)
	key := func(device string, more ...byte) []byte {
		name := make([]byte, deviceKey)
		copy(name, device)
		return append(name, more...)
	}
	message := func(kind uint16, attributes ...interface{}) syscall.NetlinkMessage {
		body := []byte{familyInet, 0, 0, 0}
		for i := 0; i < len(attributes); i += 2 {
			value, isText := attributes[i+1].(string)
			bytes, _ := attributes[i+1].([]byte)
			if isText {
				bytes = append([]byte(value), 0)
			}
			body = netlink.AppendAttribute(body, uint16(attributes[i].(int)), bytes)
		}
		return syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: kind}, Data: body}
	}
	element := func(set string, key []byte) syscall.NetlinkMessage {
		value := netlink.AppendAttribute(nil, dataValue, key)
		list := netlink.AppendAttribute(nil, 1, netlink.AppendAttribute(nil, elementKey, value))
		return message(delElement, inTable, table, setName, set, elementList, list)
	}
	const newRule = subsystem | 6
	for _, test := range []struct {
		name    string
		message syscall.NetlinkMessage
		want    bool
	}{
		{"our table", message(delTable, tableName, table), true},
		{"our table, by destroy", message(destroyTable, tableName, table), true},
		{"our table, put to sleep", message(newTable, tableName, table), true},
		{"another's table", message(delTable, tableName, "smolvm2"), false},
		{"a shared chain", message(delChain, inTable, table, chainName, "forward"), true},
		{"a rule of a shared chain", message(delRule, inTable, table, ruleChain, "to_host"), true},
		{"a rule of its own", message(delRule, inTable, table, ruleChain, "forward12"), true},
		{"a rule of another's", message(delRule, inTable, table, ruleChain, "forward1"), false},
		{"a rule of another table", message(delRule, inTable, "filter", ruleChain, "forward"), false},
		{"a new rule", message(newRule, inTable, table, ruleChain, "forward"), false},
		{"a set", message(delSet, inTable, table, setName, "guests"), true},
		{"a set of a rule", message(delSet, inTable, table, setName, "__set7"), false},
		{"its own element", element("forward_of", key("svm12")), true},
		{"its own, longer element", element("guests", key("svm12", 2, 0, 0, 0)), true},
		{"another's element", element("forward_of", key("svm1")), false},
		{"another's, whose name begins so", element("forward_of", key("svm120")), false},
		{"its gateway", element("gateways", []byte{172, 16, 0, 49}), true},
		{"another's gateway", element("gateways", []byte{172, 16, 0, 5}), false},
		{"what is closed to all", element("never", []byte{169, 254, 0, 0}), true},
		{"what is not about guests", element("guarded", key("eth0")), false},
		{"nothing", syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: delTable}}, false},
	} {
		if got := w.mayMiss(test.message); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestSealOf(t *testing.T) {
	userdata := func(kind byte, text string) []byte {
		return append([]byte{kind, byte(len(text) + 1)}, append([]byte(text), 0)...)
	}
	for _, test := range []struct {
		data    []byte
		want    int
		isThere bool
	}{
		{userdata(commentType, "rules: 8"), 8, true},
		{userdata(commentType, "smolvm 0123456789abcdef, rules: 12"), 12, true},
		{append(userdata(9, "x"), userdata(commentType, "rules: 3")...), 3, true},
		{nil, 0, false},
		{userdata(commentType, "somebody's"), 0, false},
		{userdata(commentType, "rules: -1"), 0, true},
		{userdata(commentType, "rules: many"), 0, true},
		{[]byte{commentType, 200, 'r'}, 0, false},
		{[]byte{commentType}, 0, false},
	} {
		got, isThere := sealOf(commentOf(test.data))
		if got != test.want || isThere != test.isThere {
			t.Errorf("%q: %d %v", test.data, got, isThere)
		}
	}
}

func TestCoverAll(t *testing.T) {
	ranges := func(all ...uint32) (edges []edge) {
		for i, address := range all {
			edges = append(edges, edge{address, i%2 == 1})
		}
		return edges
	}
	wanted := []egress.AddressRange{{First: 10, Last: 19}, {First: 30, Last: 39}}
	for _, test := range []struct {
		name  string
		edges []edge
		want  bool
	}{
		{"both", ranges(10, 20, 30, 40), true},
		{"in any order", []edge{{40, true}, {30, false}, {20, true}, {10, false}}, true},
		{"wider ones", ranges(5, 25, 30), true},
		{"one that meets the next", []edge{{10, false}, {30, true}, {30, false}, {40, true}}, true},
		{"none", nil, false},
		{"one", ranges(10, 20), false},
		{"one that is too short", ranges(10, 20, 30, 39), false},
		{"one that begins late", ranges(11, 20, 30, 40), false},
		{"one with a hole", ranges(10, 12, 13, 20, 30, 40), false},
	} {
		if got := coverAll(test.edges, wanted); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
