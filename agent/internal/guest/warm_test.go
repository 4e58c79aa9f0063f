package guest

import "testing"

func TestOnlyTheFirstCallAfterARestWarmsUp(t *testing.T) {
	warmed := make(chan struct{}, 8)
	w := &warmth{warm: func() { warmed <- struct{}{} }}
	w.wake()
	for rest := 0; rest < 2; rest++ {
		w.rest()
		w.wake()
		<-warmed
		w.wake()
	}
	w.rest()
	w.forget()
	w.wake()
	if len(warmed) != 0 {
		t.Error("a call without a rest before it warms up")
	}
}
