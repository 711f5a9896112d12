package atrium

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// What is over the bound is refused, but not a first item of any size; a closed queue ignores what
// it gets.
func TestQueueBound(t *testing.T) {
	const limit = 1000
	serving, goOn := make(chan int), make(chan struct{})
	q := newQueue(limit, func(i sizedItem) { serving <- i.number; <-goOn })
	if q.offer(sizedItem{0, 1 << 20}) != itemTaken { // being handled, it does not count
		t.Error("a first item is refused")
	}
	within(t, serving, "the first item")
	var taken []int
	for i := 1; i <= 20; i++ {
		if q.offer(sizedItem{i, 100}) == itemTaken {
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
	if dropped := q.drop(); dropped != len(taken)-6 || q.held() != 0 {
		t.Errorf("%d are dropped, and %d bytes left", dropped, q.held())
	}
	if q.offer(sizedItem{30, 1}) != itemIgnored || q.waiting() != 0 {
		t.Error("it is not closed")
	}
	goOn <- struct{}{}
	eventually(t, "the goroutine to end", func() bool { return !q.isRunning() })
}

// sizedItem counts as many bytes as it says.
type sizedItem struct{ number, bytes int }

func (i sizedItem) size() int { return i.bytes }

// A handler may call runtime.Goexit: what follows is handled, and what was handled does not count
// any more.
func TestQueueGoexit(t *testing.T) {
	for _, r := range []*reading{nil, new(reading)} {
		handled := make(chan int, 3)
		q := newQueue(1000, func(i sizedItem) {
			handled <- i.number
			if i.number == 1 {
				runtime.Goexit()
			}
		})
		q.reading = r
		for i := range 3 {
			q.offer(sizedItem{i, 10})
		}
		for want := range 3 {
			if got := within(t, handled, "an item"); got != want {
				t.Errorf("got %d, want %d", got, want)
			}
		}
		eventually(t, "the goroutine to end", func() bool { return !q.isRunning() })
		if q.held() != 0 || q.waiting() != 0 {
			t.Errorf("%d items with %d bytes are left", q.waiting(), q.held())
		}
	}
}

// Two goroutines that wait for room, as those that read a Client's last connection and its next one
// may, both go on.
func TestQueueTwoWait(t *testing.T) {
	for _, last := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			goOn := make(chan struct{})
			q := newQueue(10, func(sizedItem) { <-goOn })
			q.reading = new(reading)
			q.push(sizedItem{0, 10})
			first, second := q.pushing(sizedItem{1, 10}), q.pushing(sizedItem{2, 10})
			if len(first)+len(second) != 0 || !q.reading.paused() {
				t.Error("a push does not wait")
			}
			want := itemTaken
			if last {
				q.pushLast(sizedItem{3, 10})
				want = itemIgnored
			}
			close(goOn)
			if a, b := <-first, <-second; a != want || b != want {
				t.Errorf("got %d and %d, want %d", a, b, want)
			}
			synctest.Wait()
			if q.reading.paused() || q.isRunning() {
				t.Error("a push waits, or the goroutine is left")
			}
		})
	}
}
