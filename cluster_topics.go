package atrium

import (
	"container/list"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// topicWorkers is how many topics are subscribed to at a time.
	topicWorkers = 8
	// topicRetry is the pause after a subscription has failed.
	topicRetry = 250 * time.Millisecond
	// minLinger is how long a topic outlives the last who wanted it: rooms come and go, subscriptions cost something.
	minLinger = 5 * time.Second
	// topicNodes is how many nodes a topic remembers before it looks which of them have gone.
	topicNodes = 16
)

// topics are what a node is subscribed to: each while somebody wants it, and a while longer. Subscribing takes time, and
// may fail and be tried again for as long as the Bus is away; it is left to a few goroutines that exist only meanwhile.
type topics struct {
	bus     Bus
	log     *limitedLog
	clock   *wheel
	linger  time.Duration
	deliver func(t *topic, msg []byte)
	outcome func(name string, err error) // told of each attempt; also nil for no name, when there is nothing left to attempt
	begun   func(name string)            // told of each subscription
	ctx     context.Context

	mu      sync.Mutex // the last to be taken but for the clock's. It guards:
	byName  map[string]*topic
	waiting list.List // of *topic: to be subscribed to
	turns   list.List // of *topic: all, the one that was probed last at the end
	workers int
}

// topic is one of them.
type topic struct {
	name  string
	ready chan struct{} // closed when the subscription is there
	// heard has the number of the last message of each node. It is deliver's own, which is called by one at a time.
	heard   map[string]uint64
	crowded int           // with more nodes in it, some may have gone
	brought atomic.Uint64 // messages, of whatever kind

	// Guarded by topics.mu.
	wanted int
	cancel func()        // nil until subscribed
	place  *list.Element // in topics.waiting; nil if it does not wait
	turn   *list.Element // in topics.turns
	idle   timer
	marks  map[string]uint64 // the number of the last marker of each node; made with the first
	marked chan struct{}     // closed with the next marker, and at the end; nil if nobody waits for one

	gone atomic.Bool // it is not among the topics any more; changed under topics.mu, too
}

// want subscribes to the topic if need be, and does not wait for that.
func (ts *topics) want(name string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.ctx.Err() != nil {
		return
	}
	t := ts.byName[name]
	if t == nil {
		t = ts.add(name)
		ts.enqueue(t)
	}
	t.wanted++
	ts.clock.stop(&t.idle)
}

// add makes a topic. ts.mu is held.
func (ts *topics) add(name string) *topic {
	t := &topic{name: name, ready: make(chan struct{}), heard: make(map[string]uint64), crowded: topicNodes}
	t.idle.fire = func() { ts.drop(t) }
	ts.byName[name] = t
	t.turn = ts.turns.PushBack(t)
	return t
}

// enqueue has the topic subscribed to. ts.mu is held.
func (ts *topics) enqueue(t *topic) {
	t.place = ts.waiting.PushBack(t)
	if ts.workers < topicWorkers {
		ts.workers++
		go ts.work()
	}
}

// renew subscribes to the topic anew, in place of a subscription by which nothing comes. It reports whether there is one.
func (ts *topics) renew(t *topic) bool {
	ts.mu.Lock()
	if t.gone.Load() || t.cancel == nil {
		ts.mu.Unlock()
		return false
	}
	cancel := ts.remove(t)
	next := ts.add(t.name) // what the old subscription still brings is not the new one's, whose order is another
	if next.wanted = t.wanted; next.wanted == 0 {
		ts.clock.schedule(&next.idle, after(ts.linger))
	}
	ts.mu.Unlock()
	cancel() // first: a Bus may have one subscription at the broker for both
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if !next.gone.Load() {
		ts.enqueue(next)
	}
	return true
}

// subscribed returns the topic of that name if it is subscribed to; else nil.
func (ts *topics) subscribed(name string) *topic {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.byName[name]; t != nil && t.cancel != nil {
		return t
	}
	return nil
}

// nextProbed returns the topic to probe next: the subscribed topics other than these take turns. It is nil if there is none.
func (ts *topics) nextProbed(but ...string) *topic {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for range ts.turns.Len() {
		front := ts.turns.Front()
		ts.turns.MoveToBack(front)
		if t := front.Value.(*topic); t.cancel != nil && !slices.Contains(but, t.name) {
			return t
		}
	}
	return nil
}

// unwant undoes want.
func (ts *topics) unwant(name string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.byName[name]
	if t == nil { // all were dropped
		return
	}
	if t.wanted--; t.wanted == 0 {
		ts.clock.schedule(&t.idle, after(ts.linger))
	}
}

// drop ends a topic that nobody has wanted for long.
func (ts *topics) drop(t *topic) {
	ts.mu.Lock()
	if t.wanted > 0 || t.gone.Load() {
		ts.mu.Unlock()
		return
	}
	cancel := ts.remove(t)
	ts.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// dropAll ends all of them.
func (ts *topics) dropAll() {
	ts.mu.Lock()
	var cancels []func()
	for _, t := range ts.byName {
		if cancel := ts.remove(t); cancel != nil {
			cancels = append(cancels, cancel)
		}
	}
	ts.mu.Unlock()
	for _, cancel := range cancels {
		cancel()
	}
}

// remove returns what is to be called without the lock, which is held.
func (ts *topics) remove(t *topic) (cancel func()) {
	t.gone.Store(true)
	delete(ts.byName, t.name)
	ts.turns.Remove(t.turn)
	t.wakeMarked()
	if t.place != nil {
		ts.waiting.Remove(t.place)
	}
	ts.clock.stop(&t.idle)
	return t.cancel
}

// pending returns a channel that is closed when the topic's messages come; nil if they do, or nobody wants it.
func (ts *topics) pending(name string) <-chan struct{} {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.byName[name]; t != nil && t.cancel == nil {
		return t.ready
	}
	return nil
}

// mark notes that the topic has brought a marker of the node.
func (ts *topics) mark(t *topic, node string, number uint64) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t.marks == nil {
		t.marks = make(map[string]uint64)
	}
	t.marks[node] = number
	t.wakeMarked()
}

// unmark forgets the markers of the nodes that have gone.
func (ts *topics) unmark(t *topic, gone func(node string, _ uint64) bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	maps.DeleteFunc(t.marks, gone)
}

// wakeMarked wakes those who wait for a marker. topics.mu is held.
func (t *topic) wakeMarked() {
	if t.marked != nil {
		close(t.marked)
		t.marked = nil
	}
}

// awaitMark waits until the topic has brought a marker of the node with this number or a later one, or until ctx ends. If
// nothing comes by the topic there is nothing to wait for.
func (ts *topics) awaitMark(ctx context.Context, name, node string, number uint64) {
	for {
		marked := ts.unmarked(name, node, number)
		if marked == nil {
			return
		}
		select {
		case <-marked:
		case <-ctx.Done():
			return
		}
	}
}

// unmarked returns a channel that is closed with the topic's next marker; nil if awaitMark has nothing to wait for.
func (ts *topics) unmarked(name, node string, number uint64) <-chan struct{} {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.byName[name]
	if t == nil || t.cancel == nil || t.marks[node] >= number {
		return nil
	}
	if t.marked == nil {
		t.marked = make(chan struct{})
	}
	return t.marked
}

// work subscribes to what waits.
func (ts *topics) work() {
	for {
		t, idle := ts.next()
		if idle {
			ts.outcome("", nil)
		}
		if t == nil {
			return
		}
		if ts.subscribe(t) {
			continue
		}
		select {
		case <-time.After(topicRetry):
		case <-ts.ctx.Done():
		}
	}
}

// next takes a topic that waits. If there is none, the caller is no worker any more; idle reports whether it was the last.
func (ts *topics) next() (t *topic, idle bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	first := ts.waiting.Front()
	if first == nil || ts.ctx.Err() != nil {
		ts.workers--
		return nil, ts.workers == 0
	}
	t = ts.waiting.Remove(first).(*topic)
	t.place = nil
	return t, false
}

// callSubscribe calls Bus.Subscribe. A panic or runtime.Goexit of the Bus, which may be the application's own, is an error.
// The cancel that it returns logs one.
func (ts *topics) callSubscribe(ctx context.Context, t *topic) (cancel func(), err error) {
	var end func()
	err = callApart("Bus.Subscribe", func() (err error) {
		end, err = ts.bus.Subscribe(ctx, t.name, func(msg []byte) {
			if !t.gone.Load() { // or what its successor brings would come twice
				ts.deliver(t, msg)
			}
		})
		return err
	})
	cancel = func() {
		guardApart(end, func(what ...any) {
			ts.log.error("atrium: a subscription's cancel panicked", append(what, slog.String("topic", t.name))...)
		})
	}
	return cancel, err
}

// subscribe reports whether it has worked. If it has not, the topic waits again.
func (ts *topics) subscribe(t *topic) bool {
	ctx, done := context.WithTimeout(ts.ctx, busTimeout)
	cancel, err := ts.callSubscribe(ctx, t)
	done()
	ts.outcome(t.name, err)
	ts.mu.Lock()
	switch {
	case t.gone.Load():
	case err != nil:
		t.place = ts.waiting.PushBack(t)
	default:
		t.cancel, cancel = cancel, nil
		close(t.ready)
	}
	ts.mu.Unlock()
	switch {
	case err != nil:
		return false
	case cancel != nil: // it has gone meanwhile
		cancel()
	default:
		ts.begun(t.name)
	}
	return true
}

// fresh reports whether the message is later than all that the topic has brought of the node. A Bus should bring each once
// and in order. One that connects anew may fail at that: the broker still reads what is left of the connection before.
func (t *topic) fresh(node string, number uint64) bool {
	if number <= t.heard[node] {
		return false
	}
	t.heard[node] = number
	return true
}

func (ts *topics) count() int {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return len(ts.byName)
}
