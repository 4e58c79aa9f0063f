package sentinel

import (
	"bytes"
	"errors"
	"net/netip"
	"syscall"
	"time"

	"smolvm.dev/agent/internal/netlink"
)

// From <linux/netfilter/nfnetlink_conntrack.h>.
const (
	trackGet                       = 1<<8 | 1 // NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
	trackDelete                    = 1<<8 | 2
	tupleOrig                      = 1              // CTA_TUPLE_ORIG
	tupleReply                     = 2              // CTA_TUPLE_REPLY
	trackID                        = 12             // CTA_ID
	trackZone                      = 18             // CTA_ZONE
	trackFilter                    = 25             // CTA_FILTER; kernels before 5.8 know none, and list everything
	tupleIP                        = 1              // CTA_TUPLE_IP
	sourceIPv4                     = 1              // CTA_IP_V4_SRC
	targetIPv4                     = 2              // CTA_IP_V4_DST
	filterBySource, filterByTarget = 1 << 0, 1 << 1 // CTA_FILTER_FLAG
)

const (
	// forgetLimit bounds the connections that are forgotten. A guest may begin 200 a second, and they last for two minutes
	// after their end; 4,096 may be open each way.
	forgetLimit = 1 << 16
	// forgetTime bounds how long that may take.
	forgetTime = 3 * time.Second
	// forgetBatch is how many orders go to the kernel at once.
	forgetBatch = 64
)

// forget removes what the kernel remembers of a guest's connections: those that it began, and those whose answers come to
// it. A kernel that lists none is left alone.
func forget(guest netip.Addr) (int, error) {
	list, err := netlink.Open(netlinkNetfilter, 0)
	if err != nil {
		return 0, err
	}
	defer list.Close()
	orders, err := netlink.Open(netlinkNetfilter, 0)
	if err != nil {
		return 0, err
	}
	defer orders.Close()
	f := &forgetting{list: list, orders: orders, until: time.Now().Add(forgetTime)}
	address := guest.As4()
	for _, side := range []side{{tupleOrig, sourceIPv4}, {tupleReply, targetIPv4}} {
		err := f.run(side, address[:], true)
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EOPNOTSUPP) {
			err = f.run(side, address[:], false)
		}
		if err != nil && !errors.Is(err, netlink.ErrInterrupted) {
			return f.count, err
		}
	}
	return f.count, nil
}

// side is an address of one direction of a connection.
type side struct{ tuple, address uint16 }

type forgetting struct {
	list, orders *netlink.Socket
	until        time.Time
	count        int
	batch        []byte
	waiting      int
}

func (f *forgetting) run(s side, address []byte, isFiltered bool) error {
	body := []byte{syscall.AF_INET, 0, 0, 0}
	if isFiltered {
		body = append(body, filterOf(s, address)...)
	}
	err := f.list.Ask(trackGet, syscall.NLM_F_DUMP, body, func(message syscall.NetlinkMessage) {
		if len(message.Data) < familyHeader {
			return
		}
		entry := message.Data[familyHeader:]
		ip := netlink.Attribute(netlink.Attribute(entry, s.tuple), tupleIP)
		if !bytes.Equal(netlink.Attribute(ip, s.address), address) || f.count >= forgetLimit || time.Now().After(f.until) {
			return
		}
		f.count++
		f.order(entry)
	})
	f.send()
	return err
}

// order asks for the end of exactly this entry. Nobody waits for the answer: an entry may have ended by itself.
func (f *forgetting) order(entry []byte) {
	body := []byte{syscall.AF_INET, 0, 0, 0}
	netlink.Attributes(entry, func(kind uint16, value []byte) {
		switch kind {
		case tupleOrig:
			body = netlink.AppendAttribute(body, kind|netlink.Nested, value)
		case trackID, trackZone:
			body = netlink.AppendAttribute(body, kind, value)
		}
	})
	f.batch = append(f.batch, netlink.Message(trackDelete, syscall.NLM_F_REQUEST, 0, body)...)
	if f.waiting++; f.waiting == forgetBatch {
		f.send()
	}
}

func (f *forgetting) send() {
	if f.waiting > 0 {
		_ = f.orders.Send(f.batch)
	}
	f.batch, f.waiting = f.batch[:0], 0
}

// filterOf lets the kernel leave out all others.
func filterOf(s side, address []byte) []byte {
	bit, flags := uint32(filterBySource), uint16(1) // CTA_FILTER_ORIG_FLAGS
	if s.tuple == tupleReply {
		bit, flags = filterByTarget, 2 // CTA_FILTER_REPLY_FLAGS
	}
	var zero, mask [4]byte
	netlink.Native.PutUint32(mask[:], bit)
	values := netlink.AppendAttribute(nil, flags, mask[:])
	values = netlink.AppendAttribute(values, 3-flags, zero[:])
	ip := netlink.AppendAttribute(nil, s.address, address)
	tuple := netlink.AppendAttribute(nil, tupleIP|netlink.Nested, ip)
	out := netlink.AppendAttribute(nil, s.tuple|netlink.Nested, tuple)
	return netlink.AppendAttribute(out, trackFilter|netlink.Nested, values)
}
