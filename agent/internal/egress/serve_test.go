package egress

import (
	"bytes"
	"net"
	"testing"
)

func TestServeDNS(t *testing.T) {
	server := dnsServer(t, func(_ string, query []byte) []byte {
		return answerTo(query, rcodeOK, rr("x.example.org", typeA, 1, 2, 3, 4))
	})
	resolver := NewResolver(rules(t, allowExample, server), nil)
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() { ended <- resolver.ServeUDP(udp) }()
	go func() { ended <- resolver.ServeTCP(tcp) }()
	for _, kind := range []uint16{typeA, typeAAAA} {
		query := ask(3, "x.example.org", kind, 0)
		answer := exchangeOver(t, "udp", udp.LocalAddr().String(), query)
		if len(answer) == 0 || answer[3]&maskRcode != rcodeOK {
			t.Errorf("UDP: %x", answer)
		}
		if got := exchangeOver(t, "tcp", tcp.Addr().String(), query); !bytes.Equal(got, answer) {
			t.Errorf("TCP: %x", got)
		}
	}
	var held []net.Conn
	for i := 0; i < dnsConnections; i++ {
		conn, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
		defer conn.Close()
	}
	more, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer more.Close()
	if _, err := readMessage(more, 100); err == nil {
		t.Error("one connection too many is served")
	}
	if err := writeMessage(held[0], ask(3, "x.example.org", typeA, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := readMessage(held[0], 1000); err != nil {
		t.Error("a connection that was there already: ", err)
	}
	_ = udp.Close()
	_ = tcp.Close()
	for i := 0; i < 2; i++ {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
