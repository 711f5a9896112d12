package atrium

import (
	"math/rand/v2"
	"testing"
)

// A fifo holds what a slice that is cut at the front would hold, keeps nothing that was popped, and
// has room for a few times what it holds.
func TestFifo(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, most := range []int{0, 8, 1 << 20} {
		var q fifo[*int]
		var model []*int
		peak := 0
		for step := range 20_000 {
			if random.IntN(1000) < 500+(step/2000%2*2-1)*100 { // it grows for a while, then runs empty
				i := new(int)
				q.push(i)
				model = append(model, i)
			} else {
				got, ok := q.pop()
				if ok != (len(model) > 0) || ok && got != model[0] {
					t.Fatalf("step %d: popped the wrong item, or %t with %d queued", step, ok, len(model))
				}
				model = model[min(len(model), 1):]
				q.shrink(most)
			}
			if q.len() != len(model) || len(model) > 0 && *q.at(len(model) - 1) != model[len(model)-1] {
				t.Fatalf("step %d: %d are queued, want %d", step, q.len(), len(model))
			}
			for i, item := range q.items[:cap(q.items)] {
				if item != nil && (i < q.head || i >= len(q.items)) {
					t.Fatalf("step %d: what was popped is kept", step)
				}
			}
			peak = max(peak, len(model))
			if room := cap(q.items); room > max(4*peak, 2*minMove) {
				t.Fatalf("step %d: room for %d, and never were more than %d queued", step, room, peak)
			} else if room > max(most, 8*len(model), 1) && len(model) > peak/2 {
				t.Fatalf("step %d: room for %d, and %d are queued", step, room, len(model))
			}
		}
	}
}

// A fifo that never runs empty does not grow, and an empty one is released.
func TestFifoNeverEmpty(t *testing.T) {
	var q fifo[int]
	for i := range 10 {
		q.push(i)
	}
	for i := range 1000 {
		q.push(10 + i)
		if got, ok := q.pop(); !ok || got != i {
			t.Fatalf("got %d, want %d", got, i)
		}
	}
	if n := cap(q.items); n > 64 {
		t.Errorf("a queue of 10 has room for %d", n)
	}
	for q.len() > 0 {
		q.pop()
	}
	if q.shrink(0); q.items != nil {
		t.Errorf("an empty queue has room for %d", cap(q.items))
	}
}
