package atrium

import (
	"runtime"
	"sync"
)

// queue is a bounded queue for one handler. A goroutine that exists only while there is work calls
// the handler with one item after the other, in order.
//
// It is bounded by the number of its items and by their bytes. The methods that add an item differ
// in what they do when there is no room: push waits, offer refuses the item, and put adds it
// nevertheless.
//
// An item counts until its handling begins. With a reading it counts until it has been handled, so
// that a peer that sends faster than its events are handled is slowed down.
type queue[T interface{ size() int }] struct {
	handler handler[T]
	reading *reading // of the connection that the items come by; nil if they come otherwise, and push is not called

	mu       sync.Mutex      // guards:
	running  bool            // the goroutine exists, or the reader has claimed the queue
	closed   bool            // push and offer add nothing any more
	items    fifo[queued[T]] // the first is being handled if since is set
	since    int64           // nanotime when that began; 0: it has not begun, or there is no reading
	bytes    int             // of the items
	maxCount int
	maxBytes int
}

// queued is an item and the nanotime at which it was pushed; 0 if it was not, or is handled at once
// by the goroutine that has read it.
type queued[T any] struct {
	item T
	at   int64
}

// handling says when the handling of an item began, by nanotime, and how many nanoseconds the item
// had waited since it was pushed. Without a reading it is zero.
type handling struct{ began, waited int64 }

// handler handles the items of a queue.
type handler[T any] interface {
	// handle handles one item, in the queue's goroutine. It may call runtime.Goexit.
	handle(item T, at handling)
	// emptied is called when all items are handled, in that goroutine, without locks.
	emptied()
}

// handlerFunc makes a function a handler.
type handlerFunc[T any] func(T)

func (f handlerFunc[T]) handle(item T, _ handling) { f(item) }
func (f handlerFunc[T]) emptied()                  {}

// newQueue returns a queue for what comes by no connection, bounded in bytes.
func newQueue[T interface{ size() int }](maxBytes int, handle func(T)) *queue[T] {
	return &queue[T]{handler: handlerFunc[T](handle), maxCount: noBound, maxBytes: maxBytes}
}

// queueOverhead is what an item of such a queue takes beside its bytes.
const queueOverhead = 64

// itemVerdict says what became of an item.
type itemVerdict uint8

const (
	itemTaken   itemVerdict = iota
	itemIgnored             // the queue is closed
	itemRefused             // there is no room for it
)

// push adds an item. If the items have reached a bound, push waits for it to be half empty, so that
// the connection is not read and TCP slows the peer down; if the connection is draining, push waits
// for the queue to be closed. It does not wait while a Call to the peer is pending, because the
// answer may be behind the item: it refuses the item then if twice the bounds are reached. Only the
// goroutine that reads the connection calls push.
func (q *queue[T]) push(item T) itemVerdict {
	q.mu.Lock()
	defer q.mu.Unlock()
	var at int64
	if q.running {
		at = nanotime()
	}
	if q.holdsBack() {
		q.waitForRoom()
	}
	switch {
	case q.closed:
		return itemIgnored
	case q.full(2):
		return itemRefused
	}
	if !q.running && q.reading.claim(q) {
		q.running = true
	} else if at == 0 {
		at = nanotime()
	}
	q.add(item, at)
	return itemTaken
}

// offer adds an item if there is room for it. An item of any size has room in an empty queue.
func (q *queue[T]) offer(item T) itemVerdict {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return itemIgnored
	case q.items.len() >= q.maxCount, q.items.len() > 0 && q.bytes+item.size() > q.maxBytes:
		return itemRefused
	}
	q.add(item, 0)
	return itemTaken
}

// put adds an item, also if the queue is full or closed. The caller bounds how many it adds.
func (q *queue[T]) put(item T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(item, 0)
}

// pushLast adds an item, as put does, and closes the queue.
func (q *queue[T]) pushLast(item T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(item, 0)
	q.close()
}

// finish closes the queue: what is in it is handled, and push and offer, one that waits included,
// ignore what they get.
func (q *queue[T]) finish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.close()
}

// drop closes a queue without a reading and removes what is in it. It returns how many items that
// was.
func (q *queue[T]) drop() (dropped int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.close()
	dropped = q.items.len()
	q.items, q.bytes = fifo[queued[T]]{}, 0
	return dropped
}

// bound changes the bounds.
func (q *queue[T]) bound(maxCount, maxBytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.maxCount, q.maxBytes = maxCount, maxBytes
	q.reading.recheck()
}

// current returns the item that is being handled, and since when, by nanotime. It reports false if
// there is none.
func (q *queue[T]) current() (item T, since int64, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.since == 0 {
		return item, 0, false
	}
	return q.items.at(0).item, q.since, true
}

// size returns the bytes of the items.
func (q *queue[T]) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// length returns how many items are in the queue, that included which is being handled.
func (q *queue[T]) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.items.len()
}

// idle reports whether nothing is in the queue, nor being handled.
func (q *queue[T]) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.running
}

// full reports whether the bounds, multiplied by times, are reached. q.mu is held, as in all that
// follows but run.
func (q *queue[T]) full(times int) bool {
	r := q.reading
	return q.items.len()/times >= q.maxCount || q.bytes/times >= q.maxBytes ||
		r.pending.Load() && int(r.held.Load())/times >= maxBeforeConnect
}

// holdsBack reports whether a push is to wait.
func (q *queue[T]) holdsBack() bool {
	r := q.reading
	return !q.closed && r.calls.Load() == 0 && (q.full(1) || r.draining.Load())
}

// waitForRoom waits until push may go on. It releases q.mu meanwhile.
func (q *queue[T]) waitForRoom() {
	r := q.reading
	r.beginWait()
	for q.holdsBack() {
		q.mu.Unlock()
		<-r.wake
		q.mu.Lock()
	}
	r.endWait()
}

func (q *queue[T]) add(item T, at int64) {
	q.items.push(queued[T]{item, at})
	q.bytes += item.size()
	q.reading.holds(item.size())
	if !q.running {
		q.running = true
		go q.run()
	}
}

// pop removes the first item.
func (q *queue[T]) pop() T {
	first, _ := q.items.pop()
	size := first.item.size()
	q.bytes -= size
	q.reading.holds(-size)
	return first.item
}

func (q *queue[T]) close() {
	q.closed = true
	q.reading.recheck()
}

// run handles items until there are no more.
func (q *queue[T]) run() {
	growStack()
	returned := false
	defer func() {
		if !returned {
			go q.run() // the handler called runtime.Goexit
		}
	}()
	for handled := 1; ; handled++ {
		item, at, ok := q.next()
		if !ok {
			break
		}
		q.handler.handle(item, at)
		if handled%maxTurn == 0 {
			runtime.Gosched()
		}
	}
	returned = true
	q.handler.emptied()
}

// next returns the item to handle next. The handling of the one before is over. If it reports false
// there is none, and the goroutine ends.
func (q *queue[T]) next() (item T, at handling, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.reading
	if q.since != 0 {
		q.since = 0
		q.pop()
		if q.items.len() <= q.maxCount/2 && q.bytes <= q.maxBytes/2 {
			r.recheck()
		}
	}
	if q.items.len() == 0 {
		q.items.shrink(0)
		q.running = false
		return item, at, false
	}
	if r == nil {
		return q.pop(), at, true
	}
	q.since = nanotime()
	if more := q.items.len() > 1; r.more.Load() != more {
		r.more.Store(more)
	}
	first := q.items.at(0)
	at.began = q.since
	if first.at != 0 {
		at.waited = q.since - first.at
	}
	return first.item, at, true
}
