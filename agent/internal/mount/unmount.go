package mount

import (
	"os"
	"strings"
	"syscall"
)

const (
	mntForce  = 1
	mntDetach = 2
	oPath     = 0x200000
	// maxUnmounts bounds how many mounts of one source are taken away: root can make any number of them.
	maxUnmounts = 64
	mountinfo   = "/proc/self/mountinfo"
)

// unmountAll takes away what an earlier mount has left, also where it was moved, and also where it is dead or in use.
func unmountAll(source string) {
	for i := 0; i < maxUnmounts; i++ {
		text, err := os.ReadFile(mountinfo)
		if err != nil {
			return
		}
		point := lastPoint(string(text), source)
		if point == "" || syscall.Unmount(point, mntDetach) != nil {
			return
		}
	}
}

// lastPoint finds the place of the youngest mount of a source in the text of mountinfo (proc(5)).
func lastPoint(text, source string) string {
	lines := strings.Split(text, "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		mount, super, ok := strings.Cut(lines[i], " - ")
		words, superWords := strings.Fields(mount), strings.Fields(super)
		if ok && len(words) > 4 && len(superWords) > 1 && superWords[1] == source {
			return unescape(words[4])
		}
	}
	return ""
}

// unescape undoes the octal escapes of mountinfo.
func unescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) && octal(text[i+1]) && octal(text[i+2]) && octal(text[i+3]) {
			b.WriteByte((text[i+1]-'0')<<6 | (text[i+2]-'0')<<3 | (text[i+3] - '0'))
			i += 3
			continue
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

func octal(c byte) bool { return c >= '0' && c <= '7' }
