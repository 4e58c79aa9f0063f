package frame

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"testing"
)

const goldenPath = "../../testdata/golden-frames.json"

// update writes the golden file anew; both implementations of the protocol are tested with it.
var update = flag.Bool("update", false, "rewrite "+goldenPath)

type goldenField struct {
	Tag uint8  `json:"tag"`
	Hex string `json:"hex"`
}

type goldenFrame struct {
	Name       string        `json:"name"`
	Type       uint8         `json:"type"`
	Channel    uint8         `json:"channel"`
	Stream     uint32        `json:"stream"`
	Sequence   uint32        `json:"sequence"`
	Fields     []goldenField `json:"fields,omitempty"`
	PayloadHex *string       `json:"payloadHex,omitempty"`
	FrameHex   string        `json:"frameHex"`
	From       string        `json:"from"`
}

type goldenInvalid struct {
	Name   string `json:"name"`
	From   string `json:"from"`
	Hex    string `json:"hex"`
	Reason string `json:"reason"`
}

type goldenFile struct {
	PreambleHex string          `json:"preambleHex"`
	Valid       []goldenFrame   `json:"valid"`
	Invalid     []goldenInvalid `json:"invalid"`
}

func readGolden(t *testing.T) goldenFile {
	t.Helper()
	var g goldenFile
	text, err := os.ReadFile(goldenPath)
	if err == nil {
		err = json.Unmarshal(text, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func sender(from string) Sender {
	if from == "client" {
		return FromClient
	}
	return FromAgent
}

func TestGoldenValid(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	g := readGolden(t)
	if !bytes.Equal(unhex(t, g.PreambleHex), Preamble) {
		t.Error("preamble differs")
	}
	for _, want := range g.Valid {
		var payload []byte
		if want.PayloadHex != nil {
			payload = unhex(t, *want.PayloadHex)
		}
		for _, f := range want.Fields {
			payload = AppendBytes(payload, f.Tag, unhex(t, f.Hex))
		}
		whole := unhex(t, want.FrameHex)
		h := Header{Type: Type(want.Type), Channel: want.Channel, Stream: want.Stream, Sequence: want.Sequence,
			Length: uint32(len(payload))}
		if got := Append(nil, h, payload); !bytes.Equal(got, whole) {
			t.Errorf("%s: encodes to %x", want.Name, got)
		}
		for _, chunk := range []int{1, 7, len(whole)} {
			seen := 0
			err := feed(&Decoder{From: sender(want.From)}, whole, chunk, func(got Header, p []byte) error {
				seen++
				if got != h || !bytes.Equal(p, payload) {
					t.Errorf("%s in pieces of %d: got %+v %x", want.Name, chunk, got, p)
				}
				return nil
			})
			if err != nil || seen != 1 {
				t.Errorf("%s in pieces of %d: %d frames, %v", want.Name, chunk, seen, err)
			}
		}
	}
}

func TestGoldenInvalid(t *testing.T) {
	for _, bad := range readGolden(t).Invalid {
		seen := 0
		err := feed(&Decoder{From: sender(bad.From)}, unhex(t, bad.Hex), 5, func(h Header, p []byte) error {
			seen++
			if h.Type == Data || h.Type == Credit {
				return nil
			}
			return Each(p, func(Field) error { return nil })
		})
		if bad.Reason == "truncated" {
			if err != nil || seen != 0 {
				t.Errorf("%s: %d frames, %v; want it to wait for more", bad.Name, seen, err)
			}
		} else if err == nil || err.Error() != reasons[bad.Reason].Error() {
			t.Errorf("%s: got %v, want %v", bad.Name, err, bad.Reason)
		}
	}
}

// reasons are the values of "reason" in the golden file; "truncated" is no error until the stream ends.
var reasons = map[string]error{
	"magic": ErrMagic, "type": ErrType, "direction": ErrDirection, "length": ErrLength,
	"stream": ErrStream, "channel": ErrChannel, "field": ErrField, "truncated": errors.New("truncated"),
}

func feed(d *Decoder, p []byte, chunk int, handle func(Header, []byte) error) error {
	for len(p) > 0 {
		n := chunk
		if n > len(p) {
			n = len(p)
		}
		if err := d.Feed(p[:n], handle); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}
