package bustest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

// with calls run with an env and checks that nothing is left afterwards.
func with(t *testing.T, join func(t testing.TB) atrium.Bus, run func(k *env)) {
	leaks := watchGoroutines()
	t.Cleanup(func() { leaks.check(t) }) // last, after join's
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	k := &env{T: t, ctx: ctx, joinFor: func(t testing.TB) atrium.Bus {
		bus := join(t)
		leaks.of(bus)
		return bus
	}}
	defer k.cancelAll()
	run(k)
}

// Patience is how long these tests wait for what a working Bus does at once, on the slowest
// machine.
const Patience = 2 * time.Minute

// env is the environment of a subtest.
type env struct {
	*testing.T
	ctx     context.Context
	joinFor func(t testing.TB) atrium.Bus // its client is closed when t ends

	mu      sync.Mutex // guards:
	cancels []func()
}

// join returns the Bus of another hub, until the end of the subtest.
func (k *env) join() atrium.Bus { return k.joinFor(k.T) }

// topic returns a topic that no other test uses.
func (k *env) topic(name string) string {
	return fmt.Sprintf("%s %s %x", k.Name(), name, rand.Uint64())
}

func (k *env) publish(bus atrium.Bus, topic, msg string) {
	k.Helper()
	if err := bus.Publish(k.ctx, topic, []byte(msg)); err != nil {
		k.Errorf("Publish to %q: %v", topic, err)
	}
}

// subscribe subscribes until the end of the subtest or cancel.
func (k *env) subscribe(bus atrium.Bus, topic string, deliver func(msg []byte)) (cancel func()) {
	k.Helper()
	cancel, err := bus.Subscribe(k.ctx, topic, deliver)
	if err != nil {
		k.Errorf("Subscribe to %q: %v", topic, err)
		return func() {}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cancels = append(k.cancels, cancel)
	return cancel
}

func (k *env) cancelAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, cancel := range k.cancels {
		cancel()
	}
}

// collect subscribes and collects the messages.
func (k *env) collect(bus atrium.Bus, topic string) *collector {
	k.Helper()
	e := &collector{k: k, topic: topic, signal: make(chan struct{}, 1)}
	e.cancel = k.subscribe(bus, topic, e.deliver)
	return e
}

func (k *env) await(what string, done <-chan struct{}) {
	k.Helper()
	select {
	case <-done:
	case <-k.ctx.Done():
		k.Fatalf("waited in vain for %s", what)
	}
}

// collector is a subscription that keeps its messages.
type collector struct {
	k      *env
	topic  string
	cancel func()
	signal chan struct{} // has a token after a delivery

	mu        sync.Mutex // guards:
	messages  []string
	inDeliver bool
}

func (e *collector) deliver(msg []byte) {
	e.mu.Lock()
	if e.inDeliver {
		e.k.Errorf("%q: deliver is called while it runs", e.topic)
	}
	e.inDeliver = true
	e.mu.Unlock()

	text := string(msg)

	e.mu.Lock()
	e.inDeliver = false
	e.messages = append(e.messages, text)
	e.mu.Unlock()
	select {
	case e.signal <- struct{}{}:
	default:
	}
}

// received returns the messages so far.
func (e *collector) received() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.messages[:len(e.messages):len(e.messages)]
}

// waitCount waits until there are n messages, and returns all.
func (e *collector) waitCount(n int) []string {
	e.k.Helper()
	for {
		if heard := e.received(); len(heard) >= n {
			return heard
		}
		select {
		case <-e.signal:
		case <-e.k.ctx.Done():
			e.k.Fatalf("%q: %d of %d messages came", e.topic, len(e.received()), n)
		}
	}
}

// waitMessage waits until msg is among the messages, and returns all.
func (e *collector) waitMessage(msg string) []string {
	e.k.Helper()
	for n := 1; ; n++ {
		if heard := e.waitCount(n); slices.Contains(heard, msg) {
			return heard
		}
	}
}

// expect checks that exactly these messages arrive. To show that no other follows it publishes one
// more, as the same publisher.
func (e *collector) expect(from atrium.Bus, want ...string) {
	e.k.Helper()
	const end = "that was all"
	e.k.publish(from, e.topic, end)
	want = append(want, end)
	got := e.waitCount(len(want))
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			e.k.Fatalf("%q: %d messages came, %d are wanted; number %d differs", e.topic, len(got), len(want), i)
		}
	}
}

// Eventually waits until check returns nil. After Patience it fails the test with the error of
// check.
func Eventually(t testing.TB, check func() error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Patience); ; <-tick.C {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// await is Eventually for a condition.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	Eventually(t, func() error {
		if !holds() {
			return fmt.Errorf("timed out waiting for %s", what)
		}
		return nil
	})
}
