// Package pieces is a queue of bytes in buffers of one size. They come from a pool when there is something to hold and go
// back to it, so hundreds of quiet connections hold nothing, and one that was busy once does not keep what it needed.
package pieces

import "sync"

// Size is how many bytes a piece holds: with the two numbers before them they are 32 KiB, and it is what the agent puts
// into one frame.
const Size = 32<<10 - 16

var pool = sync.Pool{New: func() interface{} { return new(Piece) }}

// Piece is some of the bytes of a queue.
type Piece struct {
	start, end int
	bytes      [Size]byte
}

// Bytes are valid until Release.
func (p *Piece) Bytes() []byte { return p.bytes[p.start:p.end] }

// Release gives the piece back; it must not be used any more.
func (p *Piece) Release() {
	p.start, p.end = 0, 0
	pool.Put(p)
}

// Queue holds bytes in order. The zero value is empty. It has no lock, and no limit: its user has both.
type Queue struct {
	pieces []*Piece // none is empty
	length int
}

// Len is how many bytes there are.
func (q *Queue) Len() int { return q.length }

// Append copies bytes to the end.
func (q *Queue) Append(p []byte) {
	q.length += len(p)
	for len(p) > 0 {
		last := len(q.pieces) - 1
		if last < 0 || q.pieces[last].end == Size {
			q.pieces = append(q.pieces, pool.Get().(*Piece))
			last++
		}
		piece := q.pieces[last]
		n := copy(piece.bytes[piece.end:], p)
		piece.end += n
		p = p[n:]
	}
}

// Read moves bytes from the front to p and returns how many.
func (q *Queue) Read(p []byte) int {
	total := 0
	for total < len(p) && len(q.pieces) > 0 {
		first := q.pieces[0]
		n := copy(p[total:], first.Bytes())
		first.start += n
		total += n
		if first.start == first.end {
			q.shift().Release()
		}
	}
	q.length -= total
	return total
}

// Take removes the first piece, nil when there is none. The caller releases it.
func (q *Queue) Take() *Piece {
	if len(q.pieces) == 0 {
		return nil
	}
	first := q.shift()
	q.length -= len(first.Bytes())
	return first
}

// Clear drops everything.
func (q *Queue) Clear() {
	for _, piece := range q.pieces {
		piece.Release()
	}
	*q = Queue{}
}

func (q *Queue) shift() *Piece {
	first := q.pieces[0]
	n := copy(q.pieces, q.pieces[1:])
	q.pieces[n] = nil
	q.pieces = q.pieces[:n]
	return first
}
