package bustest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

// Outage tests a Bus while its broker is away: killed, or suspended so that it does not respond. No
// call may outlast its context. Afterwards traffic must resume by itself, in order and without
// duplicates, and subscriptions that were made or cancelled during the outage must be so. stop
// takes the broker away, and heal brings it back at the same address. join is as for [Run].
func Outage(t *testing.T, join func(t testing.TB) atrium.Bus, stop, heal func()) {
	with(t, join, func(k *env) { outage(k, stop, heal) })
}

func outage(k *env, stop, heal func()) {
	here, there := k.join(), k.join()
	witness, going := k.collect(there, k.topic("numbers")), k.collect(there, k.topic("going"))
	last := 0
	send := func() {
		last++
		ctx, cancel := context.WithTimeout(k.ctx, 10*time.Millisecond)
		defer cancel()
		here.Publish(ctx, witness.topic, []byte(fmt.Sprint(last))) // fails during the outage
	}
	number := func(msg string) (n int) {
		if _, err := fmt.Sscan(msg, &n); err != nil {
			k.Fatalf("%.20q came, which nobody sent", msg)
		}
		return n
	}
	// resumed sends until something arrives that was sent after the call.
	resumed := func() {
		k.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for before := last; ; {
			send()
			if heard := witness.received(); len(heard) > 0 && number(heard[len(heard)-1]) > before {
				return
			}
			select {
			case <-tick.C:
			case <-k.ctx.Done():
				k.Fatal("traffic does not resume")
			}
		}
	}
	for range 100 {
		resumed()
	}

	// Another goroutine publishes all the time.
	busy, enough := context.WithCancel(k.ctx)
	quiet := make(chan struct{})
	load := k.topic("load")
	go func() {
		defer close(quiet)
		for busy.Err() == nil {
			ctx, cancel := context.WithTimeout(busy, 10*time.Millisecond)
			here.Publish(ctx, load, make([]byte, 1000))
			cancel()
		}
	}()
	loaded := k.collect(there, load)
	loaded.waitCount(1)
	stop()

	going.cancel()
	large := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(large)
	for range 40 { // more than any buffer holds, so that Publish waits
		ctx, cancel := context.WithTimeout(k.ctx, 10*time.Millisecond)
		here.Publish(ctx, k.topic("flood"), large)
		cancel()
		send()
	}
	for range 3 {
		ctx, cancel := context.WithTimeout(k.ctx, 10*time.Millisecond)
		_, err := there.Subscribe(ctx, k.topic("too early"), func([]byte) {})
		if !errors.Is(err, context.DeadlineExceeded) {
			k.Errorf("Subscribe without a broker: %v, want the context's error", err)
		}
		cancel()
	}
	patient := &collector{k: k, topic: k.topic("patient"), signal: make(chan struct{}, 1)}
	subscribed := make(chan struct{})
	go func() {
		defer close(subscribed)
		patient.cancel = k.subscribe(there, patient.topic, patient.deliver)
	}()
	if k.ctx.Err() != nil {
		k.Fatal("the calls took too long")
	}

	heal()
	healed := time.Now()
	resumed()
	k.Logf("traffic resumed %v after the broker was back", time.Since(healed).Round(time.Millisecond))
	enough()
	<-quiet
	k.await("a subscription that was made without a broker", subscribed)
	k.publish(here, patient.topic, "at last")
	patient.waitMessage("at last")

	again := k.collect(there, going.topic)
	k.publish(here, going.topic, "hello")
	again.waitMessage("hello")
	if heard := going.received(); len(heard) > 0 {
		k.Errorf("%q came to a subscription that was cancelled during the outage", heard)
	}
	previous := 0
	for _, msg := range witness.received() {
		n := number(msg)
		if n <= previous {
			k.Fatalf("message %d came after %d", n, previous)
		}
		previous = n
	}
	k.Logf("%d of %d messages came", len(witness.received()), last)
}
