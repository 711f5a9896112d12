package atrium

import "sync"

// queue is what waits for one function. A goroutine that exists only while something waits calls the function with one
// item after the other. It is bounded in bytes and makes nobody wait.
type queue[T any] struct {
	serve func(T)
	limit int // bytes; a single item may be larger

	mu      sync.Mutex // guards:
	items   fifo[sized[T]]
	bytes   int // of those, overhead included
	running bool
	closed  bool
}

// sized is an item and what it takes.
type sized[T any] struct {
	item T
	size int
}

// queueOverhead is what a waiting item takes beside its bytes.
const queueOverhead = 64

// push adds an item. It reports false if there is no room for it, and drops it. A closed queue takes nothing, and misses
// nothing.
func (q *queue[T]) push(item T, size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return true
	}
	size += queueOverhead
	if q.bytes > 0 && q.bytes+size > q.limit {
		return false
	}
	q.items.push(sized[T]{item, size})
	q.bytes += size
	if !q.running {
		q.running = true
		go q.run()
	}
	return true
}

func (q *queue[T]) run() {
	ended := false
	defer func() {
		if !ended {
			go q.run() // serve has ended its goroutine: runtime.Goexit
		}
	}()
	for {
		item, ok := q.next()
		if !ok {
			ended = true
			return
		}
		q.serve(item)
	}
}

// next takes the next item. If there is none, the goroutine is about to end.
func (q *queue[T]) next() (item T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	next, ok := q.items.pop()
	q.bytes -= next.size
	if !ok {
		q.items.shrink(0)
		q.running = false
	}
	return next.item, ok
}

// close drops what waits, and returns how many items that was, and what comes. An item that is being served is served
// to its end.
func (q *queue[T]) close() (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	dropped = q.items.len()
	q.items, q.bytes = fifo[sized[T]]{}, 0
	return dropped
}
