package atrium

import (
	"runtime"
	"sync"
)

// waker is something that is owed a wake: what is queued in it leaves when it is woken.
type waker interface{ wake() }

// flusher wakes those in whom a broadcast has queued something, so that the broadcaster does not have to: with
// goroutines that exist while there is something to do, at most one a processor. While they are busy, later
// broadcasts are queued in them too, and leave together.
type flusher struct {
	mu      sync.Mutex // guards:
	queue   []waker    // queue[head:] is owed a wake
	head    int
	workers int
}

// add takes over the wakes owed to the list.
func (f *flusher) add(list ...waker) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.head > 0 && len(f.queue)+len(list) > cap(f.queue) {
		// The room in front is used again, or a queue that never runs empty would grow for ever.
		left := copy(f.queue, f.queue[f.head:])
		clear(f.queue[left:])
		f.queue, f.head = f.queue[:left], 0
	}
	f.queue = append(f.queue, list...)
	for most := min(runtime.GOMAXPROCS(0), len(f.queue)-f.head); f.workers < most; f.workers++ {
		go f.work()
	}
}

func (f *flusher) work() {
	var batch [32]waker
	for {
		n := f.take(batch[:])
		if n == 0 {
			return
		}
		for _, o := range batch[:n] {
			o.wake()
		}
	}
}

// take moves some of the queue into batch. If there is nothing, the caller is no worker any more.
func (f *flusher) take(batch []waker) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := copy(batch, f.queue[f.head:])
	clear(f.queue[f.head : f.head+n])
	f.head += n
	if f.head == len(f.queue) {
		f.queue, f.head = f.queue[:0], 0
		if cap(f.queue) > 1<<16 {
			f.queue = nil
		}
	}
	if n == 0 {
		f.workers--
	}
	return n
}
