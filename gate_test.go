package atrium

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
)

// A gate lets everybody go who waits, and nobody who comes later.
func TestGate(t *testing.T) {
	var g gate
	g.open() // nobody waits
	first, second := g.wait(), g.wait()
	g.open()
	<-first
	<-second
	select {
	case <-g.wait():
		t.Error("the gate stays open")
	default:
	}
}

// await looks again whenever the gate opens, until it is done or its context ends.
func TestGateAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var g gate
		n, looks := 0, 0
		atLeast := func(least int) func() bool {
			return func() bool { looks++; return n >= least }
		}
		done := make(chan error, 1)
		go func() { done <- g.await(t.Context(), &mu, atLeast(2)) }()
		for range 2 {
			synctest.Wait()
			if len(done) > 0 {
				t.Fatalf("done at %d: %v", n, <-done)
			}
			mu.Lock()
			n++
			g.open()
			mu.Unlock()
		}
		if err := <-done; err != nil || looks != 3 {
			t.Errorf("%v after %d looks, want 3", err, looks)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { done <- g.await(ctx, &mu, atLeast(3)) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
