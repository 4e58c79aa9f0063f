package main

import (
	"strings"
	"testing"
)

const good = "-socket vmm.sock -control control.sock -mac 02:00:00:00:00:05 -address 10.187.0.16/18 -gateway 10.187.0.2 " +
	"-dns 10.187.0.3 -policy-fd 3 -denials-fd 4 -ready-fd 5 -rate-limit-mbps 2.5 -mtu 1500 -runas 65534:65534"

func TestOptions(t *testing.T) {
	o, err := parse(strings.Fields(good + " -- passt -4 -t none"))
	if err != nil {
		t.Fatal(err)
	}
	if o.socket != "vmm.sock" || o.control != "control.sock" || o.policyFd != 3 || o.denialsFd != 4 || o.readyFd != 5 ||
		o.config.RateLimit != 312_500 || o.config.MTU != 1500 || o.config.Network.String() != "10.187.0.0/18" ||
		o.config.Address.String() != "10.187.0.16" || o.config.DNS.String() != "10.187.0.3" ||
		strings.Join(o.config.Passt, " ") != "passt -4 -t none" {
		t.Errorf("%+v", o)
	}
	if o, err := parse([]string{"-probe-names"}); err != nil || !o.probe {
		t.Errorf("%+v %v", o, err)
	}
}

func TestBadOptions(t *testing.T) {
	replace := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not there", old)
		}
		return strings.Replace(good, old, new, 1) + " -- passt"
	}
	for name, line := range map[string]string{
		"nothing": "", "no passt": good, "long MAC": replace(":05", ":05:06:07"), "IPv6": replace("10.187.0.16/18", "fd00::1/64"),
		"no network": replace("10.187.0.16/18", "10.187.0.16"), "gateway": replace("10.187.0.2", "here"),
		"no policy": replace("-policy-fd 3", ""), "policy on stdin": replace("-policy-fd 3", "-policy-fd 0"),
		"one descriptor for two": replace("-ready-fd 5", "-ready-fd 3"), "denials on stderr": replace("-denials-fd 4", "-denials-fd 2"),
		"negative rate": replace("2.5", "-1"), "no rate": replace("2.5", "NaN"), "no end of rate": replace("2.5", "Inf"),
		"small MTU": replace("1500", "575"), "large MTU": replace("1500", "65521"),
		"root": replace("65534:65534", "0:0"), "word": replace("-dns", "-dsn"), "no control": replace("-control control.sock", ""),
	} {
		if _, err := parse(strings.Fields(line)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
