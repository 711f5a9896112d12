package atrium

import (
	"math"
	"sync"
	"time"
)

// clockStart is where nanotime counts from.
var clockStart = time.Now()

// nanotime returns the monotonic clock in nanoseconds. Only differences are meaningful.
func nanotime() int64 { return int64(time.Since(clockStart)) }

// after returns the nanotime d from now, bounded so that sums cannot overflow.
func after(d time.Duration) int64 {
	now := nanotime()
	if d > 0 && int64(d) > math.MaxInt64/2-now {
		return math.MaxInt64 / 2
	}
	return now + int64(d)
}

// wheelSlots times the tick is the range of the wheel. A timer beyond it is put into the last slot
// and moved on when the wheel gets there.
const wheelSlots = 128

// dueSlot holds timers that are due and not yet fired. It is a slot like the others, so that a
// timer in it can still be stopped or rescheduled, for example by the fire function before it.
const dueSlot = wheelSlots

// wheel is a hashed timer wheel: it runs all deadlines of a hub with the precision of a tick.
// Timers are linked in intrusive lists, one for each slot; scheduling writes a few pointers and
// allocates nothing. A timer never fires early, and at most two ticks late. There is no goroutine
// while no timer fires: a runtime timer turns the wheel, and is armed only while a timer is
// scheduled.
//
// Its methods are safe for concurrent use, and may be called by a timer's fire function.
type wheel struct {
	tick int64 // nanoseconds a slot

	mu      sync.Mutex             // guards:
	slots   [wheelSlots + 1]*timer // heads of doubly linked lists; the last is dueSlot
	turned  int64                  // the last tick that was processed
	count   int                    // timers scheduled
	turning *time.Timer            // nil until first used
	armed   bool                   // turn is scheduled or running
	due     int64                  // nanotime at which it was to begin
	stalled int64                  // nanotime at which it was last seen to be late
}

// stallTicks is how late a turn is, in ticks, only if the process, or the machine, stood still.
const stallTicks = 4

// timer is one deadline, embedded in what it times. A zero timer with fire set can be scheduled.
type timer struct {
	fire func() // called without locks in the goroutine of turn: it must not block

	// Guarded by wheel.mu.
	next, prev *timer
	slot       int32
	scheduled  bool
	when       int64 // nanotime
}

func newWheel(tick time.Duration) *wheel {
	return &wheel{tick: int64(max(tick, time.Millisecond)), stalled: math.MinInt64 / 2}
}

// lastStall returns the nanotime until which the process last stood still, as far as the wheel can
// tell: it does while timers are scheduled.
func (w *wheel) lastStall() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noteStall(nanotime())
	return w.stalled
}

// noteStall looks whether turn is late. w.mu is held.
func (w *wheel) noteStall(now int64) {
	if w.armed && now-w.due > stallTicks*w.tick {
		w.stalled = now
	}
}

// schedule sets t to fire at when, a nanotime, in place of its previous deadline.
func (w *wheel) schedule(t *timer, when int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set(t, when)
}

// scheduleBefore is schedule if that makes t fire earlier.
func (w *wheel) scheduleBefore(t *timer, when int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !t.scheduled || t.when > when {
		w.set(t, when)
	}
}

// set is schedule with w.mu held.
func (w *wheel) set(t *timer, when int64) {
	if t.scheduled {
		w.unlink(t)
	}
	if !w.armed {
		// The wheel was stopped, so its slots are empty and it can skip to now.
		w.turned = floorDiv(nanotime(), w.tick)
	}
	t.when = when
	w.link(t)
	w.arm()
}

// stop unschedules t. It does not wait for a fire function that is running.
func (w *wheel) stop(t *timer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.scheduled {
		w.unlink(t)
	}
}

// link puts t into the slot of its deadline. w.mu is held, as in put and unlink.
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

// arm schedules turn for the next tick if there are timers. w.mu is held.
func (w *wheel) arm() {
	if w.armed || w.count == 0 {
		return
	}
	w.armed, w.due = true, (w.turned+1)*w.tick
	wait := time.Duration(w.due - nanotime())
	if w.turning == nil {
		w.turning = time.AfterFunc(wait, w.turn)
	} else {
		w.turning.Reset(wait)
	}
}

// turn fires the timers that are due and arms the next turn. Only one runs at a time: armed stays
// set until it returns.
func (w *wheel) turn() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := nanotime()
	w.noteStall(now)
	for current := floorDiv(now, w.tick); w.turned < current; {
		// After a long sleep of the machine one round visits every slot.
		w.turned = max(w.turned+1, current-wheelSlots+1)
		for t := w.slots[floorMod(w.turned, wheelSlots)]; t != nil; {
			next := t.next
			w.unlink(t)
			if t.when <= now {
				w.put(t, dueSlot)
			} else {
				w.link(t) // into another slot
			}
			t = next
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
