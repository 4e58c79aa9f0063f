package sentinel

import (
	"errors"
	"syscall"
	"unsafe"

	"smolvm.dev/agent/internal/netlink"
)

const linkGroup = 1 // RTMGRP_LINK

// device is one network device, whatever becomes of its name: numbers are not given again soon.
type device struct {
	index  int32
	socket *netlink.Socket
}

func openDevice(name string) (*device, error) {
	socket, err := netlink.Open(syscall.NETLINK_ROUTE, 0)
	if err != nil {
		return nil, err
	}
	d := &device{socket: socket}
	named := netlink.AppendAttribute(linkBody(0, 0, 0), syscall.IFLA_IFNAME, append([]byte(name), 0))
	link, err := d.ask(named)
	if err != nil {
		return nil, err
	}
	d.index = link.Index
	return d, nil
}

func (d *device) isUp() (bool, error) {
	link, err := d.ask(linkBody(d.index, 0, 0))
	return link.Flags&syscall.IFF_UP != 0, err
}

// turn brings the device up, or down: nothing passes then, whatever the rules are.
func (d *device) turn(up bool) error {
	var flags uint32
	if up {
		flags = syscall.IFF_UP
	}
	return d.socket.Ask(syscall.RTM_NEWLINK, 0, linkBody(d.index, flags, syscall.IFF_UP), nil)
}

func (d *device) ask(body []byte) (link syscall.IfInfomsg, err error) {
	isKnown := false
	err = d.socket.Ask(syscall.RTM_GETLINK, 0, body, func(message syscall.NetlinkMessage) {
		link, isKnown = linkOf(message)
	})
	if err == nil && !isKnown {
		err = errors.New("the kernel does not describe the device")
	}
	return link, err
}

func linkOf(message syscall.NetlinkMessage) (link syscall.IfInfomsg, ok bool) {
	isLink := message.Header.Type == syscall.RTM_NEWLINK || message.Header.Type == syscall.RTM_DELLINK
	if !isLink || len(message.Data) < syscall.SizeofIfInfomsg {
		return link, false
	}
	return *(*syscall.IfInfomsg)(unsafe.Pointer(&message.Data[0])), true
}

func linkBody(index int32, flags, change uint32) []byte {
	link := syscall.IfInfomsg{Index: index, Flags: flags, Change: change}
	return append([]byte(nil), (*[syscall.SizeofIfInfomsg]byte)(unsafe.Pointer(&link))[:]...)
}
