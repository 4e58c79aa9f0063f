package guest

import "testing"

func TestOnlyTheFirstClientAfterARestWarmsUp(t *testing.T) {
	warmed := make(chan struct{}, 8)
	w := &warmth{warm: func() { warmed <- struct{}{} }}
	w.wake()
	for rest := 0; rest < 2; rest++ {
		w.rest()
		w.wake()
		<-warmed
		w.wake()
	}
	if len(warmed) != 0 {
		t.Error("a client without a rest before it warms up")
	}
}
