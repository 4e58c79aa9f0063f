package ramcopy

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
)

func TestErrorsOfAccess(t *testing.T) {
	for cause, want := range map[error]error{
		syscall.EPERM: ErrForbidden, syscall.EACCES: ErrForbidden, syscall.ENOENT: ErrSource, syscall.ESRCH: ErrSource,
	} {
		if got := accessError(&os.PathError{Op: "open", Path: "x", Err: cause}); !errors.Is(got, want) {
			t.Errorf("%v becomes %v", cause, got)
		}
	}
}

func TestMappings(t *testing.T) {
	m, ok := parseMapping("7f00a000-7f00b000 rw-p 00002000 fe:00 1234                       /a b/memory")
	if want := (mapping{0x7f00a000, 0x7f00b000, true, true, 0x2000, 1234, "/a b/memory"}); !ok || m != want {
		t.Errorf("%+v %v", m, ok)
	}
	for _, bad := range []string{"", "x", "1-2 rw-p", "g-2 rw-p 0 0 0", "1 rw-p 0 0:0 0", "1-2 rwp 0 0:0 0", "1-2 rw-p z 0:0 0", "1-2 rw-p 0 0:0 z"} {
		if m, ok := parseMapping(bad); ok {
			t.Errorf("%q is %+v", bad, m)
		}
	}
}

func TestWithout(t *testing.T) {
	long := int64(shortestGap)
	gaps := []run{{0, 5}, {10, long}, {200, 3}, {300, long}, {500, 2 * long}}
	for _, c := range []struct {
		row       run
		want      []run
		remaining int
	}{
		{run{0, 10}, []run{{0, 10}}, 4},
		{run{10, 100}, []run{{10 + long, 100 - long}}, 3},
		{run{0, 250}, []run{{0, 10}, {10 + long, 240 - long}}, 2},
		{run{310, 10}, nil, 2},
		{run{520, 10}, nil, 1},
		{run{490, 20}, []run{{490, 10}}, 1},
		{run{900, 10}, []run{{900, 10}}, 0},
	} {
		rest, remaining := without(c.row, gaps)
		if fmt.Sprint(rest) != fmt.Sprint(c.want) || len(remaining) != c.remaining {
			t.Errorf("%v: %v, %v", c.row, rest, remaining)
		}
	}
}

func TestBufferLimit(t *testing.T) {
	for text, want := range map[string]int64{
		"MemAvailable: 1048576 kB\n":                512 << 20,
		"MemTotal: 1 kB\nMemAvailable: 99999999 kB": largestBuffer,
		"MemAvailable: 0 kB":                        0,
		"MemAvailable: x kB":                        smallestBuffer,
		"":                                          smallestBuffer,
	} {
		if got := bufferLimit(text); got != want {
			t.Errorf("%q: %d, not %d", text, got, want)
		}
	}
}
