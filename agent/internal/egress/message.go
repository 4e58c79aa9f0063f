package egress

import (
	"encoding/binary"
	"strings"
)

// Numbers of RFC 1035, RFC 6891 (EDNS), RFC 8914 (extended errors) and RFC 9460 (SVCB, HTTPS).
const (
	headerSize  = 12
	wireName    = 255 // longest name as labels with their lengths
	classIN     = 1
	typeA       = 1
	typeCNAME   = 5
	typeAAAA    = 28
	typeOPT     = 41
	typeSVCB    = 64
	typeHTTPS   = 65
	typeIXFR    = 251
	typeAXFR    = 252
	typeANY     = 255
	rcodeOK     = 0
	rcodeFormat = 1
	rcodeServer = 2
	rcodeNoName = 3
	rcodeNotImp = 4
	rcodeRefuse = 5

	flagResponse  = 0x80 // of the third byte
	flagTruncated = 0x02
	flagWanted    = 0x01 // recursion desired
	flagAvailable = 0x80 // of the fourth byte
	flagsAsked    = 0x30 // authentic data, checking disabled
	maskOpcode    = 0x78
	maskRcode     = 0x0f

	optionError     = 15 // of EDNS: an extended error
	errorProhibited = 18
	errorNetwork    = 23
	errorTextLimit  = 200 // bytes, so that a refusal always fits into 512

	plainSize = 512  // longest answer by UDP without EDNS
	ednsSize  = 1232 // longest answer by UDP asked for: fits into IPv6's smallest MTU
	// additionalLimit bounds the records of a guest's question that are looked through for EDNS.
	additionalLimit = 4
	// recordLimit and chainLimit bound the work on an answer.
	recordLimit = 256
	chainLimit  = 16
)

// question is a guest's question, taken apart. Nothing else of the guest's message is used.
type question struct {
	id       uint16
	flags    [2]byte // of the header
	name     string  // as text; labels with other bytes than a host's name has are escaped, so no entry covers them
	wire     []byte  // name, type and class
	kind     uint16
	class    uint16
	edns     bool
	size     uint16 // what EDNS says the guest takes
	dnssecOK bool
}

// parseQuestion reads a standard query with one question and nothing that pretends to be an answer. A rcode other than
// OK is what to answer instead. ok is false for what is no question at all.
func parseQuestion(message []byte) (q *question, rcode byte, ok bool) {
	if len(message) < headerSize || message[2]&flagResponse != 0 {
		return nil, 0, false
	}
	q = &question{id: binary.BigEndian.Uint16(message), flags: [2]byte{message[2], message[3]}}
	if message[2]&maskOpcode != 0 {
		return q, rcodeNotImp, true
	}
	count := func(at int) int { return int(binary.BigEndian.Uint16(message[at:])) }
	if len(message) > queryLimit || count(4) != 1 || count(6) != 0 || count(8) != 0 || count(10) > additionalLimit {
		return q, rcodeFormat, true
	}
	end := plainName(message, headerSize)
	if end < 0 || end+4 > len(message) {
		return q, rcodeFormat, true
	}
	q.wire = append([]byte(nil), message[headerSize:end+4]...)
	q.kind, q.class = binary.BigEndian.Uint16(message[end:]), binary.BigEndian.Uint16(message[end+2:])
	q.name = nameText(q.wire)
	at := end + 4
	for i := 0; i < count(10); i++ {
		record, next, ok := readRecord(message, at)
		if !ok || record.kind == typeOPT && q.edns {
			return q, rcodeFormat, true
		}
		if record.kind == typeOPT {
			q.edns, q.size, q.dnssecOK = true, record.class, record.ttl&0x8000 != 0
		}
		at = next
	}
	if q.class != classIN {
		return q, rcodeRefuse, true
	}
	if q.kind == typeAXFR || q.kind == typeIXFR {
		return q, rcodeNotImp, true
	}
	return q, rcodeOK, true
}

// plainName returns where a name without compression ends, which questions never need; -1 when it is none.
func plainName(message []byte, at int) int {
	for start := at; at < len(message); {
		length := int(message[at])
		if length == 0 {
			if at+1-start > wireName {
				return -1
			}
			return at + 1
		}
		if length > labelLimit {
			return -1
		}
		at += 1 + length
	}
	return -1
}

// nameText takes a checked name. A dot within a label must not look like one between labels.
func nameText(wire []byte) string {
	var text strings.Builder
	for at := 0; wire[at] != 0; at += 1 + int(wire[at]) {
		if at > 0 {
			text.WriteByte('.')
		}
		for _, c := range wire[at+1 : at+1+int(wire[at])] {
			if isNameByte(c) {
				text.WriteByte(c)
			} else { // RFC 4343, 2.1
				text.Write([]byte{'\\', '0' + c/100, '0' + c/10%10, '0' + c%10})
			}
		}
	}
	if text.Len() == 0 {
		return "."
	}
	return text.String()
}

type record struct {
	name  string // the labels with their lengths, in lower case
	kind  uint16
	class uint16
	ttl   uint32
	data  []byte
	start int // of data, in the message
}

// readRecord reads the record at a position, and tells where the next one begins.
func readRecord(message []byte, at int) (r record, next int, ok bool) {
	name, at, ok := readName(message, at)
	if !ok || at+10 > len(message) {
		return r, 0, false
	}
	r = record{
		name:  name,
		kind:  binary.BigEndian.Uint16(message[at:]),
		class: binary.BigEndian.Uint16(message[at+2:]),
		ttl:   binary.BigEndian.Uint32(message[at+4:]),
		start: at + 10,
	}
	next = r.start + int(binary.BigEndian.Uint16(message[at+8:]))
	if next > len(message) {
		return r, 0, false
	}
	r.data = message[r.start:next]
	return r, next, true
}

// readName follows compression, always backwards, so it ends (RFC 1035, 4.1.4).
func readName(message []byte, at int) (name string, next int, ok bool) {
	var labels []byte
	next = -1
	for start := at; at < len(message); {
		length := int(message[at])
		switch {
		case length == 0:
			if next < 0 {
				next = at + 1
			}
			return strings.ToLower(string(labels)), next, true
		case length <= labelLimit:
			if at+1+length > len(message) || len(labels)+1+length >= wireName {
				return "", 0, false
			}
			labels = append(labels, message[at:at+1+length]...)
			at += 1 + length
		case length&0xc0 == 0xc0 && at+1 < len(message):
			if next < 0 {
				next = at + 2
			}
			to := (length&0x3f)<<8 | int(message[at+1])
			if to >= start {
				return "", 0, false
			}
			start, at = to, to
		default:
			return "", 0, false
		}
	}
	return "", 0, false
}

// isAnswerTo tells whether a message answers what query asked: the same number and the same question.
func isAnswerTo(message, query []byte) bool {
	if len(message) < headerSize || message[0] != query[0] || message[1] != query[1] || message[2]&flagResponse == 0 {
		return false
	}
	if message[4] == 0 && message[5] == 0 { // Some that could not read a question do not repeat it.
		return message[3]&maskRcode != rcodeOK && message[3]&maskRcode != rcodeNoName
	}
	if message[4] != 0 || message[5] != 1 {
		return false
	}
	want, wantEnd, _ := readName(query, headerSize)
	got, gotEnd, ok := readName(message, headerSize)
	return ok && got == want && gotEnd+4 <= len(message) &&
		string(message[gotEnd:gotEnd+4]) == string(query[wantEnd:wantEnd+4])
}

// answerAddresses returns the IPv4 addresses that an answer gives for what it was asked, through its aliases.
func answerAddresses(message []byte) [][4]byte {
	name, at, ok := readName(message, headerSize)
	if !ok {
		return nil
	}
	at += 4
	aliases, addresses := map[string]string{}, map[string][][4]byte{}
	count := int(binary.BigEndian.Uint16(message[6:]))
	for i := 0; i < count && i < recordLimit; i++ {
		r, next, ok := readRecord(message, at)
		if !ok {
			break
		}
		at = next
		if r.class != classIN {
			continue
		}
		switch r.kind {
		case typeA:
			if len(r.data) == 4 {
				addresses[r.name] = append(addresses[r.name], [4]byte{r.data[0], r.data[1], r.data[2], r.data[3]})
			}
		case typeCNAME:
			if target, _, ok := readName(message, r.start); ok {
				aliases[r.name] = target
			}
		}
	}
	for i := 0; i < chainLimit; i++ {
		if found := addresses[name]; found != nil {
			return found
		}
		target, ok := aliases[name]
		if !ok {
			return nil
		}
		name = target
	}
	return nil
}
