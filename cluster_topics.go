package atrium

import (
	"container/list"
	"context"
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
	// minLinger is how long a topic outlives its last user, at least: rooms come and go,
	// subscriptions cost something.
	minLinger = 5 * time.Second
	// topicNodes is how many nodes a topic remembers before it looks which of them have gone.
	topicNodes = 16
)

// topics are what a node is subscribed to: each while it is acquired, and linger longer.
// Subscribing takes time, and may fail and be tried again for as long as the Bus is away; a few
// goroutines do it, which exist only meanwhile.
type topics struct {
	bus        Bus
	log        *limitedLog
	clock      *wheel
	linger     time.Duration
	deliver    func(t *topic, msg []byte)
	attempted  func(name string, err error) // called after each attempt to subscribe, and with "" and nil when there is none left to make
	subscribed func(name string)            // called after each successful one
	ctx        context.Context

	mu      sync.Mutex // the last to be taken but for the clock's. It guards:
	byName  map[string]*topic
	waiting list.List // of *topic: to be subscribed to
	turns   list.List // of *topic: all, the one that was probed last at the end
	workers int
}

// topic is a subscription of the node, or one to be.
type topic struct {
	name string
	// Only deliver uses these, one call at a time.
	latest  map[string]uint64 // the number of the last message of each node
	crowded int               // with more nodes in it, some may have gone

	brought atomic.Uint64 // messages, of whatever kind

	// Guarded by topics.mu.
	users   int           // calls of acquire less those of release
	cancel  func()        // nil until subscribed
	place   *list.Element // in topics.waiting; nil if it does not wait
	turn    *list.Element // in topics.turns
	idle    timer
	marks   map[string]uint64 // the number of the last marker of each node; made with the first
	changed gate              // opens when it is subscribed to, has brought a marker, or has gone

	gone atomic.Bool // it is not among the topics any more; changed under topics.mu, too
}

// acquire counts one more user of the topic. The first has it subscribed to; acquire does not wait
// for that.
func (ts *topics) acquire(name string) {
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
	t.users++
	ts.clock.stop(&t.idle)
}

// add makes a topic. ts.mu is held.
func (ts *topics) add(name string) *topic {
	t := &topic{name: name, latest: make(map[string]uint64), crowded: topicNodes}
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

// renew replaces the subscription to a topic, because nothing comes by it. It reports false if
// there is no subscription.
func (ts *topics) renew(t *topic) bool {
	ts.mu.Lock()
	if t.gone.Load() || t.cancel == nil {
		ts.mu.Unlock()
		return false
	}
	cancel := ts.remove(t)
	next := ts.add(t.name) // what the old subscription still brings is not the new one's, whose order is another
	if next.users = t.users; next.users == 0 {
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

// named returns the topic of that name if it is subscribed to; else nil.
func (ts *topics) named(name string) *topic {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.byName[name]; t != nil && t.cancel != nil {
		return t
	}
	return nil
}

// nextProbed returns the topic to probe next; nil if there is none. The subscribed topics but these
// take turns.
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

// release undoes acquire. The subscription ends after linger, unless somebody needs the topic
// again.
func (ts *topics) release(name string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.byName[name]
	if t == nil { // all were dropped
		return
	}
	if t.users--; t.users == 0 {
		ts.clock.schedule(&t.idle, after(ts.linger))
	}
}

// drop ends the subscription to a topic that nobody has needed for linger.
func (ts *topics) drop(t *topic) {
	ts.mu.Lock()
	if t.users > 0 || t.gone.Load() {
		ts.mu.Unlock()
		return
	}
	cancel := ts.remove(t)
	ts.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// dropAll ends all subscriptions.
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

// remove removes the topic, and returns the function that ends its subscription, if there is one.
// The caller, who holds ts.mu, calls it without the lock.
func (ts *topics) remove(t *topic) (cancel func()) {
	t.gone.Store(true)
	delete(ts.byName, t.name)
	ts.turns.Remove(t.turn)
	t.changed.open()
	if t.place != nil {
		ts.waiting.Remove(t.place)
	}
	ts.clock.stop(&t.idle)
	return t.cancel
}

// pending returns those of the topics of these names that are still to be subscribed to.
func (ts *topics) pending(names ...string) (waiting []*topic) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, name := range names {
		if t := ts.byName[name]; t != nil && t.cancel == nil {
			waiting = append(waiting, t)
		}
	}
	return waiting
}

// await waits until the topic is subscribed to, or is not needed any more. It returns ctx's error
// if ctx ends first.
func (ts *topics) await(ctx context.Context, t *topic) error {
	return t.changed.await(ctx, &ts.mu, func() bool { return t.cancel != nil || t.gone.Load() })
}

// mark notes that a topic has brought a marker of a node.
func (ts *topics) mark(t *topic, node string, number uint64) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t.marks == nil {
		t.marks = make(map[string]uint64)
	}
	t.marks[node] = number
	t.changed.open()
}

// unmark forgets the markers of nodes that have gone.
func (ts *topics) unmark(t *topic, gone func(node string, _ uint64) bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	maps.DeleteFunc(t.marks, gone)
}

// awaitMark waits until the topic has brought a marker of the node with this number or a later one,
// or until ctx ends. If the topic is not subscribed to there is nothing to wait for.
func (ts *topics) awaitMark(ctx context.Context, name, node string, number uint64) {
	if t := ts.named(name); t != nil {
		_ = t.changed.await(ctx, &ts.mu, func() bool { return t.marks[node] >= number || t.gone.Load() })
	}
}

// work subscribes to the topics that wait.
func (ts *topics) work() {
	for {
		t, idle := ts.next()
		if idle {
			ts.attempted("", nil)
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

// next pops a topic that waits. If there is none, the caller stops being a worker; idle reports
// whether it was the last.
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

// callSubscribe calls Bus.Subscribe. A panic or runtime.Goexit of the Bus is returned as an error;
// one of cancel is logged.
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
			ts.log.error("atrium: a subscription's cancel panicked", append(what, clientText("topic", t.name))...)
		})
	}
	return cancel, err
}

// subscribe subscribes to a topic. If that fails, the topic waits again and subscribe reports
// false.
func (ts *topics) subscribe(t *topic) bool {
	ctx, done := context.WithTimeout(ts.ctx, busTimeout)
	cancel, err := ts.callSubscribe(ctx, t)
	done()
	ts.attempted(t.name, err)
	ts.mu.Lock()
	switch {
	case t.gone.Load():
	case err != nil:
		t.place = ts.waiting.PushBack(t)
	default:
		t.cancel, cancel = cancel, nil
		t.changed.open()
	}
	ts.mu.Unlock()
	switch {
	case err != nil:
		return false
	case cancel != nil: // it has gone meanwhile
		cancel()
	default:
		ts.subscribed(t.name)
	}
	return true
}

// fresh reports whether a message is later than all that the topic has brought of its node. A Bus
// should bring each message once and in order, but may fail to when it reconnects: the broker still
// reads what is left of the connection before.
func (t *topic) fresh(node string, number uint64) bool {
	if number <= t.latest[node] {
		return false
	}
	t.latest[node] = number
	return true
}

// names lists the topics.
func (ts *topics) names() []string {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return slices.Collect(maps.Keys(ts.byName))
}

func (ts *topics) count() int {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return len(ts.byName)
}
