package pieces

import (
	"bytes"
	"math/rand"
	"testing"
)

func TestBytesComeOutInOrder(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	var q Queue
	var want, got []byte
	for i := 0; i < 2000; i++ {
		p := make([]byte, random.Intn(2*Size))
		_, _ = random.Read(p)
		if random.Intn(3) > 0 {
			p = p[:len(p)%100]
		}
		q.Append(p)
		want = append(want, p...)
		switch random.Intn(3) {
		case 0:
			p = make([]byte, random.Intn(2*Size))
			got = append(got, p[:q.Read(p)]...)
		case 1:
			if piece := q.Take(); piece != nil {
				got = append(got, piece.Bytes()...)
				piece.Release()
			}
		}
		if q.Len() != len(want)-len(got) {
			t.Fatalf("%d bytes, want %d", q.Len(), len(want)-len(got))
		}
	}
	rest := make([]byte, q.Len()+1)
	if got = append(got, rest[:q.Read(rest)]...); !bytes.Equal(got, want) || q.Len() != 0 || q.Take() != nil {
		t.Error("other bytes")
	}
}

func TestSmallAppendsShareAPiece(t *testing.T) {
	var q Queue
	for i := 0; i < 3*Size; i++ {
		q.Append([]byte{byte(i)})
	}
	if len(q.pieces) != 3 {
		t.Errorf("%d pieces", len(q.pieces))
	}
	q.Clear()
	if q.Len() != 0 || q.Read(make([]byte, 1)) != 0 {
		t.Error("not empty")
	}
}
