package sparsehash

import (
	"math/rand"
	"os"
	"path/filepath"
	"testing"
)

// write makes a file of which only the pieces are no hole.
func write(t *testing.T, size int64, pieces map[int64][]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for at, data := range pieces {
		if _, err := file.WriteAt(data, at); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func overwrite(t *testing.T, path string, at int64, data []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(data, at); err != nil {
		t.Fatal(err)
	}
}

func sum(t *testing.T, path string) string {
	t.Helper()
	digest, err := Sum(path)
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func TestHolesAndZerosAreTheSame(t *testing.T) {
	data := make([]byte, 10_000)
	rand.New(rand.NewSource(1)).Read(data)
	const size = 40 << 20
	sparse := write(t, size, map[int64][]byte{3<<20 - 17: data, 39 << 20: data})
	zeros := write(t, size, map[int64][]byte{0: make([]byte, size)})
	for _, at := range []int64{3<<20 - 17, 39 << 20} {
		overwrite(t, zeros, at, data)
	}
	if sum(t, sparse) != sum(t, zeros) {
		t.Fatal("zeros written and zeros left out differ")
	}
}

func TestEveryChangeShows(t *testing.T) {
	data := []byte{1, 2, 3}
	base := sum(t, write(t, 8<<20, map[int64][]byte{5 << 20: data}))
	for name, path := range map[string]string{
		"a byte":   write(t, 8<<20, map[int64][]byte{5 << 20: {1, 2, 4}}),
		"place":    write(t, 8<<20, map[int64][]byte{5<<20 + 1: data}),
		"piece":    write(t, 8<<20, map[int64][]byte{6 << 20: data}),
		"size":     write(t, 8<<20+1, map[int64][]byte{5 << 20: data}),
		"one more": write(t, 8<<20, map[int64][]byte{5 << 20: data, 1: {1}}),
		"last":     write(t, 8<<20, map[int64][]byte{5 << 20: data, 8<<20 - 1: {1}}),
		"nothing":  write(t, 8<<20, nil),
	} {
		if sum(t, path) == base {
			t.Errorf("%s: same digest", name)
		}
	}
}

func TestEmptyAndMissing(t *testing.T) {
	if sum(t, write(t, 0, nil)) == sum(t, write(t, 1, nil)) {
		t.Fatal("size does not count")
	}
	if _, err := Sum(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Fatal("no error")
	}
}

func BenchmarkSum(b *testing.B) {
	path := filepath.Join(b.TempDir(), "file")
	data := make([]byte, 200<<20)
	rand.New(rand.NewSource(1)).Read(data)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.Fatal(err)
	}
	if err := os.Truncate(path, 512<<20); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		if _, err := Sum(path); err != nil {
			b.Fatal(err)
		}
	}
}
