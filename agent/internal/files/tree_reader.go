package files

import (
	"encoding/binary"
	"io"

	"smolvm.dev/agent/internal/frame"
)

// treeReader takes a tree apart. What it gives is checked; whether the parts fit together is not its business.
type treeReader struct {
	source     io.Reader
	buffer     *[inputSize]byte
	start, end int
	records    uint64
}

// treeRecord is one record but for content. Its bytes are valid until the next call of the reader.
type treeRecord struct {
	kind         uint8
	path, target []byte
	mode         uint32
	mtime        int64
	size         int64
	count        uint64
	offset       int64 // of content
	length       int   // of content, which comes next
}

// need makes sure that n bytes are there. A tree that ends before breaks the rules.
func (t *treeReader) need(n int) error {
	for t.end-t.start < n {
		if t.start > 0 {
			t.end = copy(t.buffer[:], t.buffer[t.start:t.end])
			t.start = 0
		}
		read, err := t.source.Read(t.buffer[t.end:])
		t.end += read
		if err == io.EOF && t.end < n {
			return errTree
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

// next reads a record. After one of content, content must be called until all of it is taken.
func (t *treeReader) next(r *treeRecord) error {
	if err := t.need(recordHead); err != nil {
		return err
	}
	*r = treeRecord{kind: t.buffer[t.start]}
	length := binary.BigEndian.Uint32(t.buffer[t.start+1:])
	t.start += recordHead
	t.records++
	if r.kind == recordContent {
		if length <= contentHead || length > contentHead+maxContent {
			return errTree
		}
		if err := t.need(contentHead); err != nil {
			return err
		}
		offset := binary.BigEndian.Uint64(t.buffer[t.start:])
		t.start += contentHead
		r.offset, r.length = int64(offset), int(length-contentHead)
		if offset > maxFileOffset-maxContent {
			return errTree
		}
		return nil
	}
	if length > maxFields {
		return errTree
	}
	if err := t.need(int(length)); err != nil {
		return err
	}
	payload := t.buffer[t.start : t.start+int(length)]
	t.start += int(length)
	return r.parse(payload)
}

// content returns the next bytes of a record of content, at most n.
func (t *treeReader) content(n int) ([]byte, error) {
	if err := t.need(1); err != nil {
		return nil, err
	}
	if n > t.end-t.start {
		n = t.end - t.start
	}
	piece := t.buffer[t.start : t.start+n]
	t.start += n
	return piece, nil
}

// finish makes sure that nothing comes after the last record.
func (t *treeReader) finish(r *treeRecord) error {
	if r.count != t.records-1 || t.start < t.end {
		return errTree
	}
	for {
		n, err := t.source.Read(t.buffer[:])
		switch {
		case n > 0:
			return errTree
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// fieldsOf has the fields that each kind of record must have, as bits by tag.
var fieldsOf = [...]uint16{
	recordDirectory: 1<<treePath | 1<<treeMode | 1<<treeMtime,
	recordFile:      1<<treePath | 1<<treeMode | 1<<treeMtime | 1<<treeSize,
	recordLink:      1<<treePath | 1<<treeMtime | 1<<treeTarget,
	recordLeftOut:   1<<treePath | 1<<treeType,
	recordEnd:       1 << treeRecords,
}

func (r *treeRecord) parse(payload []byte) error {
	if int(r.kind) >= len(fieldsOf) || fieldsOf[r.kind] == 0 {
		return errTree
	}
	seen := uint16(0)
	err := frame.Each(payload, func(f frame.Field) (err error) {
		number := uint64(0)
		switch f.Tag {
		case treePath:
			r.path = f.Value
		case treeMode:
			r.mode, err = f.U32()
		case treeMtime:
			number, err = f.U64()
			r.mtime = int64(number)
		case treeSize:
			number, err = f.U64()
			r.size = int64(number)
		case treeTarget:
			r.target = f.Value
		case treeType:
			if len(f.Value) != 1 {
				return errTree
			}
		case treeRecords:
			r.count, err = f.U64()
		default:
			return nil
		}
		seen |= 1 << f.Tag
		return err
	})
	switch {
	case err != nil, seen&fieldsOf[r.kind] != fieldsOf[r.kind], r.mode > permissionBits, r.size < 0:
		return errTree
	case len(r.path) > 0 && !isTreePath(r.path):
		return errTree
	case r.kind == recordLink && !staysInside(r.path, r.target):
		return errTree
	}
	return nil
}
