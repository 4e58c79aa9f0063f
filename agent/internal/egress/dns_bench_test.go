package egress

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// dnsServer is a resolver of the host, on loopback: answer makes a message of a question.
func dnsServer(t testing.TB, answer func(network string, query []byte) []byte) netip.AddrPort {
	t.Helper()
	udp, tcp := listenBoth(t)
	t.Cleanup(func() { _ = udp.Close(); _ = tcp.Close() })
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(buffer)
			if err != nil {
				return
			}
			if message := answer("udp", append([]byte(nil), buffer[:n]...)); message != nil {
				_, _ = udp.WriteTo(message, from)
			}
		}
	}()
	go func() {
		_ = acceptAll(tcp, func(conn net.Conn) {
			go func() {
				defer conn.Close()
				for {
					query, err := readMessage(conn, 4096)
					if err != nil {
						return
					}
					if message := answer("tcp", query); message == nil || writeMessage(conn, message) != nil {
						return
					}
				}
			}()
		})
	}()
	return netip.MustParseAddrPort(udp.LocalAddr().String())
}

// listenBoth finds a port that is free for both protocols: what the kernel picks for one may be taken for the other.
func listenBoth(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	var err error
	for attempt := 0; attempt < 100; attempt++ {
		tcp, tcpErr := net.Listen("tcp", "127.0.0.1:0")
		if tcpErr != nil {
			t.Fatal(tcpErr)
		}
		udp, udpErr := net.ListenPacket("udp", tcp.Addr().String())
		if udpErr == nil {
			return udp, tcp
		}
		err = udpErr
		_ = tcp.Close()
	}
	t.Fatal("no port is free for both protocols: ", err)
	return nil, nil
}

func closedPort(t testing.TB) netip.AddrPort {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return netip.MustParseAddrPort(conn.LocalAddr().String())
}

func wire(name string) []byte {
	var out []byte
	for _, label := range strings.Split(name, ".") {
		out = append(append(out, byte(len(label))), label...)
	}
	return append(out, 0)
}

func ask(id uint16, name string, kind uint16, size uint16) []byte {
	q := &question{wire: append(wire(name), byte(kind>>8), byte(kind), 0, classIN), edns: size > 0}
	return q.query(id, size)
}

// answerTo answers a question with records, each built by rr.
func answerTo(query []byte, rcode byte, records ...[]byte) []byte {
	_, end, _ := readName(query, headerSize)
	message := append([]byte(nil), query[:end+4]...)
	message[2], message[3] = flagResponse|flagWanted, flagAvailable|rcode
	message[7], message[11] = byte(len(records)), 0
	for _, record := range records {
		message = append(message, record...)
	}
	return message
}

func rr(name string, kind uint16, data ...byte) []byte {
	out := append(wire(name), byte(kind>>8), byte(kind), 0, classIN, 0, 0, 0, 60, byte(len(data)>>8), byte(len(data)))
	return append(out, data...)
}

func rules(t testing.TB, policy string, resolvers ...netip.AddrPort) *Rules {
	t.Helper()
	var quoted []string
	for _, server := range resolvers {
		quoted = append(quoted, fmt.Sprintf("%q", server))
	}
	return testRules(t, strings.TrimSuffix(policy, "}")+`,"resolvers":[`+strings.Join(quoted, ",")+`]}`)
}

const allowExample = `{"mode":"allow","names":[{"name":"api.example.com","port":443},{"name":"*.example.org","port":80}]}`

// extendedError returns code and text of RFC 8914; -1 for none.
func extendedError(t *testing.T, message []byte) (int, string) {
	t.Helper()
	_, at, ok := readName(message, headerSize)
	if !ok || message[11] != 1 {
		return -1, ""
	}
	opt, end, ok := readRecord(message, at+4)
	if !ok || end != len(message) || opt.kind != typeOPT {
		t.Fatalf("bad EDNS in %x", message)
	}
	if len(opt.data) == 0 {
		return -1, ""
	}
	if binary.BigEndian.Uint16(opt.data) != optionError || int(binary.BigEndian.Uint16(opt.data[2:])) != len(opt.data)-4 {
		t.Fatalf("bad option in %x", message)
	}
	return int(binary.BigEndian.Uint16(opt.data[4:])), string(opt.data[6:])
}

func exchangeOver(t *testing.T, network, address string, query []byte) []byte {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if network == "tcp" {
		if err := writeMessage(conn, query); err != nil {
			t.Fatal(err)
		}
		answer, err := readMessage(conn, tcpLimit)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	if _, err := conn.Write(query); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, tcpLimit)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return buffer[:n]
}
