package atrium

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// Bus carries messages between hubs, each at most once: see Options.Bus. MemoryBus is for one
// process; the packages redisbus and natsbus, modules of their own, are for several. The rest of
// this comment is for authors of other implementations.
//
// Topics are opaque strings and messages are opaque bytes. Topics are equal if their bytes are; the
// empty string is a topic too.
//
// Each subscription of a topic, those of the publishing Bus included, gets the messages that one
// goroutine publishes to the topic in their order. An outage or a full queue may leave a gap;
// nothing is reordered or repeated. A message may be delivered although its Publish failed, unless
// ctx had ended before the call.
//
// The methods are safe for simultaneous use, also from within deliver. Implementations reconnect
// and renew subscriptions by themselves. One whose Publish returns before a message has left the
// process implements BusFlusher, too.
//
// A Bus has no Close: cancel releases what it holds for a subscription, and the client it was made
// with belongs to its maker. Package bustest tests whether an implementation keeps these rules.
type Bus interface {
	// Publish sends msg to every subscription of the topic, and does not keep it. It is no error
	// that there are none. When Publish returns nil the Bus has accepted the message: it is in the
	// Bus's own queue at least, and in order. With a BusFlusher, Flush reports what has become of
	// it; with any other Bus it has left the process. When ctx ends, Publish returns ctx's error.
	// An error that matches fs.ErrPermission says that the broker's access rules forbid it; the
	// hub's log then says what to allow.
	Publish(ctx context.Context, topic string, msg []byte) error

	// Subscribe has deliver called with each message of the topic, one at a time. Messages that are
	// published after Subscribe has returned nil are delivered. ctx bounds the call, not the
	// subscription; after an error there is no subscription.
	//
	// deliver must neither keep nor change msg, and should return soon: messages that come
	// meanwhile wait in a bounded queue, and are dropped beyond it. That concerns this subscription
	// alone.
	//
	// cancel ends the subscription. It does not wait: a call of deliver that has begun goes on, and
	// no other begins. It may be called from anywhere, any number of times.
	Subscribe(ctx context.Context, topic string, deliver func(msg []byte)) (cancel func(), err error)
}

// BusFlusher is implemented by a Bus whose Publish may return while the message is still in this
// process. Hub.Shutdown calls Flush last, so that the program may close the Bus's client, or end,
// when Shutdown has returned nil. A Bus that wraps another one must pass Flush on.
type BusFlusher interface {
	// Flush waits until all messages that Publish has accepted before the call have left the
	// process: until the broker has taken them, as far as the Bus can know. It returns an error if
	// some of them could not be sent, or may not have been, and ctx's error if ctx ends first. It
	// is safe for simultaneous use.
	Flush(ctx context.Context) error
}

// maxBusQueue bounds what waits for one subscription of a MemoryBus, in bytes. A single message may
// be larger.
const maxBusQueue = 16 << 20

// busMessage is a message that waits for a subscription of a MemoryBus.
type busMessage []byte

func (m busMessage) size() int { return len(m) + queueOverhead }

// MemoryBus is the Bus that joins hubs of one process: all that share it. It never fails and never
// waits. For each subscription there is a queue of 16 MiB and, while something is in it, a
// goroutine; what finds it full is dropped. It is no BusFlusher: when Publish returns, the message
// is in the subscriptions' queues. The zero value is ready to use, and must not be copied.
//
// A Bus for several processes has one inside, to spread what its connection brings.
type MemoryBus struct {
	dropped atomic.Uint64

	mu     sync.RWMutex                    // guards:
	topics map[string][]*queue[busMessage] // the subscriptions of each
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
	shared := busMessage(bytes.Clone(msg)) // deliver does not change it
	for _, q := range queues {
		if q.offer(shared) == itemRefused {
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
	q := newQueue(maxBusQueue, func(m busMessage) { deliver(m) })
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.topics == nil {
		b.topics = make(map[string][]*queue[busMessage])
	}
	b.topics[topic] = append(b.topics[topic], q)
	return func() {
		q.drop()
		b.mu.Lock()
		defer b.mu.Unlock()
		b.topics[topic] = slices.DeleteFunc(b.topics[topic], func(other *queue[busMessage]) bool { return other == q })
		if len(b.topics[topic]) == 0 {
			delete(b.topics, topic)
		}
	}, nil
}
