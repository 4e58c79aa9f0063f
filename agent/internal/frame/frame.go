// Package frame is the wire format of docs/guest-protocol.md: headers, fields, the preamble and their limits.
// It knows nothing of streams or their states; package session does.
package frame

import (
	"encoding/binary"
	"errors"
)

// Version is the protocol version this code speaks.
const Version = 1

// HeaderSize is the number of bytes in front of every payload.
const HeaderSize = 16

// Limits of the protocol, in bytes.
const (
	MaxData          = 65536
	MaxClientPayload = 4 << 20
	MaxAgentPayload  = 64 << 10
	InitialCredit    = 262144
	NonceSize        = 16
)

// Type says what a frame means.
type Type uint8

// The frame types.
const (
	Hello   Type = 0x01
	Welcome Type = 0x02
	Fatal   Type = 0x03
	Exec    Type = 0x10
	Started Type = 0x11
	Data    Type = 0x12
	End     Type = 0x13
	Credit  Type = 0x14
	Signal  Type = 0x15
	Exited  Type = 0x16
	Failed  Type = 0x17
	Kill    Type = 0x18
	Resize  Type = 0x19
	Attach  Type = 0x1a
	Detach  Type = 0x1b
	Skipped Type = 0x1c
	Call    Type = 0x20
	Reply   Type = 0x21
)

// The channels of a stream.
const (
	Stdin  uint8 = 0
	Stdout uint8 = 1
	Stderr uint8 = 2
)

// Sender says which end wrote a frame: types and limits depend on it.
type Sender uint8

// The two ends of a connection.
const (
	FromClient Sender = 1 << iota
	FromAgent
)

// Header is a decoded frame header; the magic is checked and gone.
type Header struct {
	Type     Type
	Channel  uint8
	Stream   uint32
	Sequence uint32
	Length   uint32
}

const (
	magic0 = 0x53
	magic1 = 0x4d
)

// Reasons for which a header is a protocol error.
var (
	ErrMagic     = errors.New("wrong magic")
	ErrType      = errors.New("unknown frame type")
	ErrDirection = errors.New("frame type is not for this direction")
	ErrLength    = errors.New("payload length is outside its limits")
	ErrStream    = errors.New("stream number does not fit the frame type")
	ErrChannel   = errors.New("channel does not fit the frame type")
)

type rule struct {
	senders    Sender
	connection bool // belongs to stream 0
	channels   bool // the channel has a meaning
	min, max   uint32
}

// anyLength stands for the limit that depends on the sender.
const anyLength = ^uint32(0)

var rules = [256]rule{
	Hello:   {senders: FromClient, connection: true, max: anyLength},
	Welcome: {senders: FromAgent, connection: true, max: anyLength},
	Fatal:   {senders: FromAgent, connection: true, max: anyLength},
	Exec:    {senders: FromClient, max: anyLength},
	Started: {senders: FromAgent, max: anyLength},
	Data:    {senders: FromClient | FromAgent, channels: true, min: 1, max: MaxData},
	End:     {senders: FromClient | FromAgent, channels: true},
	Credit:  {senders: FromClient | FromAgent, channels: true, min: 4, max: 4},
	Signal:  {senders: FromClient, max: anyLength},
	Exited:  {senders: FromAgent, max: anyLength},
	Failed:  {senders: FromAgent, max: anyLength},
	Kill:    {senders: FromClient},
	Resize:  {senders: FromClient, max: anyLength},
	Attach:  {senders: FromClient, max: anyLength},
	Detach:  {senders: FromClient},
	Skipped: {senders: FromAgent, max: anyLength},
	Call:    {senders: FromClient, max: anyLength},
	Reply:   {senders: FromAgent, max: anyLength},
}

// PutHeader writes h with the magic into the first HeaderSize bytes of p.
func PutHeader(p []byte, h Header) {
	_ = p[HeaderSize-1]
	p[0], p[1] = magic0, magic1
	p[2], p[3] = byte(h.Type), h.Channel
	binary.BigEndian.PutUint32(p[4:], h.Stream)
	binary.BigEndian.PutUint32(p[8:], h.Sequence)
	binary.BigEndian.PutUint32(p[12:], h.Length)
}

// ParseHeader reads a header and checks all that can be checked without knowing the connection.
func ParseHeader(p []byte, from Sender) (Header, error) {
	_ = p[HeaderSize-1]
	h := Header{
		Type:     Type(p[2]),
		Channel:  p[3],
		Stream:   binary.BigEndian.Uint32(p[4:]),
		Sequence: binary.BigEndian.Uint32(p[8:]),
		Length:   binary.BigEndian.Uint32(p[12:]),
	}
	if p[0] != magic0 || p[1] != magic1 {
		return h, ErrMagic
	}
	r := &rules[h.Type]
	max := r.max
	if max == anyLength {
		max = MaxAgentPayload
		if from == FromClient {
			max = MaxClientPayload
		}
	}
	switch {
	case r.senders == 0:
		return h, ErrType
	case r.senders&from == 0:
		return h, ErrDirection
	case h.Length < r.min || h.Length > max:
		return h, ErrLength
	case (h.Stream == 0) != r.connection:
		return h, ErrStream
	case h.Channel != 0 && !r.channels, h.Channel > Stderr:
		return h, ErrChannel
	}
	return h, nil
}

// Append adds a whole frame to p.
func Append(p []byte, h Header, payload []byte) []byte {
	var head [HeaderSize]byte
	h.Length = uint32(len(payload))
	PutHeader(head[:], h)
	return append(append(p, head[:]...), payload...)
}
