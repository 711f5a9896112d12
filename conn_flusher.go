package atrium

import (
	"runtime"
	"sync"
)

// waker is a transport in which something is queued that is sent when wake is called.
type waker interface{ wake() }

// flusher wakes the transports in which a broadcast has queued something, so that the broadcaster
// does not have to. Its goroutines, at most one for each processor, exist only while there is work.
// While they are busy, later broadcasts are queued in the same transports, and are written
// together.
type flusher struct {
	mu      sync.Mutex // guards:
	owed    fifo[waker]
	workers int
}

// add wakes the connections of the list soon.
func (f *flusher) add(list ...waker) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range list {
		f.owed.push(w)
	}
	for most := min(runtime.GOMAXPROCS(0), f.owed.len()); f.workers < most; f.workers++ {
		go f.work()
	}
}

func (f *flusher) work() {
	var batch [32]waker
	for {
		n := f.pop(batch[:])
		if n == 0 {
			return
		}
		for _, w := range batch[:n] {
			w.wake()
		}
	}
}

// pop moves wakes that are owed into batch. If there are none, the caller stops being a worker.
func (f *flusher) pop(batch []waker) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n < len(batch) && f.owed.len() > 0 {
		batch[n], _ = f.owed.pop()
		n++
	}
	if n == 0 {
		f.owed.shrink(1 << 16)
		f.workers--
	}
	return n
}
