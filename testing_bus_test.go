package atrium

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// houses are several hubs with one bus, each with a server.
type houses []struct {
	*Hub
	*server
}

// newHouses starts n hubs and waits until they know each other.
func newHouses(t testing.TB, k kind, n int, bus Bus, options Options) houses {
	t.Helper()
	options.Bus = bus
	all := make(houses, n)
	for i := range all {
		all[i].Hub = newHub(t, options)
		all[i].server = serve(t, k, all[i].Hub)
	}
	for _, h := range all {
		eventually(t, "the nodes to know each other", func() bool { return len(h.Nodes().List()) == n-1 })
		h.cluster.await(t.Context(), []string{everyNode, nodeTopic(h.node)})
	}
	return all
}

// spiedBus counts what is subscribed to and published.
type spiedBus struct {
	Bus
	mu        sync.Mutex
	topics    map[string]int
	published map[string]int
}

func newSpiedBus() *spiedBus {
	return &spiedBus{Bus: NewMemoryBus(), topics: make(map[string]int), published: make(map[string]int)}
}

func (b *spiedBus) Publish(ctx context.Context, topic string, msg []byte) error {
	b.mu.Lock()
	b.published[topic]++
	b.mu.Unlock()
	return b.Bus.Publish(ctx, topic, msg)
}

func (b *spiedBus) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	cancel, err := b.Bus.Subscribe(ctx, topic, deliver)
	if err != nil {
		return nil, err
	}
	b.change(topic, +1)
	var once sync.Once
	return func() { once.Do(func() { b.change(topic, -1) }); cancel() }, nil
}

func (b *spiedBus) change(topic string, by int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.topics[topic] += by
	if b.topics[topic] == 0 {
		delete(b.topics, topic)
	}
}

func (b *spiedBus) subscribed(topic string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.topics[topic]
}

// foreigner is a node by hand.
type foreigner struct {
	bus    Bus
	node   string
	number uint64
}

func (f *foreigner) send(topic string, m clusterMessage) {
	f.number++
	m.from = f.node
	b := m.encode()
	setClusterNumber(b, f.number)
	f.bus.Publish(context.Background(), topic, b)
}

// illBus does as it is told.
type illBus struct {
	Bus
	hangs atomic.Bool // calls wait until their contexts end
	fails atomic.Bool
}

var errIll = errors.New("ill")

func (b *illBus) sick(ctx context.Context) error {
	if b.hangs.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if b.fails.Load() {
		return errIll
	}
	return nil
}

func (b *illBus) Publish(ctx context.Context, topic string, msg []byte) error {
	if err := b.sick(ctx); err != nil {
		return err
	}
	return b.Bus.Publish(ctx, topic, msg)
}

func (b *illBus) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	if err := b.sick(ctx); err != nil {
		return nil, err
	}
	return b.Bus.Subscribe(ctx, topic, deliver)
}

// modestBus takes small messages only, as NATS does unless it is told otherwise.
type modestBus struct{ Bus }

func (b modestBus) Publish(ctx context.Context, topic string, msg []byte) error {
	if len(msg) > 1<<20 {
		return errors.New("too large")
	}
	return b.Bus.Publish(ctx, topic, msg)
}

// mutedBus takes what is published and keeps it while its subscriptions hang, as a client may that connects again.
type mutedBus struct {
	illBus
	muted atomic.Bool
}

func (b *mutedBus) Publish(ctx context.Context, topic string, msg []byte) error {
	if b.muted.Load() {
		return nil
	}
	return b.illBus.Publish(ctx, topic, msg)
}

// faultyBus repeats messages and brings them out of order, as no Bus should.
type faultyBus struct {
	Bus
	mu      sync.Mutex
	late    map[string][]byte
	inOrder bool
}

func (b *faultyBus) Publish(ctx context.Context, topic string, msg []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.inOrder && b.late[topic] == nil && rand.IntN(4) == 0 {
		b.late[topic] = bytes.Clone(msg)
		return nil
	}
	for range 1 + rand.IntN(3) {
		b.Bus.Publish(ctx, topic, msg)
	}
	if late := b.late[topic]; late != nil && rand.IntN(2) == 0 {
		b.Bus.Publish(ctx, topic, late)
		b.Bus.Publish(ctx, topic, late)
		delete(b.late, topic)
	}
	return nil
}

// heldBus holds back, or loses, what is published to one topic.
type heldBus struct {
	Bus
	mu    sync.Mutex // guards:
	topic string
	loses bool
	held  [][]byte
}

func (b *heldBus) Publish(ctx context.Context, topic string, msg []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if topic != b.topic {
		return b.Bus.Publish(ctx, topic, msg)
	}
	if !b.loses {
		b.held = append(b.held, bytes.Clone(msg))
	}
	return nil
}

func (b *heldBus) hold(topic string, loses bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.topic, b.loses = topic, loses
}

func (b *heldBus) release(t *testing.T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, msg := range b.held {
		if err := b.Bus.Publish(t.Context(), b.topic, msg); err != nil {
			t.Error(err)
		}
	}
	b.topic, b.held = "", nil
}

// forgetfulBus loses subscriptions, without a word.
type forgetfulBus struct {
	Bus
	mu   sync.Mutex // guards:
	lost map[string]*atomic.Bool
}

func (b *forgetfulBus) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	lost := new(atomic.Bool)
	b.mu.Lock()
	b.lost[topic] = lost
	b.mu.Unlock()
	return b.Bus.Subscribe(ctx, topic, func(msg []byte) {
		if !lost.Load() {
			deliver(msg)
		}
	})
}

func (b *forgetfulBus) lose(topic string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost[topic].Store(true)
}

// eagerBus brings messages for a while before Subscribe returns.
type eagerBus struct{ Bus }

func (b eagerBus) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	cancel, err := b.Bus.Subscribe(ctx, topic, deliver)
	time.Sleep(2 * nodeHeartbeat)
	return cancel, err
}

// refusingBus takes what is published and refuses every subscription.
type refusingBus struct {
	Bus
	refuses atomic.Bool
}

func (b *refusingBus) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	if b.refuses.Load() {
		return nil, errForbidden
	}
	return b.Bus.Subscribe(ctx, topic, deliver)
}

// queueingBus accepts what is published and sends it when it is flushed.
type queueingBus struct {
	*MemoryBus
	mu     sync.Mutex // guards:
	queued []outgoing
	hangs  bool // Flush waits until its context ends
}

func (b *queueingBus) Publish(_ context.Context, topic string, msg []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queued = append(b.queued, outgoing{topic: topic, msg: msg})
	return nil
}

func (b *queueingBus) Flush(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	for _, o := range b.queued {
		if err := b.MemoryBus.Publish(ctx, o.topic, o.msg); err != nil {
			return err
		}
	}
	b.queued = nil
	return nil
}

// panickingBus is a Bus of the application that panics.
type panickingBus struct{}

func (panickingBus) Publish(context.Context, string, []byte) error { panic("publish oops") }

func (panickingBus) Subscribe(context.Context, string, func([]byte)) (func(), error) {
	panic("subscribe oops")
}

// recordingBus keeps the deliver functions that it was given, and goes on calling them after cancel for as long as a
// connection may take to hear of it.
type recordingBus struct {
	mu      sync.Mutex
	deliver []func([]byte)
}

func (b *recordingBus) Publish(context.Context, string, []byte) error { return nil }

func (b *recordingBus) Subscribe(_ context.Context, _ string, deliver func([]byte)) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deliver = append(b.deliver, deliver)
	return func() {}, nil
}

// newTopics returns topics without a cluster.
func newTopics(bus Bus, deliver func(*topic, []byte)) *topics {
	return &topics{bus: bus, clock: newWheel(time.Second), linger: minLinger, deliver: deliver, outcome: func(string, error) {},
		begun: func(string) {}, ctx: context.Background(), byName: make(map[string]*topic)}
}
