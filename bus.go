package atrium

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
)

// Bus carries messages between hubs, each at most once. Topics are opaque strings and messages opaque bytes; topics are
// compared byte by byte, and the empty one is a topic too.
//
// What one goroutine publishes to one topic reaches each of the topic's subscriptions in that order, those of the publishing
// Bus among them. What an outage or a full queue takes away leaves a gap; it never reorders and never repeats. A message whose
// Publish failed may be delivered all the same, unless ctx had ended before the call.
//
// The methods are safe for simultaneous use, from within deliver too. Implementations reconnect and subscribe anew by
// themselves. There is nothing to close: what a Bus holds for a subscription goes with its cancel, and the client it
// was made with belongs to whoever made it. Package bustest tells whether an implementation keeps all this.
type Bus interface {
	// Publish sends msg to every subscription of the topic, and does not keep it. That there are none is no error. It
	// returns once the message is on its way, or with an error; when ctx ends, with ctx's.
	Publish(ctx context.Context, topic string, msg []byte) error

	// Subscribe has deliver called with each message of the topic, one after the other. After it returned nil, later
	// publishes are delivered. ctx bounds the call, not the subscription; after an error there is no subscription.
	//
	// deliver must neither keep nor change msg, and should return soon: what comes meanwhile waits in a bounded queue
	// and is dropped beyond. That concerns this subscription alone.
	//
	// cancel ends the subscription. It does not wait: the one call of deliver that is under way goes on, and no other begins.
	// It may be called from anywhere, any number of times.
	Subscribe(ctx context.Context, topic string, deliver func(msg []byte)) (cancel func(), err error)
}

// maxBusQueue bounds what waits for one subscription of a MemoryBus, in bytes. A single message may be larger.
const maxBusQueue = 16 << 20

// busMessageOverhead is what a waiting message costs beside its bytes.
const busMessageOverhead = 64

// MemoryBus is the Bus that joins hubs of one process: all that share it. It never fails and never waits. For each
// subscription there is a queue of 16 MiB and, while something is in it, a goroutine; what finds it full is dropped.
//
// A Bus for several processes has one inside, to spread what its connection brings.
type MemoryBus struct {
	dropped atomic.Uint64

	mu     sync.RWMutex // guards:
	topics map[string]map[*busQueue]struct{}
}

// NewMemoryBus returns a Bus without subscriptions.
func NewMemoryBus() *MemoryBus {
	return &MemoryBus{topics: make(map[string]map[*busQueue]struct{})}
}

// Dropped counts the deliveries that did not take place because the subscription's queue was full.
func (b *MemoryBus) Dropped() uint64 { return b.dropped.Load() }

// Publish is as described for Bus. It fails only if ctx has ended.
func (b *MemoryBus) Publish(ctx context.Context, topic string, msg []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	queues := b.topics[topic]
	if len(queues) == 0 {
		return nil
	}
	msg = bytes.Clone(msg) // one for all: deliver does not change it
	for q := range queues {
		if !q.push(msg) {
			b.dropped.Add(1)
		}
	}
	return nil
}

// Subscribe is as described for Bus. It fails only if ctx has ended.
func (b *MemoryBus) Subscribe(ctx context.Context, topic string, deliver func(msg []byte)) (cancel func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	q := &busQueue{deliver: deliver}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.topics[topic] == nil {
		b.topics[topic] = make(map[*busQueue]struct{})
	}
	b.topics[topic][q] = struct{}{}
	return func() {
		q.cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.topics[topic], q)
		if len(b.topics[topic]) == 0 {
			delete(b.topics, topic)
		}
	}, nil
}

// busQueue is what waits for one subscription. A goroutine that exists only while there is something delivers it.
type busQueue struct {
	deliver func(msg []byte)

	mu        sync.Mutex // guards:
	waiting   [][]byte   // waiting[head:]
	head      int
	bytes     int // of those, overhead included
	running   bool
	cancelled bool
}

// push reports whether the message had room, or is not wanted any more.
func (q *busQueue) push(msg []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.cancelled {
		return true
	}
	size := len(msg) + busMessageOverhead
	if q.bytes > 0 && q.bytes+size > maxBusQueue {
		return false
	}
	if len(q.waiting) == cap(q.waiting) && q.head > len(q.waiting)/2 {
		// The room in front is used again, or a queue that never runs empty would grow for ever.
		kept := copy(q.waiting, q.waiting[q.head:])
		clear(q.waiting[kept:])
		q.waiting, q.head = q.waiting[:kept], 0
	}
	q.waiting = append(q.waiting, msg)
	q.bytes += size
	if !q.running {
		q.running = true
		go q.run()
	}
	return true
}

func (q *busQueue) run() {
	for {
		msg, ok := q.next()
		if !ok {
			return
		}
		q.deliver(msg)
	}
}

// next takes the next message. If there is none, the goroutine is about to end.
func (q *busQueue) next() (msg []byte, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head == len(q.waiting) {
		q.waiting, q.head, q.running = nil, 0, false
		return nil, false
	}
	msg = q.waiting[q.head]
	q.waiting[q.head] = nil
	q.head++
	q.bytes -= len(msg) + busMessageOverhead
	return msg, true
}

func (q *busQueue) cancel() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cancelled = true
	q.waiting, q.head, q.bytes = nil, 0, 0
}
