package files

import (
	"bytes"
	"sync"
)

// Types of the records of a tree.
const (
	recordDirectory = 1
	recordFile      = 2
	recordContent   = 3
	recordLink      = 4
	recordLeftOut   = 5
	recordEnd       = 6
)

// Tags of a record's fields.
const (
	treePath    = 1
	treeMode    = 2
	treeMtime   = 3
	treeSize    = 4
	treeTarget  = 5
	treeType    = 6
	treeRecords = 7
)

// Sizes in bytes.
const (
	recordHead  = 5 // type and length
	contentHead = 8 // offset
	maxContent  = 262144
	// maxFields is the longest record but for content that is taken: two paths, and room for fields to come.
	maxFields = 16 << 10
	maxName   = 255
	// permissionBits are those of a mode that are copied.
	permissionBits = 0777
	// inputSize is what is read at once from an exchange; a multiple of a page.
	inputSize = 64 << 10
)

var inputs = sync.Pool{New: func() interface{} { return new([inputSize]byte) }}

// isTreePath tells whether a path may be in a tree. That of the root is not meant.
func isTreePath(path []byte) bool {
	if len(path) > maxPath || bytes.IndexByte(path, 0) >= 0 {
		return false
	}
	for {
		end := bytes.IndexByte(path, '/')
		name := path
		if end >= 0 {
			name = path[:end]
		}
		if len(name) == 0 || len(name) > maxName || isDots(name) {
			return false
		}
		if end < 0 {
			return true
		}
		path = path[end+1:]
	}
}

func isDots(name []byte) bool {
	return len(name) == 1 && name[0] == '.' || len(name) == 2 && name[0] == '.' && name[1] == '.'
}

// staysInside tells whether a link with this path may have this target: relative, with `..` only at its beginning and
// only as often as the link has directories of the tree above it.
func staysInside(path, target []byte) bool {
	if len(target) == 0 || len(target) > maxPath || target[0] == '/' || bytes.IndexByte(target, 0) >= 0 {
		return false
	}
	up, above, named := 0, bytes.Count(path, []byte{'/'}), false
	for len(target) > 0 {
		name := target
		if end := bytes.IndexByte(target, '/'); end >= 0 {
			name, target = target[:end], target[end+1:]
		} else {
			target = nil
		}
		switch {
		case len(name) == 2 && isDots(name):
			if up++; named || up > above {
				return false
			}
		case len(name) > 0:
			named = true
		}
	}
	return true
}
