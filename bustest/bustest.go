// Package bustest tests whether an implementation of [atrium.Bus] meets the contract of the
// interface:
//
//	func TestBus(t *testing.T) {
//		broker := start(t)
//		bustest.Run(t, func(t testing.TB) atrium.Bus {
//			client := broker.connect(t) // and t.Cleanup(client.Close)
//			return mybus.New(client)
//		})
//	}
//
// [Run] tests a Bus while its broker works, [Outage] while the broker fails. [RunCluster],
// [LastWords], [Rooms], [OutageCluster], [CutOff] and [KillNode] test hubs that a Bus connects,
// which takes longer; [Presence], [CutOffPresence] and [KillPresence] who is in their rooms.
package bustest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/atrium-go/atrium"
)

// Run tests a Bus, each rule in a subtest of its own. It calls join several times for each, also
// concurrently: each call returns a Bus for one more hub, as in another process, all on the same
// broker. join closes its clients with t.Cleanup; all subscriptions are cancelled by then.
//
// An implementation may drop messages for a slow subscriber, but not below 1 MiB. Messages have at
// most 1 MiB.
func Run(t *testing.T, join func(t testing.TB) atrium.Bus) {
	for _, test := range []struct {
		name string
		run  func(k *env)
	}{
		{"order per topic and publisher", order},
		{"own echo", ownEcho},
		{"topics are opaque", opaqueTopics},
		{"messages are opaque", opaqueMessages},
		{"many topics", manyTopics},
		{"publish does not keep the message", publishKeepsNothing},
		{"slow subscriber", slowSubscriber},
		{"calls from within deliver", callsFromDeliver},
		{"cancel while delivering", cancelWhileDelivering},
		{"cancel from within deliver", cancelFromDeliver},
		{"cancel is idempotent", cancelTwice},
		{"subscribe and cancel race", subscribeCancelRace},
		{"publish after cancel", publishAfterCancel},
		{"context ended before", contextEndedBefore},
		{"context ends within", contextEndsWithin},
		{"context ends after", contextEndsAfter},
		{"flush", flush},
	} {
		t.Run(test.name, func(t *testing.T) { with(t, join, test.run) })
	}
}

func order(k *env) {
	const publishers, messages = 4, 200
	buses := []atrium.Bus{k.join(), k.join()}
	topic := k.topic("busy")
	collectors := []*collector{k.collect(buses[0], topic), k.collect(buses[1], topic), k.collect(buses[0], topic), k.collect(buses[1], topic)}
	var group sync.WaitGroup
	for p := range publishers {
		group.Go(func() {
			for i := range messages {
				k.publish(buses[p%len(buses)], topic, fmt.Sprint(p, " ", i))
			}
		})
	}
	group.Wait()
	for _, e := range collectors {
		var next [publishers]int
		for _, msg := range e.waitCount(publishers * messages) {
			var p, i int
			if _, err := fmt.Sscan(msg, &p, &i); err != nil {
				k.Fatalf("%q came, which nobody sent", msg)
			}
			if i != next[p] {
				k.Fatalf("message %d of publisher %d came in place of %d", i, p, next[p])
			}
			next[p]++
		}
	}
}

func ownEcho(k *env) {
	bus := k.join()
	e := k.collect(bus, k.topic("mirror"))
	k.publish(bus, e.topic, "hello")
	e.expect(bus, "hello")
}

func opaqueTopics(k *env) {
	here, there := k.join(), k.join()
	base := k.topic("base")
	topics := []string{
		base, strings.ToUpper(base), base + " ", " " + base, base + ".", base + "..a", "." + base, base + ".a", base + ".*", base + ".>",
		base + "*", base + ">", base + "?", base + "[a]", base + "{a}", base + "{b}", base + "%2E", base + "%", base + "+", base + "/", base + "\\",
		base + "\r\nPING\r\n", base + "\x00", base + "\xff\xfe", base + "é", base + "e\u0301", base + "日本語", base + "\"'`",
		base + strings.Repeat("x", 300), base + strings.Repeat("x", 299) + "y", strings.Repeat(".", 300) + base, "",
	}
	collectors := make([]*collector, len(topics))
	for i, topic := range topics {
		collectors[i] = k.collect(there, topic)
	}
	for i, topic := range topics {
		k.publish(here, topic, fmt.Sprint("for topic ", i))
	}
	for i, e := range collectors {
		e.expect(here, fmt.Sprint("for topic ", i))
	}
}

func opaqueMessages(k *env) {
	here, there := k.join(), k.join()
	e := k.collect(there, k.topic("bytes"))
	var every strings.Builder
	for b := range 256 {
		every.WriteByte(byte(b))
	}
	large := make([]byte, 1<<20)
	for i := range large {
		large[i] = byte(rand.Uint32())
	}
	messages := []string{"", every.String(), "\r\n", "+OK\r\n", "MSG a 1 2\r\n", "", string(large), "after the large one"}
	for _, msg := range messages {
		k.publish(here, e.topic, msg)
	}
	e.expect(here, messages...)
}

func manyTopics(k *env) {
	const topics = 1000
	buses := []atrium.Bus{k.join(), k.join()}
	collectors := make([]*collector, topics)
	var group sync.WaitGroup
	for from := range 10 {
		group.Go(func() {
			for i := from; i < topics; i += 10 {
				collectors[i] = k.collect(buses[i%2], k.topic(fmt.Sprint(i)))
			}
		})
	}
	group.Wait()
	for i, e := range collectors {
		k.publish(buses[i/2%2], e.topic, fmt.Sprint(i))
	}
	for i, e := range collectors {
		e.expect(buses[i/2%2], fmt.Sprint(i))
	}
}

func publishKeepsNothing(k *env) {
	here, there := k.join(), k.join()
	near, far := k.collect(here, k.topic("near")), k.collect(there, k.topic("far"))
	buffer := make([]byte, 1000)
	var want []string
	for i := range 100 {
		for j := range buffer {
			buffer[j] = byte(i)
		}
		want = append(want, string(buffer))
		for _, e := range []*collector{near, far} {
			if err := here.Publish(k.ctx, e.topic, buffer); err != nil {
				k.Fatal(err)
			}
		}
		clear(buffer)
	}
	near.expect(here, want...)
	far.expect(here, want...)
}

func slowSubscriber(k *env) {
	here, there := k.join(), k.join()
	topic := k.topic("slow")
	started, gate := make(chan struct{}), make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	var once sync.Once
	slow := &collector{k: k, topic: topic, signal: make(chan struct{}, 1)}
	k.subscribe(there, topic, func(msg []byte) {
		once.Do(func() { close(started) })
		<-gate
		slow.deliver(msg)
	})
	prompt := k.collect(there, topic)
	other := k.collect(there, k.topic("other"))

	// In all this is less than what must be kept for the slow subscriber.
	var want []string
	for i := range 100 {
		msg := fmt.Sprint(i, strings.Repeat(" ", 8<<10))
		want = append(want, msg)
		k.publish(here, topic, msg)
		prompt.waitCount(len(want))
	}
	k.await("the first delivery to the slow subscriber", started)
	k.publish(here, other.topic, "quick")
	other.expect(here, "quick")
	k.collect(there, topic).cancel() // nor are Subscribe and cancel delayed

	// Now more than most implementations keep.
	for i := range 24 {
		k.publish(here, topic, strings.Repeat("x", 1<<20))
		prompt.waitCount(len(want) + i + 1)
	}
	open()
	for i, msg := range slow.waitCount(len(want))[:len(want)] {
		if msg != want[i] {
			k.Fatalf("%.10q came in place of message %d", msg, i)
		}
	}
}

func callsFromDeliver(k *env) {
	bus := k.join()
	answers := k.collect(bus, k.topic("answers"))
	late := &collector{k: k, topic: k.topic("late"), signal: make(chan struct{}, 1)}
	questions := k.topic("questions")
	k.subscribe(bus, questions, func(msg []byte) {
		k.subscribe(bus, late.topic, late.deliver)
		k.publish(bus, late.topic, "subscribed")
		k.collect(bus, k.topic("brief")).cancel()
		k.publish(bus, answers.topic, "answer to "+string(msg))
	})
	k.publish(bus, questions, "this")
	answers.waitMessage("answer to this")
	late.expect(bus, "subscribed")
}

func cancelWhileDelivering(k *env) {
	here, there := k.join(), k.join()
	topic := k.topic("cancelled")
	started, gate, finished := make(chan struct{}), make(chan struct{}), make(chan struct{})
	calls := 0
	cancel := k.subscribe(there, topic, func(msg []byte) {
		if calls++; calls > 1 {
			k.Errorf("deliver is called after cancel returned and the delivery under way ended")
			return
		}
		close(started)
		<-gate
		if string(msg) != "first" {
			k.Errorf("the message changed to %q", msg)
		}
		close(finished)
	})
	witness := k.collect(there, topic)
	k.publish(here, topic, "first")
	k.await("the first delivery", started)
	k.publish(here, topic, "second") // waits behind the first
	witness.waitCount(2)
	cancel() // does not wait for the delivery
	close(gate)
	k.await("the end of the first delivery", finished)
	k.publish(here, topic, "third")
	witness.expect(here, "first", "second", "third")
}

func cancelFromDeliver(k *env) {
	here, there := k.join(), k.join()
	topic := k.topic("once")
	cancels := make(chan func(), 1)
	delivered := make(chan struct{})
	calls := 0
	cancel := k.subscribe(there, topic, func([]byte) {
		if calls++; calls > 1 {
			k.Errorf("deliver is called after it called cancel")
			return
		}
		cancel := <-cancels
		cancel()
		cancel()
		close(delivered)
	})
	witness := k.collect(there, topic)
	for range 3 {
		k.publish(here, topic, "x")
	}
	witness.waitCount(3)
	cancels <- cancel
	k.await("the delivery", delivered)
	witness.expect(here, "x", "x", "x")
}

func cancelTwice(k *env) {
	here, there := k.join(), k.join()
	topic := k.topic("shared")
	going, staying := k.collect(there, topic), k.collect(there, topic)
	var group sync.WaitGroup
	for range 4 {
		group.Go(going.cancel)
	}
	group.Wait()
	again := k.collect(there, topic)
	going.cancel() // concerns neither of the others
	k.publish(here, topic, "to those who stay")
	staying.expect(here, "to those who stay")
	again.waitCount(2)
	if heard := going.received(); len(heard) != 0 {
		k.Errorf("%q came to a subscription that was cancelled before", heard)
	}
}

// subscribeCancelRace subscribes to a topic and cancels, concurrently. Each subscription must
// receive what is published meanwhile, once.
func subscribeCancelRace(k *env) {
	here, there := k.join(), k.join()
	topic := k.topic("contended")
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range 50 {
				e := k.collect(there, topic)
				mine := fmt.Sprint(g, " ", i)
				k.publish(here, topic, mine)
				end := mine + " end"
				k.publish(here, topic, end)
				times := 0
				for _, msg := range e.waitMessage(end) {
					if msg == mine {
						times++
					}
				}
				if times != 1 {
					k.Errorf("what was published after Subscribe returned came %d times", times)
					return
				}
				e.cancel()
			}
		})
	}
	group.Wait()
}

func publishAfterCancel(k *env) {
	here, there := k.join(), k.join()
	gone := k.collect(there, k.topic("deserted"))
	k.publish(here, gone.topic, "before")
	gone.expect(here, "before")
	gone.cancel()
	k.publish(here, gone.topic, "to nobody")
	k.publish(there, gone.topic, "to nobody")
	k.publish(here, k.topic("never known"), "to nobody")

	again := k.collect(there, gone.topic) // it may still receive earlier messages
	k.publish(here, gone.topic, "after")
	again.waitMessage("after")
	if heard := gone.received(); len(heard) != 2 {
		k.Errorf("%d messages came to a subscription that was cancelled after 2", len(heard))
	}
}

func contextEndedBefore(k *env) {
	bus := k.join()
	e := k.collect(bus, k.topic("late"))
	ended, cancel := context.WithCancel(k.ctx)
	cancel()
	expired, cancel := context.WithTimeout(k.ctx, 0)
	defer cancel()
	for _, ctx := range []context.Context{ended, expired} {
		if err := bus.Publish(ctx, e.topic, []byte("no")); !errors.Is(err, ctx.Err()) {
			k.Errorf("Publish: %v, want %v", err, ctx.Err())
		}
		_, err := bus.Subscribe(ctx, e.topic, func([]byte) { k.Error("a message came to a subscription that failed") })
		if !errors.Is(err, ctx.Err()) {
			k.Errorf("Subscribe: %v, want %v", err, ctx.Err())
		}
	}
	e.expect(bus)
}

// contextEndsWithin ends ctx at any moment of a call, which must succeed, or fail with ctx.Err()
// and leave nothing.
func contextEndsWithin(k *env) {
	here, there := k.join(), k.join()
	topic := k.topic("uncertain")
	witness := k.collect(there, topic)
	sent := make(map[string]bool) // and whether it must have come
	for i := range 100 {
		ctx, cancel := context.WithCancel(k.ctx)
		var group sync.WaitGroup
		group.Go(cancel)
		msg := fmt.Sprint(i)
		err := here.Publish(ctx, topic, []byte(msg))
		sent[msg] = err == nil
		if err != nil && !errors.Is(err, context.Canceled) {
			k.Errorf("Publish: %v", err)
		}
		group.Wait()

		ctx, cancel = context.WithCancel(k.ctx)
		group.Go(cancel)
		e := &collector{k: k, topic: topic, signal: make(chan struct{}, 1)}
		stop, err := there.Subscribe(ctx, topic, e.deliver)
		group.Wait()
		switch {
		case err == nil:
			k.publish(here, topic, "found "+msg)
			sent["found "+msg] = true
			e.waitMessage("found " + msg)
			stop()
		case !errors.Is(err, context.Canceled):
			k.Errorf("Subscribe: %v", err)
		}
	}
	k.publish(here, topic, "end")
	heard := make(map[string]int)
	for _, msg := range witness.waitMessage("end") {
		heard[msg]++
	}
	for msg, must := range sent {
		if must && heard[msg] == 0 || heard[msg] > 1 {
			k.Errorf("%q came %d times; published without an error: %v", msg, heard[msg], must)
		}
	}
}

func contextEndsAfter(k *env) {
	bus := k.join()
	topic := k.topic("lasting")
	ctx, end := context.WithCancel(k.ctx)
	e := &collector{k: k, topic: topic, signal: make(chan struct{}, 1)}
	cancel, err := bus.Subscribe(ctx, topic, e.deliver)
	if err != nil {
		k.Fatal(err)
	}
	defer cancel()
	if err := bus.Publish(ctx, topic, []byte("one")); err != nil {
		k.Fatal(err)
	}
	end()
	k.publish(bus, topic, "two")
	e.expect(bus, "one", "two")
}
