package atrium

import "testing"

// Nothing is left of a topic that has no subscriptions.
func TestMemoryBusForgets(t *testing.T) {
	bus := NewMemoryBus()
	for range 3 {
		one, err := bus.Subscribe(t.Context(), "topic", func([]byte) {})
		if err != nil {
			t.Fatal(err)
		}
		other, err := bus.Subscribe(t.Context(), "topic", func([]byte) {})
		if err != nil {
			t.Fatal(err)
		}
		one()
		if n := len(bus.topics["topic"]); n != 1 {
			t.Errorf("the topic has %d queues after one of two was cancelled", n)
		}
		other()
		one()
		if n := len(bus.topics); n != 0 {
			t.Errorf("%d topics are left", n)
		}
	}
}

// A queue that never runs empty does not grow for ever.
func TestBusQueueNeverEmpty(t *testing.T) {
	q := &busQueue{running: true} // the test takes what a goroutine would
	for range 10 {
		q.push([]byte("x"))
	}
	for range 1000 {
		q.push([]byte("x"))
		if _, ok := q.next(); !ok {
			t.Fatal("the queue is empty")
		}
	}
	if n := cap(q.waiting); n > 64 {
		t.Errorf("a queue of 10 messages has room for %d", n)
	}
	if want := 10 * (1 + busMessageOverhead); q.bytes != want {
		t.Errorf("10 messages of a byte count as %d bytes, want %d", q.bytes, want)
	}
}
