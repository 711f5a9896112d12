package atrium

import "testing"

// A queue that never runs empty does not grow for ever.
func TestQueueNeverEmpty(t *testing.T) {
	q := &queue[string]{limit: 1 << 20, running: true} // the test takes what a goroutine would
	for range 10 {
		q.push("x", 1)
	}
	for range 1000 {
		q.push("x", 1)
		if _, ok := q.next(); !ok {
			t.Fatal("the queue is empty")
		}
	}
	if n := cap(q.items.items); n > 64 {
		t.Errorf("a queue of 10 messages has room for %d", n)
	}
	if want := 10 * (1 + queueOverhead); q.bytes != want {
		t.Errorf("10 messages of a byte count as %d bytes, want %d", q.bytes, want)
	}
}

// What is over the bound is dropped, but not a first item of any size; a closed queue takes nothing and says nothing.
func TestQueueBound(t *testing.T) {
	const limit = 1000
	serving, goOn := make(chan int), make(chan struct{})
	q := &queue[int]{limit: limit}
	q.serve = func(i int) { serving <- i; <-goOn }
	if !q.push(0, 1<<20) { // being served, it does not count
		t.Error("a first item is dropped")
	}
	within(t, serving, "the first item")
	var taken []int
	for i := 1; i <= 20; i++ {
		if q.push(i, 100-queueOverhead) {
			taken = append(taken, i)
		}
	}
	if len(taken) != limit/100 {
		t.Errorf("%v are taken", taken)
	}
	goOn <- struct{}{}
	for _, want := range taken[:5] {
		if got := within(t, serving, "an item"); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
		goOn <- struct{}{}
	}
	within(t, serving, "one more")
	q.close()
	if !q.push(30, 1) || q.items.len() != 0 {
		t.Error("it is not closed")
	}
	goOn <- struct{}{}
	eventually(t, "the goroutine to end", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return !q.running
	})
}
