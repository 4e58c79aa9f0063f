// Package sparsehash digests large files that are mostly holes, such as the memory of a machine: holes and zeros cost
// next to nothing, and all processors work on the rest.
package sparsehash

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
)

const (
	// pieceSize in bytes: small enough for two processors to share a small file, large enough to be worth a hand-over.
	pieceSize = 1 << 20
	seekData  = 3 // SEEK_DATA, lseek(2)
	seekHole  = 4 // SEEK_HOLE
)

// Sum returns the digest of a file: SHA-256 over the number and the SHA-256 of each piece of 1 MiB that has a byte
// other than zero, in order, and the file's size; numbers are 8 bytes, big-endian. Whether zeros are holes does not
// matter. In hexadecimal.
func Sum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	size := info.Size()
	pieces, err := piecesWithData(file, size)
	if err != nil {
		return "", err
	}
	sums := make([]*[sha256.Size]byte, len(pieces))
	if err := each(len(pieces), func(i int, buffer []byte) error {
		data, err := readPiece(file, pieces[i], size, buffer)
		if err == nil && !isZero(data) {
			sum := sha256.Sum256(data)
			sums[i] = &sum
		}
		return err
	}); err != nil {
		return "", err
	}
	whole := sha256.New()
	var number [8]byte
	for i, sum := range sums {
		if sum == nil {
			continue
		}
		binary.BigEndian.PutUint64(number[:], uint64(pieces[i]))
		whole.Write(number[:])
		whole.Write(sum[:])
	}
	binary.BigEndian.PutUint64(number[:], uint64(size))
	whole.Write(number[:])
	return hex.EncodeToString(whole.Sum(nil)), nil
}

// each calls work for 0 to count-1 on all processors, each with a buffer of its own, until one fails.
func each(count int, work func(i int, buffer []byte) error) error {
	var next int64
	var wait sync.WaitGroup
	var once sync.Once
	var failure error
	for w := 0; w < runtime.NumCPU(); w++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			buffer := make([]byte, pieceSize)
			for {
				i := int(atomic.AddInt64(&next, 1)) - 1
				if i >= count {
					return
				}
				if err := work(i, buffer); err != nil {
					once.Do(func() { failure = err })
					atomic.StoreInt64(&next, int64(count))
					return
				}
			}
		}()
	}
	wait.Wait()
	return failure
}

// piecesWithData lists the pieces that are not all hole, as far as the file system tells.
func piecesWithData(file *os.File, size int64) ([]int64, error) {
	var pieces []int64
	fd := int(file.Fd())
	for at := int64(0); at < size; {
		data, err := syscall.Seek(fd, at, seekData)
		if errors.Is(err, syscall.ENXIO) {
			break // only a hole up to the end
		}
		hole := size
		if err == nil {
			hole, err = syscall.Seek(fd, data, seekHole)
		}
		if errors.Is(err, syscall.EINVAL) {
			data, hole, err = at, size, nil // this file system does not tell
		}
		if err != nil {
			return nil, err
		}
		for piece := data / pieceSize; piece*pieceSize < hole; piece++ {
			if len(pieces) == 0 || pieces[len(pieces)-1] < piece {
				pieces = append(pieces, piece)
			}
		}
		at = hole
	}
	return pieces, nil
}

func readPiece(file *os.File, piece, size int64, buffer []byte) ([]byte, error) {
	at := piece * pieceSize
	want := size - at
	if want > pieceSize {
		want = pieceSize
	}
	n, err := io.ReadFull(io.NewSectionReader(file, at, want), buffer[:want])
	return buffer[:n], err
}

func isZero(data []byte) bool {
	for len(data) >= 8 {
		if binary.LittleEndian.Uint64(data) != 0 {
			return false
		}
		data = data[8:]
	}
	for _, b := range data {
		if b != 0 {
			return false
		}
	}
	return true
}
