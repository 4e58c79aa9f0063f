package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Just enough DNS for the test's own server and client.

const (
	dnsTypeA   = 1
	dnsTypeOPT = 41
	dnsEDE     = 15 // the option of RFC 8914
)

// dnsQuestion asks for the A records of a name, with EDNS.
func dnsQuestion(id uint16, name string) []byte {
	message := []byte{byte(id >> 8), byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 1}
	for _, label := range strings.Split(name, ".") {
		message = append(append(message, byte(len(label))), label...)
	}
	message = append(message, 0, 0, dnsTypeA, 0, 1)
	return append(message, 0, 0, dnsTypeOPT, 0x04, 0xd0, 0, 0, 0, 0, 0, 0)
}

// dnsName reads the name of a question and returns what follows it.
func dnsName(message []byte) (name string, rest []byte) {
	var labels []string
	for rest = message[12:]; rest[0] != 0; rest = rest[1+int(rest[0]):] {
		labels = append(labels, string(rest[1:1+int(rest[0])]))
	}
	return strings.ToLower(strings.Join(labels, ".")), rest[1:]
}

// dnsReply answers with addresses; without any it is "no such name".
func dnsReply(question []byte, addresses []string) []byte {
	_, rest := dnsName(question)
	reply := append([]byte(nil), question[:len(question)-len(rest)+4]...)
	reply[2], reply[3] = 0x81, 0x80
	copy(reply[6:], []byte{0, byte(len(addresses)), 0, 0, 0, 0})
	if len(addresses) == 0 {
		reply[3] |= 3
	}
	for _, address := range addresses {
		reply = append(reply, 0xc0, 12, 0, dnsTypeA, 0, 1, 0, 0, 0, 60, 0, 4)
		reply = append(reply, net.ParseIP(address).To4()...)
	}
	return reply
}

// describeDNS puts a reply into words: "NOERROR 198.51.100.7", "REFUSED EDE 18 text".
func describeDNS(reply []byte) string {
	code := map[byte]string{0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}[reply[3]&0xf]
	words := []string{code}
	records := int(binary.BigEndian.Uint16(reply[6:])) + int(binary.BigEndian.Uint16(reply[8:])) +
		int(binary.BigEndian.Uint16(reply[10:]))
	_, rest := dnsName(reply)
	for rest = rest[4:]; records > 0; records-- {
		for rest[0] != 0 && rest[0] < 0xc0 {
			rest = rest[1+int(rest[0]):]
		}
		if rest[0] != 0 {
			rest = rest[1:]
		}
		rest = rest[1:]
		kind, size := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[8:]))
		data := rest[10 : 10+size]
		rest = rest[10+size:]
		if kind == dnsTypeA {
			words = append(words, net.IP(data).String())
		}
		for kind == dnsTypeOPT && len(data) >= 4 {
			option, length := binary.BigEndian.Uint16(data), int(binary.BigEndian.Uint16(data[2:]))
			if option == dnsEDE {
				words = append(words, fmt.Sprintf("EDE %d", binary.BigEndian.Uint16(data[4:])), string(data[6:4+length]))
			}
			data = data[4+length:]
		}
	}
	return strings.Join(words, " ")
}

// askDNS sends one question and describes the reply.
func askDNS(network, server, name string) string {
	connection, err := net.DialTimeout(network, server, 5*time.Second)
	if err != nil {
		return "error: " + err.Error()
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(5 * time.Second))
	question := dnsQuestion(0x1234, name)
	if network == "tcp" {
		question = append([]byte{0, byte(len(question))}, question...)
	}
	_, err = connection.Write(question)
	reply := make([]byte, 65536)
	var n int
	if err == nil && network == "tcp" {
		if _, err = io.ReadFull(connection, reply[:2]); err == nil {
			n, err = io.ReadFull(connection, reply[:binary.BigEndian.Uint16(reply)])
		}
	} else if err == nil {
		n, err = connection.Read(reply)
	}
	if err == nil && n < 12 {
		err = errors.New("short reply")
	}
	if err != nil {
		return "error: " + err.Error()
	}
	return describeDNS(reply[:n])
}

// serveDNS answers from a table, by UDP and TCP, and counts the questions with report.
func serveDNS(address string, table map[string][]string, report func(string)) error {
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	answer := func(question []byte) []byte {
		name, _ := dnsName(question)
		report("asked " + name)
		return dnsReply(question, table[name])
	}
	go func() {
		buffer := make([]byte, 65536)
		for {
			n, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(answer(buffer[:n]), from)
		}
	}()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				buffer := make([]byte, 65536)
				if _, err := io.ReadFull(connection, buffer[:2]); err != nil {
					return
				}
				if n, err := io.ReadFull(connection, buffer[:binary.BigEndian.Uint16(buffer)]); err == nil {
					reply := answer(buffer[:n])
					_, _ = connection.Write(append([]byte{byte(len(reply) >> 8), byte(len(reply))}, reply...))
				}
			}()
		}
	}()
	return nil
}
