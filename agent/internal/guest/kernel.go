package guest

import (
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// Requests of <linux/random.h> and of fs/ext4/ext4.h.
const (
	rndAddEntropy = 0x40085203 // RNDADDENTROPY
	rndReseed     = 0x5207     // RNDRESEEDCRNG
	ext4Resize    = 0x40086610 // EXT4_IOC_RESIZE_FS

	ext4Magic  = 0xef53
	sectorSize = 512 // the unit of /sys/dev/block/*/size, whatever the device's own
)

// addEntropy mixes bytes into the kernel's pool, credits them, and makes the generator use them at once: a clone
// must not draw the numbers that its template would have drawn. random is an open /dev/urandom.
func addEntropy(random int, entropy []byte) error {
	// struct rand_pool_info: entropy in bits and size in bytes, as native integers, then the bytes.
	info := make([]byte, 8+len(entropy))
	binary.LittleEndian.PutUint32(info, uint32(8*len(entropy))) // both our architectures are little-endian
	binary.LittleEndian.PutUint32(info[4:], uint32(len(entropy)))
	copy(info[8:], entropy)
	if err := ioctl(uintptr(random), rndAddEntropy, unsafe.Pointer(&info[0])); err != nil {
		return err
	}
	return ioctl(uintptr(random), rndReseed, nil)
}

// growRoot makes an ext4 root as large as its device.
func growRoot() error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs("/", &fs); err != nil {
		return err
	}
	if fs.Type != ext4Magic {
		return errors.New("not ext4")
	}
	device, err := deviceAt("/")
	if err != nil {
		return err
	}
	text, err := os.ReadFile("/sys/dev/block/" + device + "/size")
	if err != nil {
		return err
	}
	sectors, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return err
	}
	blocks := sectors * sectorSize / uint64(fs.Bsize)
	root, err := os.Open("/")
	if err != nil {
		return err
	}
	defer root.Close()
	return ioctl(root.Fd(), ext4Resize, unsafe.Pointer(&blocks))
}

// deviceAt returns the device of the file system at path as MAJOR:MINOR.
func deviceAt(path string) (string, error) {
	var stat syscall.Stat_t
	if err := syscall.Stat(path, &stat); err != nil {
		return "", err
	}
	major := (stat.Dev >> 8) & 0xfff
	minor := stat.Dev&0xff | (stat.Dev>>12)&0xfff00
	return strconv.FormatUint(major, 10) + ":" + strconv.FormatUint(minor, 10), nil
}

func ioctl(fd, request uintptr, argument unsafe.Pointer) error {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(argument))
	if errno != 0 {
		return errno
	}
	return nil
}
