package egress

import "encoding/binary"

// query writes the question anew, for a resolver of the host.
func (q *question) query(id uint16, size uint16) []byte {
	message := make([]byte, headerSize, headerSize+len(q.wire)+11)
	binary.BigEndian.PutUint16(message, id)
	message[2] = flagWanted
	message[3] = q.flags[1] & flagsAsked
	message[5] = 1
	message = append(message, q.wire...)
	if q.edns {
		message[11] = 1
		message = appendOption(message, size, q.dnssecOK, nil)
	}
	return message
}

// reply is an answer of our own. With text it carries an extended error, for a guest that speaks EDNS.
func (q *question) reply(rcode byte, errorCode uint16, text string) []byte {
	message := make([]byte, headerSize, plainSize)
	binary.BigEndian.PutUint16(message, q.id)
	message[2] = flagResponse | q.flags[0]&(maskOpcode|flagWanted)
	message[3] = flagAvailable | q.flags[1]&0x10 | rcode
	if q.wire != nil {
		message[5] = 1
		message = append(message, q.wire...)
	}
	if !q.edns {
		return message
	}
	message[11] = 1
	var option []byte
	if text != "" {
		if len(text) > errorTextLimit {
			text = text[:errorTextLimit]
		}
		option = make([]byte, 6, 6+len(text))
		binary.BigEndian.PutUint16(option, optionError)
		binary.BigEndian.PutUint16(option[2:], uint16(2+len(text)))
		binary.BigEndian.PutUint16(option[4:], errorCode)
		option = append(option, text...)
	}
	return appendOption(message, ednsSize, q.dnssecOK, option)
}

// truncated tells the guest to ask again by TCP.
func (q *question) truncated() []byte {
	message := q.reply(rcodeOK, 0, "")
	message[2] |= flagTruncated
	return message
}

// appendOption appends the pseudo record of EDNS (RFC 6891, 6.1.2).
func appendOption(message []byte, size uint16, dnssecOK bool, data []byte) []byte {
	header := [11]byte{2: typeOPT}
	binary.BigEndian.PutUint16(header[3:], size)
	if dnssecOK {
		header[7] = 0x80
	}
	binary.BigEndian.PutUint16(header[9:], uint16(len(data)))
	return append(append(message, header[:]...), data...)
}

// addressQuestion asks for the IPv4 addresses of a name, which isName holds for. Without EDNS, as glibc does: every
// resolver knows that, and a long answer comes by TCP.
func addressQuestion(name string) *question {
	wire := []byte{}
	for start, i := 0, 0; i <= len(name); i++ {
		if i == len(name) || name[i] == '.' {
			wire = append(append(wire, byte(i-start)), name[start:i]...)
			start = i + 1
		}
	}
	return &question{name: name, wire: append(wire, 0, 0, typeA, 0, classIN), kind: typeA, class: classIN}
}
