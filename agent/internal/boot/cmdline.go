// Package boot brings the VM from the initramfs to a mounted root, and ends it.
package boot

import (
	"os"
	"strings"
)

// Params is the kernel command line.
type Params []string

// ReadParams reads the command line of the running kernel.
func ReadParams() Params {
	text, _ := os.ReadFile("/proc/cmdline")
	return ParseParams(string(text))
}

// ParseParams splits a command line; a value in double quotes may hold blanks.
func ParseParams(text string) Params {
	quoted := false
	words := strings.FieldsFunc(text, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\n' || r == '\t')
	})
	for i, word := range words {
		words[i] = strings.Replace(word, "\"", "", -1)
	}
	return words
}

// Get returns the last value of a parameter, as the kernel does.
func (p Params) Get(name string) string {
	value := ""
	for _, word := range p {
		if len(word) > len(name) && word[len(name)] == '=' && word[:len(name)] == name {
			value = word[len(name)+1:]
		}
	}
	return value
}

// ForModule returns the parameters meant for a module, in the form that finit_module takes. QEMU's microvm
// machine announces its devices in this way: virtio_mmio.device=SIZE@ADDRESS:IRQ.
func (p Params) ForModule(module string) string {
	var own []string
	for _, word := range p {
		dot := strings.IndexByte(word, '.')
		if dot > 0 && sameModule(word[:dot], module) {
			own = append(own, word[dot+1:])
		}
	}
	return strings.Join(own, " ")
}

// sameModule: the kernel does not tell - from _ in module names.
func sameModule(a, b string) bool {
	return strings.Replace(a, "-", "_", -1) == strings.Replace(b, "-", "_", -1)
}
