package netguard

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"testing"
	"time"
)

// This test binary is also a passt that is good enough for the tests, and the inner helper.

// fakePasst is the first argument of the passt; the second is a file, to which it appends a line for each segment.
const fakePasst = "fake-passt"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == InnerFlag {
		if err := ServeInner(os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 2 && os.Args[1] == fakePasst {
		servePasst(os.Args[2], os.Args[3] == namesInterface[0])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// servePasst answers ARP, sends datagrams back, accepts connections, and dies of port 6666. The one of the names does
// connect, and refuses what it cannot connect to.
func servePasst(journal string, connects bool) {
	file := os.NewFile(3, "guard")
	socket, err := net.FileConn(file)
	if err != nil {
		panic(err)
	}
	log, err := os.OpenFile(journal, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(log, "start %d\n", os.Getpid())
	peer := crafter{gatewayMAC: [6]byte{0x52, 0x55, 10, 0, 2, 2}, gateway: addressOf(net.ParseIP(gateway))}
	copy(peer.guestMAC[:], guestMAC)
	peer.guest = addressOf(net.ParseIP(guest))
	_ = relay(socket, &splitter{}, func(buffer []byte, start, end int) {
		f := buffer[start+lengthSize : end]
		if binary.BigEndian.Uint16(f[12:]) == etherTypeARP {
			reply := peer.arpRequest()
			body := reply[lengthSize+ethernetSize:]
			body[7] = arpReply
			copy(body[8:], peer.gatewayMAC[:])
			_, _ = socket.Write(reply)
			return
		}
		p, _ := parseOutbound(f[ethernetSize:])
		if p.protocol == protocolUDP {
			_, _ = socket.Write(peer.datagram(p.conversation, p.payload()))
			return
		}
		fmt.Fprintf(log, "%s:%d flags %d\n", toAddr(p.remote), p.remotePort, p.flags)
		if p.remotePort == 6666 {
			os.Exit(0)
		}
		if p.opens() {
			flags := byte(tcpSyn | tcpAck)
			if connects && !canConnect(&p) {
				flags = tcpRst | tcpAck
			}
			_, _ = socket.Write(peer.segment(p.conversation, true, flags, 500, p.next()))
		}
	}, func() {})
}

func canConnect(p *packet) bool {
	conn, err := net.DialTimeout("tcp4", fmt.Sprintf("%s:%d", toAddr(p.remote), p.remotePort), time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
