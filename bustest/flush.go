package bustest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

// flush tests a BusFlusher: when Flush returns, all messages have been sent and the client may be
// closed.
func flush(k *env) {
	there := k.join()
	if _, ok := k.join().(atrium.BusFlusher); !ok {
		return // it has nothing to flush
	}
	for round := range 10 {
		const messages = 200
		e := k.collect(there, k.topic("last words"))
		k.Run("a client that is closed", func(t *testing.T) { // when this ends
			here := k.joinFor(t)
			for i := range messages {
				if err := here.Publish(k.ctx, e.topic, fmt.Append(nil, i)); err != nil {
					t.Error(err)
				}
			}
			if err := here.(atrium.BusFlusher).Flush(k.ctx); err != nil {
				t.Error(err)
			}
		})
		for i, msg := range e.waitCount(messages) {
			if msg != fmt.Sprint(i) {
				k.Fatalf("round %d: %q came in place of message %d", round, msg, i)
			}
		}
		e.cancel()
	}
	ended, cancel := context.WithCancel(k.ctx)
	cancel()
	here := k.join()
	k.publish(here, k.topic("to nobody"), "x")
	if err := here.(atrium.BusFlusher).Flush(ended); err != nil && !errors.Is(err, context.Canceled) {
		k.Errorf("Flush with a context that has ended: %v", err)
	}
	if err := here.(atrium.BusFlusher).Flush(k.ctx); err != nil {
		k.Errorf("Flush: %v", err)
	}
}

// LastWords tests that the last events of a hub, and its goodbye, reach the others if the client of
// its Bus is closed as soon as Shutdown has returned. join is as for [Run].
func LastWords(t *testing.T, join func(t testing.TB) atrium.Bus) {
	other := atrium.New(atrium.Options{Bus: join(t)})
	heard := make(chan int, 1000)
	atrium.On(other.Nodes(), "news", func(_ string, n int) error {
		heard <- n
		return nil
	})
	goodbyes := make(chan string, 100)
	cancel, err := join(t).Subscribe(t.Context(), "nodes", func(msg []byte) {
		// A version and a kind, of which 2 is the goodbye, and a number; see cluster_message.go.
		if len(msg) > 10 && msg[1] == 2 {
			goodbyes <- string(msg[10:])
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	for round := range 5 {
		const events = 200
		name := ""
		t.Run("a node that leaves", func(t *testing.T) { // its client is closed when this ends
			h := atrium.New(atrium.Options{Bus: join(t)})
			name = h.Nodes().Self()
			await(t, "the nodes to know each other", func() bool {
				return len(h.Nodes().List()) == 1 && slices.Contains(other.Nodes().List(), name)
			})
			for n := range events {
				if err := h.Nodes().Emit("news", n); err != nil {
					t.Error(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), Patience)
			defer cancel()
			if err := h.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
		for n := range events {
			if got := <-heard; got != n {
				t.Fatalf("round %d: event %d came in place of %d", round, got, n)
			}
		}
		select {
		case goodbye := <-goodbyes:
			if !strings.Contains(goodbye, name) {
				t.Errorf("round %d: the goodbye of another node than %s came", round, name)
			}
		case <-time.After(Patience):
			t.Fatalf("round %d: no goodbye came", round)
		}
		await(t, "the node to be forgotten", func() bool { return !slices.Contains(other.Nodes().List(), name) })
	}
	ctx, stop := context.WithTimeout(t.Context(), Patience)
	defer stop()
	if err := other.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
