package atrium

import (
	"math"
	"sync"
	"time"
)

// epoch is where nanotime counts from; it never changes.
var epoch = time.Now()

// nanotime is the monotonic clock in nanoseconds. Only differences mean anything.
func nanotime() int64 { return int64(time.Since(epoch)) }

// after is d from now, by nanotime; the end of time if that is later.
func after(d time.Duration) int64 {
	now := nanotime()
	if d > 0 && int64(d) > math.MaxInt64/2-now {
		return math.MaxInt64 / 2
	}
	return now + int64(d)
}

// wheelSlots times the tick is how far ahead the wheel sees. A timer further away waits in the last slot and
// is looked at again from there.
const wheelSlots = 128

// dueSlot holds what a turn has found due and not yet fired. It is a slot like the others, so that a timer in it can
// still be stopped or rescheduled, by the fire function before it for one.
const dueSlot = wheelSlots

// wheel runs all the deadlines of a hub: coarse, cheap, with no goroutine of its own. Timers hang in intrusive
// lists, one a slot; scheduling is a few pointer writes and allocates nothing. A timer never fires early and
// fires at most two ticks late. The runtime's timer that turns the wheel is armed only while a timer is scheduled.
// Its methods may be called from any goroutine, also from within a timer's fire function.
type wheel struct {
	tick int64 // nanoseconds a slot

	mu      sync.Mutex
	slots   [wheelSlots + 1]*timer // heads of doubly linked lists; the last is dueSlot
	turned  int64                  // the last tick whose slot was emptied
	count   int                    // timers scheduled
	turning *time.Timer            // nil until first used
	armed   bool                   // the wheel will turn, or is turning
}

// timer is one deadline; it is a part of what it times. The zero timer with fire set is ready to schedule.
type timer struct {
	fire func() // called without locks, on the wheel's goroutine: it must not block

	// Guarded by wheel.mu.
	next, prev *timer
	slot       int32
	scheduled  bool
	when       int64 // nanotime
}

func newWheel(tick time.Duration) *wheel {
	return &wheel{tick: int64(max(tick, time.Millisecond))}
}

// schedule sets t to fire at when (by nanotime), in place of whatever t was scheduled for.
func (w *wheel) schedule(t *timer, when int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set(t, when)
}

// scheduleBefore is schedule, but leaves alone a timer that fires at least as early.
func (w *wheel) scheduleBefore(t *timer, when int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !t.scheduled || t.when > when {
		w.set(t, when)
	}
}

func (w *wheel) set(t *timer, when int64) {
	if t.scheduled {
		w.unlink(t)
	}
	if !w.armed {
		// The wheel stood still: its slots are empty, so it may jump to now.
		w.turned = floorDiv(nanotime(), w.tick)
	}
	t.when = when
	w.link(t)
	w.arm()
}

// stop takes t off the wheel. A fire that has begun is not waited for.
func (w *wheel) stop(t *timer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.scheduled {
		w.unlink(t)
	}
}

func (w *wheel) link(t *timer) {
	due := floorDiv(t.when+w.tick-1, w.tick) // the first tick at which t.when has passed
	due = min(max(due, w.turned+1), w.turned+wheelSlots-1)
	w.put(t, int32(floorMod(due, wheelSlots)))
}

func (w *wheel) put(t *timer, slot int32) {
	t.slot = slot
	t.prev, t.next = nil, w.slots[t.slot]
	if t.next != nil {
		t.next.prev = t
	}
	w.slots[t.slot] = t
	t.scheduled = true
	w.count++
}

func (w *wheel) unlink(t *timer) {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		w.slots[t.slot] = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.next, t.prev, t.scheduled = nil, nil, false
	w.count--
}

// arm makes sure that the wheel will turn at its next tick. w.mu is held.
func (w *wheel) arm() {
	if w.armed || w.count == 0 {
		return
	}
	w.armed = true
	wait := time.Duration((w.turned+1)*w.tick - nanotime())
	if w.turning == nil {
		w.turning = time.AfterFunc(wait, w.turn)
	} else {
		w.turning.Reset(wait)
	}
}

// turn fires what is due and arms the next turn. It never runs twice at a time: armed stays set until its end.
func (w *wheel) turn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := nanotime()
	for current := floorDiv(now, w.tick); w.turned < current; {
		// After a long sleep one round sees every slot.
		w.turned = max(w.turned+1, current-wheelSlots+1)
		var early *timer // through next
		for t := w.slots[floorMod(w.turned, wheelSlots)]; t != nil; {
			next := t.next
			w.unlink(t)
			if t.when <= now {
				w.put(t, dueSlot)
			} else {
				t.next, early = early, t
			}
			t = next
		}
		for early != nil {
			t := early
			early = t.next
			w.link(t)
		}
	}
	for t := w.slots[dueSlot]; t != nil; t = w.slots[dueSlot] {
		w.unlink(t)
		w.mu.Unlock()
		t.fire()
		w.mu.Lock()
	}
	w.armed = false
	w.arm()
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func floorMod(a, b int64) int64 { return a - floorDiv(a, b)*b }
