package atrium

import (
	"slices"
	"testing"
	"testing/synctest"
)

// inboxOwner handles one event for each value it gets, and notes which.
type inboxOwner struct {
	gate    chan struct{}
	handled []int64 // by the inbox's goroutine; read when the bubble is still
}

func (o *inboxOwner) handle(in incoming) {
	<-o.gate
	o.handled = append(o.handled, in.id)
}

func newTestInbox(maxCount, maxBytes int) (*inbox, *inboxOwner) {
	o := &inboxOwner{gate: make(chan struct{}, 10_000)}
	return &inbox{owner: o, maxCount: maxCount, maxBytes: maxBytes}, o
}

func (o *inboxOwner) pass(n int) {
	for range n {
		o.gate <- struct{}{}
	}
	synctest.Wait()
}

// pushing pushes in the background.
func (b *inbox) pushing(in incoming) <-chan received {
	result := make(chan received, 1)
	go func() { result <- b.push(in) }()
	synctest.Wait()
	return result
}

// isRunning reports whether the inbox's goroutine exists.
func (b *inbox) isRunning() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running
}

func wantPaused(t *testing.T, b *inbox, pushed <-chan received, paused bool) {
	t.Helper()
	if got := len(pushed) == 0; got != paused || b.pauses.Load()%2 == 1 != paused {
		t.Fatalf("the push waits: %t, %d beginnings and ends; want %t", got, b.pauses.Load(), paused)
	}
}

func TestInboxOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, o := newTestInbox(10, 1<<20)
		const n = 1000
		o.pass(n)
		want := make([]int64, n)
		for i := range want {
			want[i] = int64(i)
			if r := b.push(incoming{id: int64(i)}); r != taken {
				t.Fatalf("push %d: %v", i, r)
			}
		}
		synctest.Wait()
		if !slices.Equal(o.handled, want) {
			t.Errorf("handled %v", o.handled)
		}
		if b.isRunning() || b.items != nil || b.count != 0 || b.bytes != 0 {
			t.Errorf("idle, but running %t, %d items, %d counted, %d bytes", b.running, len(b.items), b.count, b.bytes)
		}
	})
}

// A full inbox holds up the pusher until it is half empty.
func TestInboxBounds(t *testing.T) {
	tests := []struct {
		name               string
		maxCount, maxBytes int
	}{
		{"events", 8, 1 << 20},
		{"bytes", 1 << 20, 8 * (incomingOverhead + 100)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, o := newTestInbox(test.maxCount, test.maxBytes)
				in := incoming{event: "0123456789", args: make([]byte, 90)}
				for i := range 8 {
					wantPaused(t, b, b.pushing(in), false)
					if !b.isRunning() {
						t.Fatalf("nobody handles event %d", i)
					}
				}
				before := b.pauses.Load()
				ninth := b.pushing(in)
				wantPaused(t, b, ninth, true)
				o.pass(3)
				wantPaused(t, b, ninth, true)
				o.pass(1)
				wantPaused(t, b, ninth, false)
				if r := <-ninth; r != taken {
					t.Errorf("push: %v", r)
				}
				if !b.pausedSince(before) || b.pausedSince(b.pauses.Load()) {
					t.Error("the pause is not told")
				}
				o.pass(5)
				if len(o.handled) != 9 || b.isRunning() {
					t.Errorf("handled %d, running %t", len(o.handled), b.running)
				}
			})
		})
	}
}

// An event larger than the bound goes through when nothing else is there.
func TestInboxLargeEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, o := newTestInbox(8, 100)
		wantPaused(t, b, b.pushing(incoming{args: make([]byte, 1000)}), false)
		second := b.pushing(incoming{})
		wantPaused(t, b, second, true)
		o.pass(2)
		wantPaused(t, b, second, false)
	})
}

// While an answer is waited for, events behind which it may stand are taken, up to twice the bounds.
func TestInboxWhileCalling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, o := newTestInbox(4, 1<<20)
		for range 4 {
			b.push(incoming{})
		}
		fifth := b.pushing(incoming{})
		wantPaused(t, b, fifth, true)
		b.called(+1)
		synctest.Wait()
		wantPaused(t, b, fifth, false)
		for range 3 {
			if r := b.push(incoming{}); r != taken {
				t.Fatalf("push: %v", r)
			}
		}
		if r := b.push(incoming{}); r != flooded {
			t.Errorf("beyond twice the bounds: %v", r)
		}
		b.called(-1)
		ninth := b.pushing(incoming{})
		wantPaused(t, b, ninth, true)
		o.pass(9)
		wantPaused(t, b, ninth, false)
		if len(o.handled) != 9 {
			t.Errorf("handled %d", len(o.handled))
		}
	})
}

func TestInboxPushLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, o := newTestInbox(2, 1<<20)
		b.push(incoming{id: 1})
		b.push(incoming{id: 2})
		third := b.pushing(incoming{id: 3})
		wantPaused(t, b, third, true)
		b.pushLast(incoming{id: 99})
		synctest.Wait()
		wantPaused(t, b, third, false)
		if r := <-third; r != ignored {
			t.Errorf("a waiting push: %v", r)
		}
		if r := b.push(incoming{id: 4}); r != ignored {
			t.Errorf("a later push: %v", r)
		}
		o.pass(3)
		if want := []int64{1, 2, 99}; !slices.Equal(o.handled, want) || b.isRunning() {
			t.Errorf("handled %v, want %v; running %t", o.handled, want, b.running)
		}
	})
}

func TestInboxBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, o := newTestInbox(1, 1<<20)
		b.push(incoming{})
		second := b.pushing(incoming{})
		wantPaused(t, b, second, true)
		b.bound(2, 1<<20)
		synctest.Wait()
		wantPaused(t, b, second, false)
		o.pass(2)
	})
}

func TestInboxCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, o := newTestInbox(8, 1<<20)
		for range 4 {
			b.push(incoming{})
		}
		for range 10_000 { // never empty
			b.push(incoming{})
			o.pass(1)
		}
		b.mu.Lock()
		capacity := cap(b.items)
		b.mu.Unlock()
		if capacity > 32 {
			t.Errorf("capacity %d for at most 8 events", capacity)
		}
		o.pass(4)
	})
}
