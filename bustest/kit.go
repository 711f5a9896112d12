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

// with makes a kit, has it used, and sees that nothing is left.
func with(t *testing.T, join func(t testing.TB) atrium.Bus, run func(k *kit)) {
	leaks := watchGoroutines()
	t.Cleanup(func() { leaks.check(t) }) // last, after join's
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	k := &kit{T: t, ctx: ctx, joinFor: func(t testing.TB) atrium.Bus {
		bus := join(t)
		leaks.of(bus)
		return bus
	}}
	defer k.cancelAll()
	run(k)
}

// Patience is how long these tests wait for what a working Bus does at once, on the slowest machine.
const Patience = 2 * time.Minute

// kit is what a subtest works with.
type kit struct {
	*testing.T
	ctx     context.Context
	joinFor func(t testing.TB) atrium.Bus // its client is closed when t ends

	mu      sync.Mutex // guards:
	cancels []func()
}

// join returns another hub's Bus, for as long as the subtest takes.
func (k *kit) join() atrium.Bus { return k.joinFor(k.T) }

// topic makes the name one that no other test uses.
func (k *kit) topic(name string) string {
	return fmt.Sprintf("%s %s %x", k.Name(), name, rand.Uint64())
}

func (k *kit) publish(bus atrium.Bus, topic, msg string) {
	k.Helper()
	if err := bus.Publish(k.ctx, topic, []byte(msg)); err != nil {
		k.Errorf("Publish to %q: %v", topic, err)
	}
}

// subscribe lasts until the subtest ends, if the caller does not cancel before.
func (k *kit) subscribe(bus atrium.Bus, topic string, deliver func(msg []byte)) (cancel func()) {
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

func (k *kit) cancelAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, cancel := range k.cancels {
		cancel()
	}
}

// listen collects what comes.
func (k *kit) listen(bus atrium.Bus, topic string) *ear {
	k.Helper()
	e := &ear{k: k, topic: topic, came: make(chan struct{}, 1)}
	e.cancel = k.subscribe(bus, topic, e.deliver)
	return e
}

func (k *kit) await(what string, done <-chan struct{}) {
	k.Helper()
	select {
	case <-done:
	case <-k.ctx.Done():
		k.Fatalf("waited in vain for %s", what)
	}
}

// ear is a subscription that remembers.
type ear struct {
	k      *kit
	topic  string
	cancel func()
	came   chan struct{} // has a token after a delivery

	mu        sync.Mutex // guards:
	messages  []string
	inDeliver bool
}

func (e *ear) deliver(msg []byte) {
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
	case e.came <- struct{}{}:
	default:
	}
}

func (e *ear) heard() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.messages[:len(e.messages):len(e.messages)]
}

// until waits until n messages are there, and returns all that are.
func (e *ear) until(n int) []string {
	e.k.Helper()
	for {
		if heard := e.heard(); len(heard) >= n {
			return heard
		}
		select {
		case <-e.came:
		case <-e.k.ctx.Done():
			e.k.Fatalf("%q: %d of %d messages came", e.topic, len(e.heard()), n)
		}
	}
}

// awaits waits until msg is among the messages, and returns all that are there.
func (e *ear) awaits(msg string) []string {
	e.k.Helper()
	for n := 1; ; n++ {
		if heard := e.until(n); slices.Contains(heard, msg) {
			return heard
		}
	}
}

// hears checks that exactly these come, and nothing after them: what another message, from the same publisher, shows.
func (e *ear) hears(from atrium.Bus, want ...string) {
	e.k.Helper()
	const end = "that was all"
	e.k.publish(from, e.topic, end)
	want = append(want, end)
	got := e.until(len(want))
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			e.k.Fatalf("%q: %d messages came, %d are wanted; number %d differs", e.topic, len(got), len(want), i)
		}
	}
}

// Eventually waits until check returns nil. It fails the test with what check says after two minutes.
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
