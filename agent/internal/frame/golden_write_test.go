package frame

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

type goldenCase struct {
	name, from string
	header     Header
	fields     []Field
	payload    []byte
}

var goldenNonce = []byte{0, 1, 2, 3, 4, 5, 6, 7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff}

func u32(v uint32) []byte { return AppendU32(nil, 0, v)[fieldHeaderSize:] }
func u64(v uint64) []byte { return AppendU64(nil, 0, v)[fieldHeaderSize:] }

func text(tag uint8, values ...string) (fields []Field) {
	for _, v := range values {
		fields = append(fields, Field{tag, []byte(v)})
	}
	return fields
}

func join(lists ...[]Field) (all []Field) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func goldenCases() []goldenCase {
	const c, a = "client", "agent"
	const last = ^uint32(0)
	exec := func(sequence uint32) Header { return Header{Type: Exec, Stream: 1, Sequence: sequence} }
	return []goldenCase{
		{"hello", c, Header{Type: Hello}, []Field{{1, u32(1)}, {2, goldenNonce}}, nil},
		{"welcome", a, Header{Type: Welcome}, join([]Field{{1, u32(1)}, {2, goldenNonce}}, text(3, "0.1.0")), nil},
		{"fatal", a, Header{Type: Fatal, Sequence: 9}, join(text(1, "EPROTO"), text(2, "wrong magic")), nil},
		{"exec with repeated tags", c, exec(1), join(text(1, "/bin/sh", "-c", "echo \"$A\""), text(2, "A=1", "B=two\nlines")), nil},
		{"exec with every field", c, exec(2), join(text(1, "cat"), text(2, "K="), text(3, "/srv"), text(4, "nobody"),
			[]Field{{5, u64(1 << 40)}, {6, u64(0)}, {7, []byte{1}}, {9, []byte{1}}}), nil},
		{"exec with a command line in unicode", c, Header{Type: Exec, Stream: 3, Sequence: 3},
			text(8, "echo 'grüße, 世界 🐧'"), nil},
		{"exec with an empty argument", c, Header{Type: Exec, Stream: 4, Sequence: 4}, text(1, "printf", ""), nil},
		{"started", a, Header{Type: Started, Stream: 1, Sequence: 1}, []Field{{1, u32(4194303)}}, nil},
		{"data to stdin", c, Header{Type: Data, Channel: Stdin, Stream: 1, Sequence: 5}, nil, []byte("hello\n")},
		{"data from stdout, binary", a, Header{Type: Data, Channel: Stdout, Stream: 1, Sequence: 2}, nil, []byte{0, 0xff, 0xfe, 'S', 'M', 0x80}},
		{"data from stderr, one byte", a, Header{Type: Data, Channel: Stderr, Stream: 1, Sequence: 3}, nil, []byte{0}},
		{"end of stdin", c, Header{Type: End, Stream: 1, Sequence: 6}, nil, []byte{}},
		{"end of stderr", a, Header{Type: End, Channel: Stderr, Stream: 1, Sequence: 4}, nil, []byte{}},
		{"credit for stdout", c, Header{Type: Credit, Channel: Stdout, Stream: 1, Sequence: 7}, nil, u32(65536)},
		{"credit for stdin, greatest", a, Header{Type: Credit, Stream: 1, Sequence: 5}, nil, u32(last)},
		{"signal", c, Header{Type: Signal, Stream: 1, Sequence: 8}, []Field{{1, u32(15)}}, nil},
		{"kill", c, Header{Type: Kill, Stream: 1, Sequence: 9}, nil, []byte{}},
		{"exited with a code", a, Header{Type: Exited, Stream: 1, Sequence: 6},
			[]Field{{1, u32(255)}, {3, u64(0)}, {4, u64(1<<63 + 5)}, {5, u64(1234567)}}, nil},
		{"exited by a signal", a, Header{Type: Exited, Stream: 1, Sequence: 7},
			[]Field{{2, u32(9)}, {3, u64(0)}, {4, u64(0)}, {5, u64(0)}}, nil},
		{"failed", a, Header{Type: Failed, Stream: 2, Sequence: 8}, join(text(1, "ENOENT"), text(2, "Cannot run program \"nö\"")), nil},
		{"call without fields", c, Header{Type: Call, Stream: 5, Sequence: 10}, text(1, "ping"), nil},
		{"call with an empty field", c, Header{Type: Call, Stream: 6, Sequence: 11}, join(text(1, "configure"), text(10, ""), text(13, "A=1", "B=2")), nil},
		{"call with an unknown tag", c, Header{Type: Call, Stream: 7, Sequence: 12}, join(text(1, "ping"), text(250, "from the future")), nil},
		{"reply", a, Header{Type: Reply, Stream: 5, Sequence: 9}, []Field{{4, u32(1500)}}, nil},
		{"reply, empty", a, Header{Type: Reply, Stream: 6, Sequence: 10}, nil, []byte{}},
		{"greatest stream", c, Header{Type: Kill, Stream: last, Sequence: 13}, nil, []byte{}},
		{"greatest sequence", c, Header{Type: Kill, Stream: 1, Sequence: last}, nil, []byte{}},
		{"sequence wrapped", c, Header{Type: Kill, Stream: 1, Sequence: 0}, nil, []byte{}},
		{"exec on a terminal, detached", c, Header{Type: Exec, Stream: 8, Sequence: 15},
			join(text(8, ""), []Field{{9, []byte{1}}, {10, u32(80)}, {11, u32(65535)}, {12, []byte{1}}}), nil},
		{"started, detached", a, Header{Type: Started, Stream: 8, Sequence: 11},
			join([]Field{{1, u32(300)}}, text(2, "0123abcd"), []Field{{3, u64(0)}}), nil},
		{"resize", c, Header{Type: Resize, Stream: 8, Sequence: 16}, []Field{{1, u32(120)}, {2, u32(40)}}, nil},
		{"attach", c, Header{Type: Attach, Stream: 9, Sequence: 17}, join(text(1, "0123abcd"), []Field{{2, u64(1 << 40)}}), nil},
		{"skipped", a, Header{Type: Skipped, Stream: 9, Sequence: 12}, []Field{{1, u64(1<<40 + 1)}}, nil},
		{"detach", c, Header{Type: Detach, Stream: 9, Sequence: 18}, nil, []byte{}},
		{"call with a path that is not UTF-8", c, Header{Type: Call, Stream: 10, Sequence: 19},
			join(text(1, "fs.read"), []Field{{10, []byte("/\xff\n")}, {19, u64(5)}, {33, u64(1 << 32)}}), nil},
		{"half a preamble in data", c, Header{Type: Data, Stream: 1, Sequence: 14}, nil, Preamble[:8]},
	}
}

func invalidCases() []goldenInvalid {
	raw := func(h Header, p []byte) string { return hex.EncodeToString(Append(nil, h, p)) }
	length := func(h Header, n uint32) string {
		var head [HeaderSize]byte
		h.Length = n
		PutHeader(head[:], h)
		return hex.EncodeToString(head[:])
	}
	kill := Header{Type: Kill, Stream: 1}
	exec := Header{Type: Exec, Stream: 1}
	data := Header{Type: Data, Stream: 1}
	reply := Header{Type: Reply, Stream: 1}
	return []goldenInvalid{
		{"wrong magic", "client", "4d53" + raw(kill, nil)[4:], "magic"},
		{"truncated header", "client", raw(kill, nil)[:30], "truncated"},
		{"truncated payload", "client", raw(data, []byte("hello"))[:40], "truncated"},
		{"type zero", "client", raw(Header{Stream: 1}, nil), "type"},
		{"unknown type", "agent", raw(Header{Type: 0x7f, Stream: 1}, nil), "type"},
		{"agent's type from the client", "client", raw(Header{Type: Started, Stream: 1}, AppendU32(nil, 1, 1)), "direction"},
		{"client's type from the agent", "agent", raw(kill, nil), "direction"},
		{"empty data", "client", raw(data, nil), "length"},
		{"data above its limit", "agent", length(Header{Type: Data, Channel: 1, Stream: 1}, MaxData+1), "length"},
		{"exec above its limit", "client", length(exec, MaxClientPayload+1), "length"},
		{"reply above its limit", "agent", length(reply, MaxAgentPayload+1), "length"},
		{"greatest length", "client", length(exec, ^uint32(0)), "length"},
		{"credit of three bytes", "client", raw(Header{Type: Credit, Channel: 1, Stream: 1}, []byte{0, 0, 1}), "length"},
		{"end with a payload", "client", raw(Header{Type: End, Stream: 1}, []byte{0}), "length"},
		{"detach with a payload", "client", raw(Header{Type: Detach, Stream: 1}, []byte{0}), "length"},
		{"resize from the agent", "agent", raw(Header{Type: Resize, Stream: 1}, AppendU32(nil, 1, 1)), "direction"},
		{"skipped from the client", "client", raw(Header{Type: Skipped, Stream: 1}, AppendU64(nil, 1, 1)), "direction"},
		{"hello on a stream", "client", raw(Header{Type: Hello, Stream: 1}, nil), "stream"},
		{"exec on the connection", "client", raw(Header{Type: Exec}, nil), "stream"},
		{"channel three", "client", raw(Header{Type: Data, Channel: 3, Stream: 1}, []byte("x")), "channel"},
		{"channel without a meaning", "client", raw(Header{Type: Kill, Channel: 1, Stream: 1}, nil), "channel"},
		{"truncated field header", "client", raw(exec, []byte{1, 0, 0, 0}), "field"},
		{"truncated field value", "client", raw(exec, []byte{1, 0, 0, 0, 3, 'a', 'b'}), "field"},
		{"field of the greatest length", "agent", raw(reply, []byte{1, 0xff, 0xff, 0xff, 0xff, 'a'}), "field"},
	}
}

func writeGolden(t *testing.T) {
	t.Helper()
	g := goldenFile{PreambleHex: hex.EncodeToString(Preamble), Invalid: invalidCases()}
	for _, c := range goldenCases() {
		f := goldenFrame{Name: c.name, From: c.from, Type: uint8(c.header.Type), Channel: c.header.Channel,
			Stream: c.header.Stream, Sequence: c.header.Sequence}
		payload := c.payload
		if c.fields == nil {
			asHex := hex.EncodeToString(payload)
			f.PayloadHex = &asHex
		}
		for _, field := range c.fields {
			f.Fields = append(f.Fields, goldenField{field.Tag, hex.EncodeToString(field.Value)})
			payload = AppendBytes(payload, field.Tag, field.Value)
		}
		f.FrameHex = hex.EncodeToString(Append(nil, c.header, payload))
		g.Valid = append(g.Valid, f)
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(g); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "null") {
		t.Fatal("a list is null")
	}
	if err := os.WriteFile(goldenPath, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
