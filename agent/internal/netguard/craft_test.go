package netguard

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
)

func TestRefusalsAreBounded(t *testing.T) {
	it := newTested(t, openPolicy)
	count := func() (replies int) {
		for i := 0; i < 5*refusalLimit; i++ {
			if it.Outbound(syn("127.0.0.1", uint16(1+i))).Reply != nil {
				replies++
			}
		}
		return replies
	}
	if got := count(); got != refusalLimit || len(it.noted) != 5*refusalLimit {
		t.Errorf("%d replies, %d noted", got, len(it.noted))
	}
	it.at = it.at.Add(refusalWindow)
	if got := count(); got != refusalLimit {
		t.Errorf("%d replies in the next window", got)
	}
}

func TestRefusalOfASegment(t *testing.T) {
	it := newTested(t, openPolicy)
	from, to, fromPort, toPort, flags, sequence, acknowledged := segmentOf(t, it.Outbound(syn("127.0.0.1", 80)).Reply)
	if from != "127.0.0.1" || to != guest || fromPort != 80 || toPort != 40000 || flags != tcpRst|tcpAck ||
		sequence != 0 || acknowledged != 1001 {
		t.Error("the answer to SYN is ", from, to, fromPort, toPort, flags, sequence, acknowledged)
	}
	data := frame(protocolTCP, guest, "1.1.1.1", append(tcp(40000, 80, tcpAck), "data"...))
	_, _, _, _, flags, sequence, _ = segmentOf(t, it.Outbound(data).Reply)
	if flags != tcpRst || sequence != 2000 {
		t.Error("the answer to ACK is ", flags, sequence)
	}
}

func TestRefusalOfADatagram(t *testing.T) {
	it := newTested(t, openPolicy)
	sent := frame(protocolUDP, guest, "127.0.0.1", udp(40000, 80, "0123456789"))
	packet := it.Outbound(sent).Reply[lengthSize+ethernetSize:]
	error := packet[ipv4Size:]
	if sum(0, packet[:ipv4Size]) != 0xffff || sum(0, error) != 0xffff || packet[9] != protocolICMP ||
		error[0] != icmpUnreachable || error[1] != icmpProhibited || net.IP(packet[12:16]).String() != gateway {
		t.Errorf("% x", packet)
	}
	if !bytes.Equal(error[icmpSize:], sent[ethernetSize:ethernetSize+quotedSize]) {
		t.Errorf("quotes % x", error[icmpSize:])
	}
}

func TestAnswerToADatagram(t *testing.T) {
	it := newTested(t, openPolicy)
	v := it.Outbound(frame(protocolUDP, guest, dns, udp(1234, 53, "question")))
	packet := it.answer(v.From, []byte("answer"))[lengthSize+ethernetSize:]
	length := uint32(len(packet) - ipv4Size)
	if sum(0, packet[:ipv4Size]) != 0xffff || sum(uint32(sum(protocolUDP+length, packet[12:20])), packet[ipv4Size:]) != 0xffff {
		t.Errorf("checksums of % x", packet)
	}
	if net.IP(packet[12:16]).String() != dns || binary.BigEndian.Uint16(packet[20:]) != 53 ||
		binary.BigEndian.Uint16(packet[22:]) != 1234 || string(packet[28:]) != "answer" {
		t.Errorf("answer is % x", packet)
	}
}
