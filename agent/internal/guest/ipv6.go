package guest

import (
	"os"
	"strings"
)

const ipv6Settings = "/proc/sys/net/ipv6/conf/"

// SwitchIPv6Off does so for every interface but the loopback. Nobody routes IPv6 for a guest, and an address that the
// kernel makes by itself from the device's would be the same in all copies of a machine.
func SwitchIPv6Off() {
	dir, err := os.Open(ipv6Settings)
	if err != nil {
		return // a kernel without IPv6
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if name != "lo" && name != "all" {
			switchIPv6(name, "1")
		}
	}
}

func switchIPv6(name, off string) {
	_ = os.WriteFile(ipv6Settings+name+"/disable_ipv6", []byte(off), 0o644)
}

// needsIPv6 reports addresses for which it has to be on.
func (s *settings) needsIPv6() bool {
	for _, address := range s.addresses {
		if strings.Contains(address.String(), ":") {
			return true
		}
	}
	return false
}
