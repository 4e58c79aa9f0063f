package hostfs

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// heap is what is in use, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

// What a guest makes the program remember must not cost more than was taken of the budget for it.
func TestTheChargeCoversTheMemory(t *testing.T) {
	for _, length := range []int{6, 17, 40, 100, 255} {
		// A map is at its largest just after it has grown.
		for _, budget := range []int{5 << 20, 7 << 20, 10 << 20, 13 << 20, 20 << 20} {
			memory := NewBudget(budget)
			before := heap()
			tree := newTree(memory, 1, 1)
			root, made := tree.byID[rootNode], 0
			for {
				name := fmt.Sprintf("%06x", made) + strings.Repeat("x", length-6)
				n, err := tree.meet(root, name, &syscall.Stat_t{Mode: syscall.S_IFREG, Ino: 5, Dev: 1}, false)
				if err != nil {
					if err != syscall.ENOMEM {
						t.Fatal(err)
					}
					break
				}
				n.seen = &stamp{} // as if it had been opened
				made++
			}
			cost := heap() - before
			t.Logf("%d names of %d bytes: %d each, charged %d", made, length, cost/int64(made), budget/made)
			if cost > int64(budget) {
				t.Errorf("%d names of %d bytes cost %d bytes, more than %d", made, length, cost, budget)
			}
			runtime.KeepAlive(tree)
		}
	}
}

// A node that was opened very often keeps no room for that.
func TestOpeningLeavesNothing(t *testing.T) {
	tree, files := newTree(NewBudget(10_000), 1, 1), newHandles(NewBudget(1000))
	n, err := tree.meet(tree.byID[rootNode], "file", &syscall.Stat_t{Mode: syscall.S_IFREG, Ino: 5, Dev: 1}, false)
	if err != nil {
		t.Fatal(err)
	}
	var ids []uint64
	for i := 0; i < 1000; i++ {
		id, err := files.add(tree, &handle{node: n, fd: -1})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for left := 999; left >= 0; left-- {
		files.release(tree, ids[999-left], false)
		if len(n.open) != left || left <= 10 && cap(n.open) > 64 {
			t.Fatalf("%d of %d are kept, with room for %d", len(n.open), left, cap(n.open))
		}
		for _, h := range n.open {
			if h == nil || h.uses != 1 {
				t.Fatal("another one was dropped")
			}
		}
	}
	if n.open != nil {
		t.Error("the last one left something")
	}
}

func TestLongNamesCostMore(t *testing.T) {
	dir, _ := share(t)
	k := start(t, dir, true)
	sub := k.lookup(rootNode, "sub")
	var nodes []uint64
	for {
		name := fmt.Sprintf("%0255d", len(nodes))
		errno, p := k.ask(9, sub, mkdirIn(0o755, name))
		if errno != 0 {
			if errno != syscall.ENOMEM {
				t.Error(errno)
			}
			break
		}
		if nodes = append(nodes, le64(p)); len(nodes) == 1000 {
			t.Fatal("as many as with short names")
		}
	}
	// One that is forgotten makes room for one.
	k.send(2, nodes[0], u64s(1))
	k.must(1, sub, text(fmt.Sprintf("%0255d", 1))) // is known already
	k.must(1, sub, text(fmt.Sprintf("%0255d", 0)))
	k.refused(9, sub, mkdirIn(0o755, strings.Repeat("n", 255)), syscall.ENOMEM)
}

// A name that gets longer by being changed costs as much as one that was long at once.
func TestRenamingCosts(t *testing.T) {
	dir, _ := share(t)
	k := start(t, dir, true)
	sub := k.lookup(rootNode, "sub")
	long := strings.Repeat("n", 255)
	node := le64(k.must(9, sub, mkdirIn(0o755, "a")))
	before := k.memory.left
	k.must(12, sub, renameIn(sub, "a", long))
	if got, want := before-k.memory.left, costOf(long)-costOf("a"); got != want {
		t.Errorf("%d bytes for the longer name, want %d", got, want)
	}
	k.must(12, sub, renameIn(sub, long, "a"))
	if k.memory.left != before {
		t.Errorf("%d bytes were lost", before-k.memory.left)
	}
	if !k.memory.take(before - 10) {
		t.Fatal("more is gone than was said")
	}
	k.refused(12, sub, renameIn(sub, "a", long), syscall.ENOMEM)
	k.must(1, sub, text("a")) // nothing has happened
	k.memory.give(before - 10)
	k.must(12, sub, renameIn(sub, "a", long))
	k.send(2, node, u64s(2))
	k.send(2, sub, u64s(1))
	k.ask(1, rootNode, text("nothing"))
	if k.memory.left != testBytes {
		t.Errorf("%d bytes are left of %d, although all was forgotten", k.memory.left, testBytes)
	}
}

// A guest may have many directories open whose reading it has begun.
func TestListingsCost(t *testing.T) {
	dir, _ := share(t)
	k := start(t, dir, true)
	sub := k.lookup(rootNode, "sub")
	before := k.memory.left
	var lists []uint64
	for i := 0; i < 20; i++ {
		list := le64(k.must(27, sub, u32s(0, 0)))
		lists = append(lists, list)
		errno, _ := k.ask(28, sub, readIn(list, 0, 32)) // one entry: the others wait
		if paid := int64(i+1) * listBytes; paid > before {
			if errno != syscall.ENOMEM {
				t.Errorf("%d listings: %v", i+1, errno)
			}
		} else if errno != 0 || k.memory.left != before-paid {
			t.Errorf("%d listings: %v, %d bytes are left", i+1, errno, k.memory.left)
		}
	}
	// Read to its end it costs nothing, though it is open.
	k.readAll(sub, lists[0])
	left := k.memory.left
	k.must(29, sub, append(u64s(lists[0]), make([]byte, 16)...))
	if k.memory.left != left {
		t.Error("given back twice")
	}
	for _, list := range lists[1:] {
		k.must(29, sub, append(u64s(list), make([]byte, 16)...))
	}
	if k.memory.left != before {
		t.Errorf("%d bytes are left of %d", k.memory.left, before)
	}
	k.send(2, sub, u64s(math.MaxUint64))
}

// readAll reads a directory to its end, without looking at what is in it.
func (k *kernel) readAll(node, list uint64) {
	k.t.Helper()
	for offset := uint64(0); ; {
		p := k.must(28, node, readIn(list, offset, 4096))
		if len(p) == 0 {
			return
		}
		for len(p) > 0 {
			offset = le64(p[8:])
			p = p[(24+int(le32(p[16:]))+7)&^7:]
		}
	}
}
