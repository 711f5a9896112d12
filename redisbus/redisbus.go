package redisbus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/redis/go-redis/v9"
)

const (
	clusterSlots = 16                      // over how many of a cluster's slots the topics are spread, each with its own connection
	maxQueued    = 1 << 20                 // bytes that wait to be published, for each slot; a single message may be larger
	pulse        = 1500 * time.Millisecond // after what silence the broker is asked whether it is there; after twice that, it is not
)

// Bus is an [atrium.Bus] over Redis. Its methods are safe for simultaneous use. It need not be closed: what it has of its
// own goes with the last subscription.
type Bus struct {
	client redis.UniversalClient
	prefix string
	shards bool
	local  *atrium.MemoryBus // spreads what comes, by channel
	lost   atomic.Uint64     // messages
	slots  []*slot

	// The commands.
	publish                string
	subscribe, unsubscribe func(*redis.PubSub, context.Context, ...string) error
}

// Option is for New.
type Option func(*Bus)

// Prefix goes before every topic, in place of "atrium:". It keeps apart what shares a server: one for each application. It may
// be any text; but with sharded pub/sub New panics if there is a "}" in it, which would end what decides on the server.
func Prefix(prefix string) Option { return func(b *Bus) { b.prefix = prefix } }

// Unsharded is for a cluster of servers without sharded pub/sub (Redis before version 7): every message goes to every
// server of the cluster then. All hubs must agree on it, which is why a Bus does not find out by itself.
func Unsharded() Option { return func(b *Bus) { b.shards = false } }

// New returns a Bus that uses the client, which stays the caller's to close. It panics if that is a [redis.Ring]: its
// servers know nothing of each other, or if a [Prefix] cannot be used.
func New(client redis.UniversalClient, options ...Option) *Bus {
	if _, ring := client.(*redis.Ring); ring {
		panic("redisbus: a Ring cannot carry a Bus; use a Client or a ClusterClient")
	}
	b := &Bus{client: client, prefix: "atrium:", local: atrium.NewMemoryBus()}
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

// Dropped counts the messages that were not delivered because a subscriber was too slow, and those that were queued and
// could not be published.
func (b *Bus) Dropped() uint64 { return b.local.Dropped() + b.lost.Load() }

// route gives the slot of a topic, and the channel that stands for it at the broker.
func (b *Bus) route(topic string) (s *slot, channel string) {
	if !b.shards {
		return b.slots[0], b.prefix + topic
	}
	hash := fnv.New32a()
	hash.Write([]byte(topic))
	n := hash.Sum32() % clusterSlots
	return b.slots[n], fmt.Sprintf("{%s%d}%s", b.prefix, n, topic) // what is in braces alone decides on the server
}

// Publish is as described for [atrium.Bus]. It queues the message; what is queued while the broker answers goes to it
// together. If it did not take the last ones, Publish returns the client's error. If 1 MiB is queued, it waits for room.
func (b *Bus) Publish(ctx context.Context, topic string, msg []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, channel := b.route(topic)
	command := once{redis.NewIntCmd(context.Background(), b.publish, channel, bytes.Clone(msg))}
	command.SetFirstKeyPos(1) // the channel: also an unsharded one goes always to the same server of a cluster, for the order
	size := len(msg) + 128    // for what it costs beside its bytes
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
		return fmt.Errorf("redisbus: publish: %w", s.refused)
	}
	return nil
}

// Flush is as described for [atrium.BusFlusher]: it waits until the broker has answered all that is queued. Its error says
// how many messages could not be sent, or are in doubt because the connection broke, and why.
func (b *Bus) Flush(ctx context.Context) error {
	var failed []error
	for _, s := range b.slots {
		if err := s.flush(ctx); err != nil {
			failed = append(failed, fmt.Errorf("redisbus: flush: %w", err))
		}
	}
	return errors.Join(failed...)
}

// Subscribe is as described for [atrium.Bus]: it waits until the broker has confirmed. While that cannot be reached, it
// tries until ctx ends, and the error then also says what the last attempt met with; a broker that refuses the channel by
// its access rules ends it at once. A first message may be delivered before it returns.
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
		return nil, fmt.Errorf("redisbus: subscribe: %w", err)
	}
	return cancel, nil
}

// slot has some of a cluster's topics, or all of a server's. They do not depend on what happens to those of other slots.
type slot struct {
	bus *Bus

	changed *sync.Cond // of mu: there is something new for those who wait
	mu      sync.Mutex // guards:

	channels  map[string]*channel
	listening bool          // listen runs: while there are channels
	pubsub    *redis.PubSub // nil while there is no connection
	broken    error         // why

	queue    redis.Pipeliner
	queued   int    // bytes of queue
	sending  bool   // send runs: while there is a queue
	accepted uint64 // messages, in all
	answered uint64 // of these, by the broker or with a failure
	lost     uint64 // of these, with a failure
	told     uint64 // of the lost, those that Publish or Flush has told of
	failure  error  // the last
	refused  error  // by the broker: what was sent last
}

// channel is one that has subscriptions, or whose end the broker has not confirmed.
type channel struct {
	subscriptions int
	there         bool // the broker has confirmed it
	told          bool // the broker has been told to begin or to end it, one at a time, and has not confirmed
}

// wait waits for something new, or until ctx ends. s.mu is held, though not meanwhile.
func (s *slot) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock() // or it could come before Wait
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	s.changed.Wait()
	return ctx.Err()
}

// send publishes what is queued, until nothing is.
func (s *slot) send() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.queued > 0 {
		batch := s.queue
		s.queue, s.queued = s.bus.client.Pipeline(), 0
		s.changed.Broadcast()
		s.mu.Unlock()
		commands, err := batch.Exec(context.Background()) // the client has limits of its own
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

// flush waits until the broker has answered what is queued.
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

// once is a command that the client does not repeat when it cannot know whether it has taken place.
type once struct{ *redis.IntCmd }

// NoRetry is what the client asks.
func (once) NoRetry() bool { return true }

// enter counts a subscription in, whatever it returns.
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

func (s *slot) leave(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.channels[name]
	c.subscriptions--
	s.settle(name, c)
}

// settle tells the broker of a channel that is wanted and not there, or the other way round. s.mu is held.
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
	go func() { // it may take the client time
		if err := tell(pubsub, context.Background(), name); err != nil {
			pubsub.Close()
		}
	}()
}

// listen has one connection after the other while there are channels. The client would make a new one by itself; but not
// when the broker is silent or a channel has moved to another server, and it does not say what has become of the commands
// that were on their way. So whatever goes wrong, the next connection begins with all channels.
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
			time.Sleep(rand.N(time.Second)) // at random, lest all hubs come at once
		}
		if cluster, ok := s.bus.client.(*redis.ClusterClient); ok {
			cluster.ReloadState(context.Background()) // there may be another server to turn to
		}
		err := s.connection(names)
		s.mu.Lock()
		s.pubsub, s.broken = nil, err
		s.changed.Broadcast()
	}
}

// connection makes one and stays with it until it breaks, or is of no use any more: then it returns nil.
func (s *slot) connection(names []string) error {
	pubsub := s.bus.client.Subscribe(context.Background()) // connects with the first command
	defer pubsub.Close()
	if err := s.bus.subscribe(pubsub, context.Background(), names...); err != nil {
		return err
	}
	s.mu.Lock()
	s.pubsub = pubsub
	for name, c := range s.channels { // some have come meanwhile
		s.settle(name, c)
	}
	s.mu.Unlock()

	ping := time.AfterFunc(pulse, func() { pubsub.Ping(context.Background()) })
	defer ping.Stop()
	silence := time.AfterFunc(2*pulse, func() { pubsub.Close() })
	defer silence.Stop()
	for {
		received, err := pubsub.Receive(context.Background())
		if err != nil {
			return err
		}
		ping.Reset(pulse)
		silence.Reset(2 * pulse)
		switch received := received.(type) {
		case *redis.Message:
			s.bus.local.Publish(context.Background(), received.Channel, []byte(received.Payload)) // never fails with this context
		case *redis.Subscription:
			if !s.confirm(received) {
				return nil
			}
		}
	}
}

// confirm takes note that a channel has come or gone. It reports whether the connection is still of use.
func (s *slot) confirm(what *redis.Subscription) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.channels[what.Channel]
	if c == nil || !c.told {
		return false // unasked: the slot has moved to another server
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
