package sentinel

import (
	"bytes"
	"strconv"
	"strings"
	"syscall"

	"smolvm.dev/agent/internal/netlink"
)

// From <linux/netfilter/nfnetlink.h> and <linux/netfilter/nf_tables.h>.
const (
	netlinkNetfilter = 12           // NETLINK_NETFILTER
	rulesGroup       = 1 << (7 - 1) // NFNLGRP_NFTABLES, as a mask
	subsystem        = 10 << 8      // NFNL_SUBSYS_NFTABLES
	familyHeader     = 4            // struct nfgenmsg
	familyInet       = 1            // NFPROTO_INET
	familyARP        = 3            // NFPROTO_ARP

	newTable     = subsystem | 0
	getTable     = subsystem | 1
	delTable     = subsystem | 2
	getChain     = subsystem | 4
	delChain     = subsystem | 5
	getRule      = subsystem | 7
	delRule      = subsystem | 8
	delSet       = subsystem | 11
	getElement   = subsystem | 13
	delElement   = subsystem | 14
	destroyTable = subsystem | 26
	destroyChain = subsystem | 27
	destroyRule  = subsystem | 28
	destroySet   = subsystem | 29
	destroyElem  = subsystem | 30

	tableName    = 1 // NFTA_TABLE_NAME
	inTable      = 1 // NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, NFTA_SET_ELEM_LIST_TABLE
	chainName    = 3 // NFTA_CHAIN_NAME
	ruleChain    = 2 // NFTA_RULE_CHAIN
	setName      = 2 // NFTA_SET_NAME, NFTA_SET_ELEM_LIST_SET
	elementList  = 3 // NFTA_SET_ELEM_LIST_ELEMENTS
	elementKey   = 1 // NFTA_SET_ELEM_KEY
	elementFlags = 3 // NFTA_SET_ELEM_FLAGS
	dataValue    = 1 // NFTA_DATA_VALUE
)

// deviceKey is how long a device's name is in the key of an element, in bytes (IFNAMSIZ).
const deviceKey = 16

// mayMiss tells whether a message says that something went that the guest of this world depends on. It may say so of what
// the same transaction has put back.
func (w *world) mayMiss(message syscall.NetlinkMessage) bool {
	if !w.isOurs(message) {
		return false
	}
	body := message.Data[familyHeader:]
	switch message.Header.Type {
	case newTable, delTable, destroyTable: // A table can also be put to sleep.
		return true
	case delChain, destroyChain:
		return !w.isOfOther(netlink.Text(netlink.Attribute(body, chainName)))
	case delRule, destroyRule:
		return !w.isOfOther(netlink.Text(netlink.Attribute(body, ruleChain)))
	case delSet, destroySet:
		return !strings.HasPrefix(netlink.Text(netlink.Attribute(body, setName)), anonymous)
	case delElement, destroyElem:
		return w.mayMissElement(netlink.Text(netlink.Attribute(body, setName)), netlink.Attribute(body, elementList))
	}
	return false
}

// isOurs tells whether a message is about our tables.
func (w *world) isOurs(message syscall.NetlinkMessage) bool {
	return len(message.Data) >= familyHeader &&
		netlink.Text(netlink.Attribute(message.Data[familyHeader:], inTable)) == table
}

// anonymous sets belong to a rule, which is heard of anyway.
const anonymous = "__"

func (w *world) mayMissElement(set string, list []byte) (may bool) {
	wanted, ok := w.elements[set]
	netlink.Attributes(list, func(_ uint16, element []byte) {
		may = may || set == setNever || set == setPrivate || ok && bytes.HasPrefix(keyOf(element), wanted)
	})
	return may
}

// keyOf reads the key of an element.
func keyOf(element []byte) []byte {
	return netlink.Attribute(netlink.Attribute(element, elementKey), dataValue)
}

// isOfOther tells whether a chain belongs to another guest: a guest's own ones end with the number of its device.
func (w *world) isOfOther(chain string) bool {
	digits := chain[len(strings.TrimRight(chain, "0123456789")):]
	return digits != "" && digits != strconv.Itoa(w.number)
}
