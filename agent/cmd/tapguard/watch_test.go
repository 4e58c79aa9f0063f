package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"smolvm.dev/agent/internal/netlink"
)

// Roles of the test program that watch the host's namespace, or serve in it.

// serveEverywhere answers on port 53 of all addresses until stdin ends.
func serveEverywhere() {
	packets, err := net.ListenPacket("udp4", "0.0.0.0:53")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	go func() {
		for buffer := make([]byte, 1500); ; {
			n, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(buffer[:n], from)
		}
	}()
	listener, err := net.Listen("tcp4", "0.0.0.0:53")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = connection.Write([]byte("x"))
			_ = connection.Close()
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// reportDowns writes a line whenever a device goes down, until SIGTERM.
func reportDowns() error {
	links, err := netlink.Open(syscall.NETLINK_ROUTE, 1) // RTMGRP_LINK
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		messages, err := links.Pending()
		if err != nil {
			return err
		}
		if len(messages) == 0 {
			_, _ = syscall.Select(0, nil, nil, nil, &syscall.Timeval{Usec: 1000})
		}
		for _, message := range messages {
			if message.Header.Type != syscall.RTM_NEWLINK {
				continue
			}
			link := (*syscall.IfInfomsg)(unsafe.Pointer(&message.Data[0]))
			if link.Change&syscall.IFF_UP != 0 && link.Flags&syscall.IFF_UP == 0 {
				fmt.Println("down")
			}
		}
	}
}

func countLines(from io.Reader) (count int) {
	for lines := bufio.NewScanner(from); lines.Scan(); count++ {
	}
	return count
}
