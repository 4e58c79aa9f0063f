package main

import "testing"

func TestParse(t *testing.T) {
	o, ok := parse([]string{"--dir", "/d", "--limit", "65536", "console=3", "vmm.err=4"})
	if !ok || o.dir != "/d" || o.limit != 65536 || len(o.inputs) != 2 || o.inputs[1] != (input{"vmm.err", 4}) {
		t.Errorf("%+v %v", o, ok)
	}
	for _, bad := range [][]string{
		{}, {"--dir"}, {"--dir", "/d", "--limit", "1", "a=3"}, {"--dir", "/d", "--limit", "65536"},
		{"--dir", "/d", "--limit", "65536", "../a=3"}, {"--dir", "/d", "--limit", "65536", "a=-1"},
		{"--dir", "/d", "--limit", "65536", ".hidden=3"}, {"--dir", "/d", "--limit", "65536", "a"},
	} {
		if _, ok := parse(bad); ok {
			t.Errorf("%q passes", bad)
		}
	}
}
