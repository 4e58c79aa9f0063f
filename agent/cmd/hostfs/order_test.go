package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestReadOrder(t *testing.T) {
	got, err := readOrder(strings.NewReader("ro\x00/host/a b\x00/a\x00rw\x00/b\x00/c\x00end\x00"))
	want := []mount{{false, "/host/a b", "/a"}, {true, "/b", "/c"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v %v", got, err)
	}
	for _, text := range []string{"", "end\x00", "ro\x00/a\x00/b\x00", "ro\x00/a\x00/b\x00end", "ro\x00/a\x00end\x00",
		"xx\x00/a\x00/b\x00end\x00", "ro\x00/a\x00/b\x00rw\x00end\x00"} {
		if got, err := readOrder(strings.NewReader(text)); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}
