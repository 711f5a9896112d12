package redisbus

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"

	"github.com/atrium-go/atrium"
	"github.com/redis/go-redis/v9"
)

// maxQueued bounds the bytes that wait to be published, and once more those that are on their way.
const maxQueued = 16 << 20

// slots is over how many of a cluster's slots the topics are spread. More would spread better over a large cluster, and cost
// each hub as many connections.
const slots = 16

// Bus is an [atrium.Bus] over Redis. Its methods are safe for simultaneous use. It need not be closed: what it has of its
// own goes with the last subscription.
type Bus struct {
	client redis.UniversalClient
	prefix string
	local  *atrium.MemoryBus // spreads what comes, by channel
	lines  []*line           // over which it comes: one, or one for each slot
	shards bool
	lost   atomic.Uint64

	mu      sync.Mutex // guards:
	queue   []*publication
	queued  int           // bytes of queue
	taken   chan struct{} // closed when the queue is taken; nil while nobody waits for that
	sending bool          // the goroutine exists
	failing bool          // the last that was sent failed
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
	b.lines = []*line{newLine(b)}
	for b.shards && len(b.lines) < slots {
		b.lines = append(b.lines, newLine(b))
	}
	return b
}

// Dropped counts the messages that were not delivered because a subscriber was too slow, and those that could not be sent
// after Publish had returned nil.
func (b *Bus) Dropped() uint64 { return b.local.Dropped() + b.lost.Load() }

// route is what stands for a topic at the broker, and the line over which it comes.
func (b *Bus) route(topic string) (channel string, l *line) {
	if !b.shards {
		return b.prefix + topic, b.lines[0]
	}
	hash := fnv.New32a()
	hash.Write([]byte(topic))
	slot := hash.Sum32() % slots
	return fmt.Sprintf("{%s%d}%s", b.prefix, slot, topic), b.lines[slot] // only what is in braces decides on the slot
}

// Subscribe is as described for [atrium.Bus]: it waits until the broker has confirmed. While that cannot be reached, it
// tries until ctx ends, and the error then also says what the last attempt met with. A first message may be delivered
// before it returns.
func (b *Bus) Subscribe(ctx context.Context, topic string, deliver func(msg []byte)) (cancel func(), err error) {
	channel, line := b.route(topic)
	stop, err := b.local.Subscribe(ctx, channel, deliver)
	if err != nil {
		return nil, err
	}
	leave, err := line.enter(ctx, channel)
	if err != nil {
		stop()
		return nil, fmt.Errorf("redisbus: subscribe: %w", err)
	}
	return sync.OnceFunc(func() {
		stop()
		leave()
	}), nil
}

// publication is a message to be sent.
type publication struct {
	ctx     context.Context // if it ends before, the message is not sent; nil once Publish has returned nil
	channel string
	msg     []byte
	result  chan error // if Publish waits for it
}

// Publish is as described for [atrium.Bus]. It queues the message and returns nil; what is queued meanwhile is sent together.
// If the broker then does not take it, that is counted, and until it takes something again, Publish waits for what becomes
// of its own message, and returns the client's error: at once if the connection is refused, after the client's ReadTimeout
// (3 s) if nobody answers. When 16 MiB are queued, it waits for room. Neither wait outlasts ctx.
func (b *Bus) Publish(ctx context.Context, topic string, msg []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	channel, _ := b.route(topic)
	p := &publication{channel: channel, msg: bytes.Clone(msg)}
	b.mu.Lock()
	for b.queued > 0 && b.queued+len(msg) > maxQueued {
		if b.taken == nil {
			b.taken = make(chan struct{})
		}
		taken := b.taken
		b.mu.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			return fmt.Errorf("redisbus: publish: 16 MiB wait already: %w", ctx.Err())
		}
		b.mu.Lock()
	}
	if b.failing {
		p.ctx, p.result = ctx, make(chan error, 1)
	}
	b.queue = append(b.queue, p)
	b.queued += len(msg)
	if !b.sending {
		b.sending = true
		go b.send()
	}
	b.mu.Unlock()
	if p.result == nil {
		return nil
	}
	select {
	case err := <-p.result:
		if err != nil {
			return fmt.Errorf("redisbus: publish: %w", err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send sends what is queued, all at once, until nothing is.
func (b *Bus) send() {
	for {
		b.mu.Lock()
		batch := b.queue
		b.queue, b.queued = nil, 0
		if b.taken != nil {
			close(b.taken)
			b.taken = nil
		}
		b.sending = len(batch) > 0
		b.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		b.sendBatch(batch)
	}
}

func (b *Bus) sendBatch(batch []*publication) {
	publish := "publish"
	if b.shards {
		publish = "spublish"
	}
	ctx := context.Background() // of several callers; the client has its own limits
	pipe := b.client.Pipeline()
	commands := make([]once, len(batch))
	for i, p := range batch {
		if p.ctx != nil && p.ctx.Err() != nil {
			continue // nobody waits for it any more
		}
		commands[i] = once{redis.NewIntCmd(ctx, publish, p.channel, p.msg)}
		commands[i].SetFirstKeyPos(1) // the channel decides who is asked, so that order is kept within it
		pipe.Process(ctx, commands[i])
	}
	if pipe.Len() > 0 {
		_, err := pipe.Exec(ctx)
		b.mu.Lock()
		b.failing = err != nil
		b.mu.Unlock()
	}
	for i, p := range batch {
		var err error
		if commands[i].IntCmd == nil {
			err = p.ctx.Err()
		} else {
			err = commands[i].Err()
		}
		if p.result != nil {
			p.result <- err
		} else if err != nil {
			b.lost.Add(1)
		}
	}
}

// once is a command that the client does not repeat when it cannot know whether the first took place.
type once struct{ *redis.IntCmd }

// NoRetry is what the client asks.
func (once) NoRetry() bool { return true }
