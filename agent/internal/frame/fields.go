package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

// ErrField is a payload that is not a list of fields, or a value that is not of its type.
var ErrField = errors.New("payload does not parse")

const fieldHeaderSize = 5

// Field is one tagged value; Value aliases the payload that it was parsed from.
type Field struct {
	Tag   uint8
	Value []byte
}

// NextField cuts the first field off p.
func NextField(p []byte) (f Field, rest []byte, err error) {
	if len(p) < fieldHeaderSize {
		return f, nil, ErrField
	}
	n := binary.BigEndian.Uint32(p[1:])
	if uint64(n) > uint64(len(p)-fieldHeaderSize) {
		return f, nil, ErrField
	}
	end := fieldHeaderSize + int(n)
	return Field{Tag: p[0], Value: p[fieldHeaderSize:end:end]}, p[end:], nil
}

// Each calls visit for every field of a payload, in order.
func Each(payload []byte, visit func(Field) error) error {
	for len(payload) > 0 {
		f, rest, err := NextField(payload)
		if err != nil {
			return err
		}
		if err := visit(f); err != nil {
			return err
		}
		payload = rest
	}
	return nil
}

// Text returns the value as text: UTF-8 without NUL.
func (f Field) Text() (string, error) {
	if !utf8.Valid(f.Value) || bytes.IndexByte(f.Value, 0) >= 0 {
		return "", ErrField
	}
	return string(f.Value), nil
}

// U32 returns the value as a number of four bytes.
func (f Field) U32() (uint32, error) {
	if len(f.Value) != 4 {
		return 0, ErrField
	}
	return binary.BigEndian.Uint32(f.Value), nil
}

// U64 returns the value as a number of eight bytes.
func (f Field) U64() (uint64, error) {
	if len(f.Value) != 8 {
		return 0, ErrField
	}
	return binary.BigEndian.Uint64(f.Value), nil
}

// Flag returns the value as a number of one byte that is 0 or 1.
func (f Field) Flag() (bool, error) {
	if len(f.Value) != 1 || f.Value[0] > 1 {
		return false, ErrField
	}
	return f.Value[0] == 1, nil
}

// AppendBytes adds a field with a free value.
func AppendBytes(p []byte, tag uint8, value []byte) []byte {
	var head [fieldHeaderSize]byte
	head[0] = tag
	binary.BigEndian.PutUint32(head[1:], uint32(len(value)))
	return append(append(p, head[:]...), value...)
}

// AppendText adds a text field.
func AppendText(p []byte, tag uint8, value string) []byte {
	return AppendBytes(p, tag, []byte(value))
}

// AppendU32 adds a number of four bytes.
func AppendU32(p []byte, tag uint8, value uint32) []byte {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], value)
	return AppendBytes(p, tag, b[:])
}

// AppendU64 adds a number of eight bytes.
func AppendU64(p []byte, tag uint8, value uint64) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], value)
	return AppendBytes(p, tag, b[:])
}
