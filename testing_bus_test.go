package atrium

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// testCluster is several hubs with one bus, each with a server.
type testCluster []struct {
	*Hub
	*server
}

// newTestCluster starts n hubs and waits until they know each other.
func newTestCluster(t testing.TB, k kind, n int, bus Bus, options Options) testCluster {
	t.Helper()
	options.Bus = bus
	all := make(testCluster, n)
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

// scriptedBus is a Bus that the test interferes with: it fails or hangs, and its calls go to
// publish and subscribe where these are set.
type scriptedBus struct {
	Bus
	fails atomic.Bool // calls return errScripted
	hangs atomic.Bool // calls wait until their contexts end

	publish   func(ctx context.Context, topic string, msg []byte) error
	subscribe func(ctx context.Context, topic string, deliver func([]byte)) (cancel func(), err error)
}

var errScripted = errors.New("scripted")

func (b *scriptedBus) check(ctx context.Context) error {
	if b.hangs.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if b.fails.Load() {
		return errScripted
	}
	return nil
}

func (b *scriptedBus) Publish(ctx context.Context, topic string, msg []byte) error {
	if err := b.check(ctx); err != nil {
		return err
	}
	if b.publish != nil {
		return b.publish(ctx, topic, msg)
	}
	return b.Bus.Publish(ctx, topic, msg)
}

func (b *scriptedBus) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	if err := b.check(ctx); err != nil {
		return nil, err
	}
	if b.subscribe != nil {
		return b.subscribe(ctx, topic, deliver)
	}
	return b.Bus.Subscribe(ctx, topic, deliver)
}

// subscriptions counts those of a Bus, by topic.
type subscriptions struct {
	mu     sync.Mutex
	counts map[string]int
}

// newCountedBus returns a Bus and the count of its subscriptions.
func newCountedBus() (*scriptedBus, *subscriptions) {
	memory, subs := new(MemoryBus), &subscriptions{counts: make(map[string]int)}
	subscribe := func(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
		cancel, err := memory.Subscribe(ctx, topic, deliver)
		if err != nil {
			return nil, err
		}
		subs.add(topic, 1)
		return sync.OnceFunc(func() { subs.add(topic, -1); cancel() }), nil
	}
	return &scriptedBus{Bus: memory, subscribe: subscribe}, subs
}

func (s *subscriptions) add(topic string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts[topic] += n; s.counts[topic] == 0 {
		delete(s.counts, topic)
	}
}

func (s *subscriptions) to(topic string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[topic]
}

// fakeNode is a node by hand.
type fakeNode struct {
	bus    Bus
	node   string
	number uint64
}

func (f *fakeNode) send(topic string, m clusterMessage) {
	f.number++
	m.from = f.node
	b := m.encode()
	setClusterNumber(b, f.number)
	f.bus.Publish(context.Background(), topic, b)
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

// newTopics returns topics without a cluster.
func newTopics(bus Bus, deliver func(*topic, []byte)) *topics {
	return &topics{bus: bus, clock: newWheel(time.Second), linger: minLinger, deliver: deliver, attempted: func(string, error) {},
		subscribed: func(string) {}, ctx: context.Background(), byName: make(map[string]*topic)}
}
