// Package bustest tells whether an implementation of [atrium.Bus] keeps what the interface promises. In a test:
//
//	func TestBus(t *testing.T) {
//		broker := start(t)
//		bustest.Run(t, func(t testing.TB) atrium.Bus {
//			client := broker.connect(t) // and t.Cleanup(client.Close)
//			return mybus.New(client)
//		})
//	}
//
// [Run] is for what holds while all is well, [Outage] for a broker that fails. [RunCluster], [LastWords], [Rooms],
// [OutageCluster] and [KillNode] do the same to hubs that a Bus joins, which takes longer.
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

// Run tests a Bus, each promise in a subtest of its own. It calls join several times for each, also while another runs:
// each call returns a Bus for one more hub, as another process would have it, all on the same broker. What is to be closed
// join closes with t.Cleanup; that may not wait for subscriptions to be cancelled, they are by then.
//
// An implementation may drop what waits for a slow subscriber, but not below 1 MiB. Messages have 1 MiB at most.
func Run(t *testing.T, join func(t testing.TB) atrium.Bus) {
	for _, test := range []struct {
		name string
		run  func(k *kit)
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

func order(k *kit) {
	const publishers, messages = 4, 200
	buses := []atrium.Bus{k.join(), k.join()}
	topic := k.topic("busy")
	ears := []*ear{k.listen(buses[0], topic), k.listen(buses[1], topic), k.listen(buses[0], topic), k.listen(buses[1], topic)}
	var group sync.WaitGroup
	for p := range publishers {
		group.Go(func() {
			for i := range messages {
				k.publish(buses[p%len(buses)], topic, fmt.Sprint(p, " ", i))
			}
		})
	}
	group.Wait()
	for _, e := range ears {
		var next [publishers]int
		for _, msg := range e.until(publishers * messages) {
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

func ownEcho(k *kit) {
	bus := k.join()
	e := k.listen(bus, k.topic("mirror"))
	k.publish(bus, e.topic, "hello")
	e.hears(bus, "hello")
}

func opaqueTopics(k *kit) {
	here, there := k.join(), k.join()
	base := k.topic("base")
	topics := []string{
		base, strings.ToUpper(base), base + " ", " " + base, base + ".", base + "..a", "." + base, base + ".a", base + ".*", base + ".>",
		base + "*", base + ">", base + "?", base + "[a]", base + "{a}", base + "{b}", base + "%2E", base + "%", base + "+", base + "/", base + "\\",
		base + "\r\nPING\r\n", base + "\x00", base + "\xff\xfe", base + "é", base + "e\u0301", base + "日本語", base + "\"'`",
		base + strings.Repeat("x", 300), base + strings.Repeat("x", 299) + "y", strings.Repeat(".", 300) + base, "",
	}
	ears := make([]*ear, len(topics))
	for i, topic := range topics {
		ears[i] = k.listen(there, topic)
	}
	for i, topic := range topics {
		k.publish(here, topic, fmt.Sprint("for topic ", i))
	}
	for i, e := range ears {
		e.hears(here, fmt.Sprint("for topic ", i))
	}
}

func opaqueMessages(k *kit) {
	here, there := k.join(), k.join()
	e := k.listen(there, k.topic("bytes"))
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
	e.hears(here, messages...)
}

func manyTopics(k *kit) {
	const topics = 1000
	buses := []atrium.Bus{k.join(), k.join()}
	ears := make([]*ear, topics)
	var group sync.WaitGroup
	for from := range 10 {
		group.Go(func() {
			for i := from; i < topics; i += 10 {
				ears[i] = k.listen(buses[i%2], k.topic(fmt.Sprint(i)))
			}
		})
	}
	group.Wait()
	for i, e := range ears {
		k.publish(buses[i/2%2], e.topic, fmt.Sprint(i))
	}
	for i, e := range ears {
		e.hears(buses[i/2%2], fmt.Sprint(i))
	}
}

func publishKeepsNothing(k *kit) {
	here, there := k.join(), k.join()
	near, far := k.listen(here, k.topic("near")), k.listen(there, k.topic("far"))
	buffer := make([]byte, 1000)
	var want []string
	for i := range 100 {
		for j := range buffer {
			buffer[j] = byte(i)
		}
		want = append(want, string(buffer))
		for _, e := range []*ear{near, far} {
			if err := here.Publish(k.ctx, e.topic, buffer); err != nil {
				k.Fatal(err)
			}
		}
		clear(buffer)
	}
	near.hears(here, want...)
	far.hears(here, want...)
}

func slowSubscriber(k *kit) {
	here, there := k.join(), k.join()
	topic := k.topic("slow")
	started, gate := make(chan struct{}), make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	var once sync.Once
	slow := &ear{k: k, topic: topic, came: make(chan struct{}, 1)}
	k.subscribe(there, topic, func(msg []byte) {
		once.Do(func() { close(started) })
		<-gate
		slow.deliver(msg)
	})
	prompt := k.listen(there, topic)
	other := k.listen(there, k.topic("other"))

	// 100 times a little at a time for the prompt; in all, less for the slow than must be kept.
	var want []string
	for i := range 100 {
		msg := fmt.Sprint(i, strings.Repeat(" ", 8<<10))
		want = append(want, msg)
		k.publish(here, topic, msg)
		prompt.until(len(want))
	}
	k.await("the first delivery to the slow subscriber", started)
	k.publish(here, other.topic, "quick")
	other.hears(here, "quick")
	k.listen(there, topic).cancel() // comings and goings are not held up either

	// Now more than most would keep.
	for i := range 24 {
		k.publish(here, topic, strings.Repeat("x", 1<<20))
		prompt.until(len(want) + i + 1)
	}
	open()
	for i, msg := range slow.until(len(want))[:len(want)] {
		if msg != want[i] {
			k.Fatalf("%.10q came in place of message %d", msg, i)
		}
	}
}

func callsFromDeliver(k *kit) {
	bus := k.join()
	answers := k.listen(bus, k.topic("answers"))
	late := &ear{k: k, topic: k.topic("late"), came: make(chan struct{}, 1)}
	questions := k.topic("questions")
	k.subscribe(bus, questions, func(msg []byte) {
		k.subscribe(bus, late.topic, late.deliver)
		k.publish(bus, late.topic, "subscribed")
		k.listen(bus, k.topic("brief")).cancel()
		k.publish(bus, answers.topic, "answer to "+string(msg))
	})
	k.publish(bus, questions, "this")
	answers.awaits("answer to this")
	late.hears(bus, "subscribed")
}

func cancelWhileDelivering(k *kit) {
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
	witness := k.listen(there, topic)
	k.publish(here, topic, "first")
	k.await("the first delivery", started)
	k.publish(here, topic, "second") // waits behind the first
	witness.until(2)
	cancel() // does not wait, or this would be the end
	close(gate)
	k.await("the end of the first delivery", finished)
	k.publish(here, topic, "third")
	witness.hears(here, "first", "second", "third")
}

func cancelFromDeliver(k *kit) {
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
	witness := k.listen(there, topic)
	for range 3 {
		k.publish(here, topic, "x")
	}
	witness.until(3)
	cancels <- cancel
	k.await("the delivery", delivered)
	witness.hears(here, "x", "x", "x")
}

func cancelTwice(k *kit) {
	here, there := k.join(), k.join()
	topic := k.topic("shared")
	going, staying := k.listen(there, topic), k.listen(there, topic)
	var group sync.WaitGroup
	for range 4 {
		group.Go(going.cancel)
	}
	group.Wait()
	again := k.listen(there, topic)
	going.cancel() // concerns neither of the others
	k.publish(here, topic, "to those who stay")
	staying.hears(here, "to those who stay")
	again.until(2)
	if heard := going.heard(); len(heard) != 0 {
		k.Errorf("%q came to a subscription that was cancelled before", heard)
	}
}

// subscribeCancelRace lets subscriptions of one topic come and go at once: each hears what is published meanwhile, once.
func subscribeCancelRace(k *kit) {
	here, there := k.join(), k.join()
	topic := k.topic("contended")
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range 50 {
				e := k.listen(there, topic)
				mine := fmt.Sprint(g, " ", i)
				k.publish(here, topic, mine)
				end := mine + " end"
				k.publish(here, topic, end)
				times := 0
				for _, msg := range e.awaits(end) {
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

func publishAfterCancel(k *kit) {
	here, there := k.join(), k.join()
	gone := k.listen(there, k.topic("deserted"))
	k.publish(here, gone.topic, "before")
	gone.hears(here, "before")
	gone.cancel()
	k.publish(here, gone.topic, "to nobody")
	k.publish(there, gone.topic, "to nobody")
	k.publish(here, k.topic("never known"), "to nobody")

	again := k.listen(there, gone.topic) // it may still hear what was on its way
	k.publish(here, gone.topic, "after")
	again.awaits("after")
	if heard := gone.heard(); len(heard) != 2 {
		k.Errorf("%d messages came to a subscription that was cancelled after 2", len(heard))
	}
}

func contextEndedBefore(k *kit) {
	bus := k.join()
	e := k.listen(bus, k.topic("late"))
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
	e.hears(bus)
}

// contextEndsWithin ends ctx at any moment of the call: it succeeds, or fails with ctx's error and leaves nothing.
func contextEndsWithin(k *kit) {
	here, there := k.join(), k.join()
	topic := k.topic("uncertain")
	witness := k.listen(there, topic)
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
		e := &ear{k: k, topic: topic, came: make(chan struct{}, 1)}
		stop, err := there.Subscribe(ctx, topic, e.deliver)
		group.Wait()
		switch {
		case err == nil:
			k.publish(here, topic, "found "+msg)
			sent["found "+msg] = true
			e.awaits("found " + msg)
			stop()
		case !errors.Is(err, context.Canceled):
			k.Errorf("Subscribe: %v", err)
		}
	}
	k.publish(here, topic, "end")
	heard := make(map[string]int)
	for _, msg := range witness.awaits("end") {
		heard[msg]++
	}
	for msg, must := range sent {
		if must && heard[msg] == 0 || heard[msg] > 1 {
			k.Errorf("%q came %d times; published without an error: %v", msg, heard[msg], must)
		}
	}
}

func contextEndsAfter(k *kit) {
	bus := k.join()
	topic := k.topic("lasting")
	ctx, end := context.WithCancel(k.ctx)
	e := &ear{k: k, topic: topic, came: make(chan struct{}, 1)}
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
	e.hears(bus, "one", "two")
}
