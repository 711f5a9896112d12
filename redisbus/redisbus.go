package redisbus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/redis/go-redis/v9"
)

const (
	// clusterSlots is the number of a cluster's slots that topics are spread over. Each has a
	// connection.
	clusterSlots = 16
	// maxQueued bounds the bytes that wait to be published, for each slot. A single message may be
	// larger.
	maxQueued = 1 << 20
	// pingInterval is the silence of the broker after which it is sent a PING. After twice that the
	// connection is given up.
	pingInterval = 1500 * time.Millisecond
)

// Bus is an [atrium.Bus] over Redis. Its methods are safe for concurrent use. It need not be
// closed: its goroutines and connections end with the last subscription.
type Bus struct {
	client redis.UniversalClient
	prefix string
	shards bool
	local  *atrium.MemoryBus // delivers messages by channel
	lost   atomic.Uint64     // messages that were not published
	slots  []*slot

	// Commands, for sharded pub/sub or not.
	publish                string
	subscribe, unsubscribe func(*redis.PubSub, context.Context, ...string) error
}

// Option is an option of [New].
type Option func(*Bus)

// Prefix sets the prefix of all channels, "atrium:" by default. Applications that share a server
// need different ones. It may be any text, except that with sharded pub/sub New panics if it
// contains "}", which ends the hash tag.
func Prefix(prefix string) Option { return func(b *Bus) { b.prefix = prefix } }

// Unsharded is for a cluster without sharded pub/sub (Redis before version 7): every message is
// sent to every server of the cluster. All hubs must use the same setting, so a Bus does not detect
// it.
func Unsharded() Option { return func(b *Bus) { b.shards = false } }

// New returns a Bus that uses the client. The caller closes the client. New panics if the client is
// a [redis.Ring], whose servers do not know each other, or if the [Prefix] is invalid.
func New(client redis.UniversalClient, options ...Option) *Bus {
	if _, ring := client.(*redis.Ring); ring {
		panic("redisbus: a Ring cannot carry a Bus; use a Client or a ClusterClient")
	}
	b := &Bus{client: client, prefix: "atrium:", local: new(atrium.MemoryBus)}
	_, b.shards = client.(*redis.ClusterClient)
	for _, option := range options {
		option(b)
	}
	if b.shards && strings.Contains(b.prefix, "}") {
		panic(fmt.Sprintf(`redisbus: prefix: expected a text without "}", which ends a cluster's hash tag, got %q`, b.prefix))
	}
	n := 1
	b.publish, b.subscribe, b.unsubscribe = "publish", (*redis.PubSub).Subscribe, (*redis.PubSub).Unsubscribe
	if b.shards {
		n = clusterSlots
		b.publish, b.subscribe, b.unsubscribe = "spublish", (*redis.PubSub).SSubscribe, (*redis.PubSub).SUnsubscribe
	}
	for range n {
		s := &slot{bus: b, channels: make(map[string]*channel), queue: client.Pipeline()}
		s.changed = sync.NewCond(&s.mu)
		b.slots = append(b.slots, s)
	}
	return b
}

// Dropped returns how many messages were not delivered because a subscriber was too slow, or were
// queued and could not be published.
func (b *Bus) Dropped() uint64 { return b.local.Dropped() + b.lost.Load() }

// route returns the slot of a topic, and its channel at the broker.
func (b *Bus) route(topic string) (s *slot, channel string) {
	if !b.shards {
		return b.slots[0], b.prefix + topic
	}
	hash := fnv.New32a()
	hash.Write([]byte(topic))
	n := hash.Sum32() % clusterSlots
	// The text in braces is the hash tag, which determines the server.
	return b.slots[n], fmt.Sprintf("{%s%d}%s", b.prefix, n, topic)
}

// Publish implements [atrium.Bus]. It queues the message; messages that are queued while the broker
// responds are sent together. If the broker refused the last ones, Publish returns the client's
// error. If 1 MiB is queued, it waits.
func (b *Bus) Publish(ctx context.Context, topic string, msg []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, channel := b.route(topic)
	command := once{redis.NewIntCmd(context.Background(), b.publish, channel, bytes.Clone(msg))}
	// The channel is the key: also an unsharded one is always sent to the same server of a cluster,
	// which keeps the order.
	command.SetFirstKeyPos(1)
	size := len(msg) + 128 // with its overhead
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.queued > 0 && s.queued+size > maxQueued {
		if err := s.wait(ctx); err != nil {
			return err
		}
	}
	s.queue.Process(context.Background(), command)
	s.queued += size
	s.accepted++
	if !s.sending {
		s.sending = true
		go s.send()
	}
	if s.refused != nil {
		s.told = s.lost
		return fmt.Errorf("redisbus: publish: %w", forbidden(s.refused))
	}
	return nil
}

// Flush implements [atrium.BusFlusher]: it waits until the broker has responded to all queued
// messages. Its error says how many messages could not be sent, or may not have been because the
// connection broke, and why.
func (b *Bus) Flush(ctx context.Context) error {
	var failed []error
	for _, s := range b.slots {
		if err := s.flush(ctx); err != nil {
			failed = append(failed, fmt.Errorf("redisbus: flush: %w", forbidden(err)))
		}
	}
	return errors.Join(failed...)
}

// Subscribe implements [atrium.Bus]: it waits until the broker has confirmed the subscription.
// While the broker cannot be reached, it retries until ctx ends; its error then includes that of
// the last attempt. It fails at once if the access rules of the broker refuse the channel. The
// first messages may be delivered before it returns.
func (b *Bus) Subscribe(ctx context.Context, topic string, deliver func(msg []byte)) (cancel func(), err error) {
	s, channel := b.route(topic)
	stop, err := b.local.Subscribe(ctx, channel, deliver)
	if err != nil {
		return nil, err
	}
	cancel = sync.OnceFunc(func() {
		stop()
		s.leave(channel)
	})
	if err := s.enter(ctx, channel); err != nil {
		cancel()
		return nil, fmt.Errorf("redisbus: subscribe: %w", forbidden(err))
	}
	return cancel, nil
}

// forbidden makes an error match fs.ErrPermission if it is that of the broker's access rules, so
// that the hub can tell it apart.
func forbidden(err error) error {
	if redis.HasErrorPrefix(err, "NOPERM") {
		return fmt.Errorf("%w: %w", fs.ErrPermission, err)
	}
	return err
}

// slot has the topics of one slot of a cluster, or all topics of a single server. Slots are
// independent.
type slot struct {
	bus *Bus

	changed *sync.Cond // of mu; broadcasts each change of the fields below
	mu      sync.Mutex // guards:

	channels  map[string]*channel
	listening bool          // listen runs, while there are channels
	pubsub    *redis.PubSub // nil while there is no connection
	broken    error         // why the last connection ended

	queue    redis.Pipeliner
	queued   int    // bytes of queue
	sending  bool   // send runs, while messages are queued
	accepted uint64 // messages by Publish
	answered uint64 // of these, acknowledged by the broker or failed
	lost     uint64 // of these, failed
	told     uint64 // of the lost, reported by Publish or Flush
	failure  error  // the last one
	refused  error  // of the last batch; nil if the broker took it
}

// channel is a channel with subscriptions, or whose unsubscription the broker has not confirmed.
type channel struct {
	subscriptions int
	there         bool // the broker has confirmed the subscription
	told          bool // a subscribe or unsubscribe was sent and not confirmed
}

// wait waits for a change, or until ctx ends. s.mu is held before and after.
func (s *slot) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock() // so that it does not precede Wait
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	s.changed.Wait()
	return ctx.Err()
}

// send publishes queued messages until there are none.
func (s *slot) send() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.queued > 0 {
		batch := s.queue
		s.queue, s.queued = s.bus.client.Pipeline(), 0
		s.changed.Broadcast()
		s.mu.Unlock()
		commands, err := batch.Exec(context.Background()) // the client has its own time-outs
		lost := uint64(0)
		for _, command := range commands {
			if command.Err() != nil {
				lost++
			}
		}
		s.bus.lost.Add(lost)
		s.mu.Lock()
		s.answered += uint64(len(commands))
		s.lost += lost
		if s.refused = err; err != nil {
			s.failure = err
		}
		s.changed.Broadcast()
	}
	s.sending = false
}

// flush waits until the broker has responded to all queued messages.
func (s *slot) flush(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.told
	for last := s.accepted; s.answered < last; {
		if err := s.wait(ctx); err != nil {
			return fmt.Errorf("%d messages are still to be sent: %w", last-min(last, s.answered), err)
		}
	}
	if lost := s.lost - told; lost > 0 {
		s.told = s.lost
		return fmt.Errorf("%d messages could not be sent: %w", lost, s.failure)
	}
	return nil
}

// once is a command that the client does not retry, since it may have been executed.
type once struct{ *redis.IntCmd }

// NoRetry tells the client not to retry.
func (once) NoRetry() bool { return true }

// enter counts a new subscription, also if it returns an error, and waits until it is confirmed.
func (s *slot) enter(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.channels[name]
	if c == nil {
		c = new(channel)
		s.channels[name] = c
	}
	c.subscriptions++
	s.settle(name, c)
	if !s.listening {
		s.listening = true
		go s.listen()
	}
	for !c.there || c.told {
		if err := s.wait(ctx); err != nil {
			return errors.Join(err, s.broken)
		}
		if redis.HasErrorPrefix(s.broken, "NOPERM") {
			return s.broken
		}
	}
	return nil
}

// leave undoes enter.
func (s *slot) leave(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.channels[name]
	c.subscriptions--
	s.settle(name, c)
}

// settle subscribes to the channel if it is wanted, or unsubscribes if it is not, unless that has
// been done. s.mu is held.
func (s *slot) settle(name string, c *channel) {
	pubsub, wanted := s.pubsub, c.subscriptions > 0
	if pubsub == nil || c.told || c.there == wanted {
		return
	}
	c.told = true
	tell := s.bus.subscribe
	if !wanted {
		tell = s.bus.unsubscribe
	}
	go func() { // it may block
		if err := tell(pubsub, context.Background(), name); err != nil {
			pubsub.Close()
		}
	}()
}

// listen opens one connection after the other while there are channels. The client can reconnect by
// itself, but not if the broker is silent or a channel has moved to another server, and it does not
// report which commands were lost. So after any error the next connection begins with all channels.
func (s *slot) listen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		var names []string
		for name, c := range s.channels {
			if c.there, c.told = false, true; c.subscriptions > 0 {
				names = append(names, name)
			} else {
				delete(s.channels, name)
			}
		}
		if s.listening = len(names) > 0; !s.listening {
			return
		}
		failed := s.broken != nil
		s.mu.Unlock()
		if failed {
			time.Sleep(rand.N(time.Second)) // random, so that not all hubs reconnect at once
		}
		if cluster, ok := s.bus.client.(*redis.ClusterClient); ok {
			cluster.ReloadState(context.Background()) // the slot may be on another server
		}
		err := s.connection(names)
		s.mu.Lock()
		s.pubsub, s.broken = nil, err
		s.changed.Broadcast()
	}
}

// connection opens a connection with the channels and reads it until it breaks. It returns nil if
// the connection is no longer needed.
func (s *slot) connection(names []string) error {
	pubsub := s.bus.client.Subscribe(context.Background()) // connects with the first command
	defer pubsub.Close()
	if err := s.bus.subscribe(pubsub, context.Background(), names...); err != nil {
		return err
	}
	s.mu.Lock()
	s.pubsub = pubsub
	for name, c := range s.channels { // new ones since names was made
		s.settle(name, c)
	}
	s.mu.Unlock()

	ping := time.AfterFunc(pingInterval, func() { pubsub.Ping(context.Background()) })
	defer ping.Stop()
	silence := time.AfterFunc(2*pingInterval, func() { pubsub.Close() })
	defer silence.Stop()
	for {
		received, err := pubsub.Receive(context.Background())
		if err != nil {
			return err
		}
		ping.Reset(pingInterval)
		silence.Reset(2 * pingInterval)
		switch received := received.(type) {
		case *redis.Message:
			// It never fails with this context.
			s.bus.local.Publish(context.Background(), received.Channel, []byte(received.Payload))
		case *redis.Subscription:
			if !s.confirm(received) {
				return nil
			}
		}
	}
}

// confirm processes the confirmation of a subscription or its end. It reports whether the
// connection is still needed.
func (s *slot) confirm(what *redis.Subscription) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.channels[what.Channel]
	if c == nil || !c.told {
		return false // not requested: the slot has moved to another server
	}
	c.there, c.told = !strings.HasSuffix(what.Kind, "unsubscribe"), false
	s.settle(what.Channel, c)
	if !c.there && !c.told {
		delete(s.channels, what.Channel)
	}
	s.broken = nil
	s.changed.Broadcast()
	return len(s.channels) > 0
}
