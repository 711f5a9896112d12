package redisbus

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"

	"github.com/atrium-go/atrium"
	"github.com/redis/go-redis/v9"
)

// slots is over how many of a cluster's slots the topics are spread. More would spread better over a large cluster, and cost
// each hub as many connections.
const slots = 16

// Bus is an [atrium.Bus] over Redis. Its methods are safe for simultaneous use. It need not be closed: what it has of its
// own goes with the last subscription.
type Bus struct {
	client redis.UniversalClient
	prefix string
	local  *atrium.MemoryBus // spreads what comes, by channel
	shards bool
	// One of each, or one for each slot, so that a server of a cluster that is away does not hold up what goes by the others.
	lines      []*line
	publishers []*publisher
}

// Option is for New.
type Option func(*Bus)

// Prefix goes before every topic, in place of "atrium:". It keeps apart what shares a server: one for each application.
func Prefix(prefix string) Option { return func(b *Bus) { b.prefix = prefix } }

// Unsharded is for a cluster of servers without sharded pub/sub (Redis before version 7): every message goes to every
// server of the cluster then. All hubs must agree on it, which is why a Bus does not find out by itself.
func Unsharded() Option { return func(b *Bus) { b.shards = false } }

// New returns a Bus that uses the client, which stays the caller's to close. It panics if that is a [redis.Ring]: its
// servers know nothing of each other.
func New(client redis.UniversalClient, options ...Option) *Bus {
	b := &Bus{client: client, prefix: "atrium:", local: atrium.NewMemoryBus()}
	switch client.(type) {
	case *redis.ClusterClient:
		b.shards = true
	case *redis.Ring:
		panic("redisbus: a Ring cannot carry a Bus; use a Client or a ClusterClient")
	}
	for _, option := range options {
		option(b)
	}
	n, command := 1, "publish"
	if b.shards {
		n, command = slots, "spublish"
	}
	for range n {
		b.lines = append(b.lines, newLine(b))
		b.publishers = append(b.publishers, &publisher{client: client, command: command, bound: maxQueued / n})
	}
	return b
}

// Dropped counts the messages that were not delivered because a subscriber was too slow, and those that could not be sent
// after Publish had returned nil.
func (b *Bus) Dropped() uint64 {
	dropped := b.local.Dropped()
	for _, p := range b.publishers {
		dropped += p.lost.Load()
	}
	return dropped
}

// route gives the channel that stands for a topic at the broker, and which of the slots is its.
func (b *Bus) route(topic string) (channel string, slot uint32) {
	if !b.shards {
		return b.prefix + topic, 0
	}
	hash := fnv.New32a()
	hash.Write([]byte(topic))
	slot = hash.Sum32() % slots
	return fmt.Sprintf("{%s%d}%s", b.prefix, slot, topic), slot // only what is in braces decides on the slot
}

// Subscribe is as described for [atrium.Bus]: it waits until the broker has confirmed. While that cannot be reached, it
// tries until ctx ends, and the error then also says what the last attempt met with. A first message may be delivered
// before it returns.
func (b *Bus) Subscribe(ctx context.Context, topic string, deliver func(msg []byte)) (cancel func(), err error) {
	channel, slot := b.route(topic)
	stop, err := b.local.Subscribe(ctx, channel, deliver)
	if err != nil {
		return nil, err
	}
	leave, err := b.lines[slot].enter(ctx, channel)
	if err != nil {
		stop()
		return nil, fmt.Errorf("redisbus: subscribe: %w", err)
	}
	return sync.OnceFunc(func() {
		stop()
		leave()
	}), nil
}

// Publish is as described for [atrium.Bus]. It queues the message and returns nil; what is queued meanwhile is sent together.
// If the broker then does not take it, that is counted, and until it takes something again, Publish waits for what becomes
// of its own message, and returns the client's error: soon if the connection is refused, after the client's ReadTimeout
// (3 s) if nobody answers. When 16 MiB are queued, it waits for room. Neither wait outlasts ctx.
func (b *Bus) Publish(ctx context.Context, topic string, msg []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	channel, slot := b.route(topic)
	if err := b.publishers[slot].publish(ctx, channel, msg); err != nil {
		return fmt.Errorf("redisbus: publish: %w", err)
	}
	return nil
}
