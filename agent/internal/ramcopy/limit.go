package ramcopy

import (
	"os"
	"strconv"
	"strings"
)

const (
	// largestBuffer bounds how much memory a copy may hold, in bytes.
	largestBuffer = 2 << 30
	// smallestBuffer is what a copy holds on a host that says nothing of its memory, in bytes.
	smallestBuffer = 64 << 20
)

// DefaultBufferLimit is half of the memory that the host has to spare, up to 2 GiB.
func DefaultBufferLimit() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return smallestBuffer
	}
	return bufferLimit(string(text))
}

func bufferLimit(meminfo string) int64 {
	for _, line := range strings.Split(meminfo, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "MemAvailable:" {
			continue
		}
		if kib, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
			limit := kib << 10 / 2 / chunkSize * chunkSize
			return min64(largestBuffer, limit)
		}
	}
	return smallestBuffer
}
