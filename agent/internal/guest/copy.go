package guest

import (
	"encoding/hex"
	"strconv"
	"syscall"
	"unsafe"
)

// generation counts how often this machine turned out to be a copy. Programs watch its file to drop what two copies
// must not share: a user-space generator's state, a lease, a session.
type generation struct {
	number uint64
	file   *heldFile
}

// text has a fixed width, so that no write ever changes the length of the file.
func (g *generation) text() string {
	digits := strconv.FormatUint(g.number, 10)
	return zeros[len(digits):] + digits + "\n"
}

// zeros has as many digits as the greatest number.
const zeros = "00000000000000000000"

func (g *generation) raise() error {
	g.number++
	if g.file == nil {
		return errNoMemoryFile
	}
	return g.file.overwrite(g.text())
}

// renewBootID gives this copy a boot of its own. The kernel's generator has been reseeded before.
func (i *Identity) renewBootID() error {
	id, err := newUUID()
	if err != nil {
		return err
	}
	i.bootIDText = id
	if i.bootID == nil {
		return errNoMemoryFile
	}
	return i.bootID.write(id + "\n")
}

// newUUID makes a random UUID (RFC 9562, version 4). Package crypto/rand may buffer; the kernel does not.
func newUUID() (string, error) {
	var b [16]byte
	if err := kernelRandom(b[:]); err != nil {
		return "", err
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	text := hex.EncodeToString(b[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:], nil
}

func kernelRandom(p []byte) error {
	for len(p) > 0 {
		n, _, errno := syscall.Syscall(sysGetrandom, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return errno
		}
		p = p[n:]
	}
	return nil
}
