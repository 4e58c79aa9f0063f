package hostfs

import (
	"sync"
	"sync/atomic"
	"syscall"

	"smolvm.dev/agent/internal/fuse"
)

// Budget bounds how much of something all mounts of a process have together.
type Budget struct{ left int64 }

// NewBudget allows n.
func NewBudget(n int) *Budget { return &Budget{left: int64(n)} }

func (b *Budget) take(n int64) bool {
	if atomic.AddInt64(&b.left, -n) >= 0 {
		return true
	}
	b.give(n)
	return false
}

func (b *Budget) give(n int64) { atomic.AddInt64(&b.left, n) }

const (
	// nodeBytes is what a node costs without its name, in bytes: itself (112), its stamp (48), and its places in two maps
	// that have just grown (some 110; with the maps of Go 1.19 some 190). TestTheChargeCoversTheMemory measures it.
	nodeBytes = 352
	// nameUnit: the allocator rounds up.
	nameUnit = 16
)

// costOf is what a node with this name costs, in bytes. Up to 255 bytes of name the allocator adds at most an eighth.
func costOf(name string) int64 {
	n := len(name) + len(name)/8 + nameUnit
	return nodeBytes + int64(n)
}

// node is a name that the guest knows: a place below the root, not an open file. It is opened by its path each time
// that it is needed, so that whatever happens to the directory meanwhile, nothing outside of it is ever reached.
type node struct {
	id      uint64
	parent  *node  // nil for the root
	name    string // in the parent
	kind    uint32 // S_IFMT
	device  uint64
	inode   uint64
	lookups uint64 // entries that the guest has and has not forgotten
	below   int    // nodes whose parent this is
	gone    bool   // the guest has removed the name, or another file has taken it
	open    []*handle
	seen    *stamp // of the last open: few are ever opened
}

// stamp tells whether a file has changed.
type stamp struct {
	inode, size  uint64
	mtime, ctime syscall.Timespec
}

type place struct {
	parent *node
	name   string
}

// tree is all nodes of a root.
type tree struct {
	// names is held for reading while a path is made and used, for writing while the guest moves or removes a name.
	names  sync.RWMutex
	memory *Budget

	mu     sync.Mutex // what is below
	byID   map[uint64]*node
	byName map[place]*node
	last   uint64
}

func newTree(memory *Budget, device, inode uint64) *tree {
	root := &node{id: fuse.RootID, kind: syscall.S_IFDIR, device: device, inode: inode, lookups: 1}
	return &tree{memory: memory, last: fuse.RootID, byID: map[uint64]*node{fuse.RootID: root},
		byName: make(map[place]*node)}
}

func (t *tree) find(id uint64) (*node, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byID[id]; n != nil {
		return n, nil
	}
	return nil, syscall.ESTALE
}

// path is relative to the root. The caller holds names.
func (t *tree) path(n *node) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	length := 0
	for at := n; at.parent != nil; at = at.parent {
		if at.gone {
			return "", syscall.ESTALE
		}
		if length += len(at.name) + 1; length > fuse.MaxPath {
			return "", syscall.ENAMETOOLONG
		}
	}
	if length == 0 {
		return ".", nil
	}
	p := make([]byte, length-1)
	end := len(p)
	for at := n; at.parent != nil; at = at.parent {
		copy(p[end-len(at.name):], at.name)
		if end -= len(at.name) + 1; end >= 0 {
			p[end] = '/'
		}
	}
	return string(p), nil
}

// meet counts one more entry for a name that was just looked at. The caller holds names. A name that has come to mean
// another file stays the same node if `follow` says so and it is of the same kind.
func (t *tree) meet(parent *node, name string, stat *syscall.Stat_t, follow bool) (*node, error) {
	kind := stat.Mode & syscall.S_IFMT
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byName[place{parent, name}]
	if n != nil {
		same := n.inode == stat.Ino && n.device == stat.Dev
		if n.kind == kind && (same || follow) {
			n.inode, n.device = stat.Ino, stat.Dev
			n.lookups++
			return n, nil
		}
		t.lose(n)
	}
	if !t.memory.take(costOf(name)) {
		return nil, syscall.ENOMEM
	}
	t.last++
	n = &node{id: t.last, parent: parent, name: name, kind: kind, device: stat.Dev, inode: stat.Ino, lookups: 1}
	parent.below++
	t.byID[n.id] = n
	t.byName[place{parent, name}] = n
	return n, nil
}

// lose says that a node has no name any more. It stays until the guest forgets it. The caller holds mu.
func (t *tree) lose(n *node) {
	n.gone = true
	if at := (place{n.parent, n.name}); t.byName[at] == n {
		delete(t.byName, at)
	}
}

func (t *tree) forget(id, count uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byID[id]
	if n == nil || n.parent == nil {
		return
	}
	if count > n.lookups {
		count = n.lookups
	}
	n.lookups -= count
	t.drop(n)
}

// drop removes a node that nobody needs, and then perhaps those above it. The caller holds mu.
func (t *tree) drop(n *node) {
	// A guest can forget a node that it still uses, so one may come here again that is no longer in the table.
	for n.parent != nil && n.lookups == 0 && n.below == 0 && len(n.open) == 0 && t.byID[n.id] == n {
		t.lose(n)
		delete(t.byID, n.id)
		t.memory.give(costOf(n.name))
		n.parent.below--
		n = n.parent
	}
}

// remove says that the guest has removed a name.
func (t *tree) remove(parent *node, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byName[place{parent, name}]; n != nil {
		t.lose(n)
	}
}

// move says that the guest has given a name to another place; what was there has lost it, or has the old one.
func (t *tree) move(from *node, name string, to *node, newName string, exchanged bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	moved, other := t.byName[place{from, name}], t.byName[place{to, newName}]
	if moved == other {
		return // onto itself, or onto another name of the same file: nothing has happened
	}
	if moved != nil {
		t.lose(moved)
	}
	if other != nil {
		t.lose(other)
	}
	if moved != nil {
		t.rename(moved, to, newName)
	}
	if other != nil && exchanged {
		t.rename(other, from, name)
	}
}

// rename gives a node that has lost its name another one. What a longer one costs, the caller has reserved.
func (t *tree) rename(n, parent *node, name string) {
	for at := parent; at != nil; at = at.parent {
		if at == n {
			// Only when somebody moved directories on the host in this very moment: a tree must not become a ring.
			return
		}
	}
	t.memory.give(costOf(n.name) - costOf(name))
	old := n.parent
	parent.below++
	old.below--
	n.parent, n.name, n.gone = parent, name, false
	t.byName[place{parent, name}] = n
	t.drop(old)
}
