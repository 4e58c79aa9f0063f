package privilege

import "testing"

func TestParse(t *testing.T) {
	if id, err := Parse("65534:65533"); err != nil || id != (Identity{65534, 65533}) {
		t.Errorf("%v %v", id, err)
	}
	for _, text := range []string{"", "1", "1:", ":1", "0:1", "1:0", "-1:1", "1:1:1", "1:1x", "a:b", "99999999999999999999:1"} {
		if id, err := Parse(text); err == nil {
			t.Errorf("%q was taken for %v", text, id)
		}
	}
}

func TestHeldBeyond(t *testing.T) {
	const some = "Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000002\nCapEff:\t0000000000000002\n" +
		"CapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\n"
	if name := heldBeyond(1<<DACOverride, []byte(some)); name != "" {
		t.Errorf("only what is kept: %s", name)
	}
	if name := heldBeyond(0, []byte(some)); name != "CapPrm:" {
		t.Errorf("one too many: %q", name)
	}
	for _, field := range capabilityFields {
		text := []byte("Name:\tx\n" + field + "\t0000000000001000\n")
		if name := heldBeyond(1<<DACOverride, text); name != field {
			t.Errorf("%s: %q", field, name)
		}
	}
}
