package atrium

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const testTick = 10 * time.Millisecond

// alarm is a timer that remembers when it fired.
type alarm struct {
	timer
	fired []int64
}

func newAlarm() *alarm {
	a := new(alarm)
	a.fire = func() { a.fired = append(a.fired, nanotime()) }
	return a
}

// expect checks that the alarm has fired once for each when given: not early, and at most two ticks
// late.
func (a *alarm) expect(t *testing.T, whens ...int64) {
	t.Helper()
	synctest.Wait()
	if len(a.fired) != len(whens) {
		t.Fatalf("fired %d times, want %d", len(a.fired), len(whens))
	}
	for i, when := range whens {
		if late := time.Duration(a.fired[i] - when); late < 0 || late > 2*testTick {
			t.Fatalf("fired %v late", late)
		}
	}
}

// in returns the time that is d from now.
func in(d time.Duration) int64 { return nanotime() + int64(d) }

// expectQuiet checks that an empty wheel stands still, with no runtime timer armed.
func expectQuiet(t *testing.T, w *wheel) {
	t.Helper()
	time.Sleep(testTick) // the turn that finds nothing to do
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.armed || w.count != 0 || w.turning != nil && w.turning.Stop() {
		t.Errorf("an empty wheel turns: armed %v, count %d", w.armed, w.count)
	}
	for i, head := range w.slots {
		if head != nil {
			t.Errorf("slot %d is not empty", i)
		}
	}
}

// Each deadline alone on its wheel, from the past to several rounds ahead, on a tick and beside it,
// begun at various moments between two ticks.
func TestWheelFiresInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, phase := range []time.Duration{0, 1, testTick / 2, testTick - 1} {
			for _, d := range []time.Duration{
				-time.Hour, -testTick, -1, 0, 1, testTick - 1, testTick, testTick + 1, 3*testTick + testTick/3,
				(wheelSlots - 2) * testTick, (wheelSlots-1)*testTick - 1, (wheelSlots - 1) * testTick, (wheelSlots-1)*testTick + 1,
				wheelSlots * testTick, wheelSlots*testTick + 1, 3*wheelSlots*testTick - 1, 10*wheelSlots*testTick + 7,
			} {
				time.Sleep(testTick - time.Duration(floorMod(nanotime(), int64(testTick))) + phase)
				w, a := newWheel(testTick), newAlarm()
				when := in(d)
				w.schedule(&a.timer, when)
				when = max(when, in(0))
				time.Sleep(max(d, 0) + 2*testTick)
				a.expect(t, when)
				expectQuiet(t, w)
			}
		}
	})
}

// All of them on one wheel: each tick sees its own.
func TestWheelManyTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWheel(testTick)
		alarms := make(map[*alarm]int64)
		for i := range 1000 {
			a := newAlarm()
			alarms[a] = in(time.Duration(i) * testTick / 3)
			w.schedule(&a.timer, alarms[a])
		}
		time.Sleep(1000*testTick/3 + 2*testTick)
		for a, when := range alarms {
			a.expect(t, when)
		}
		expectQuiet(t, w)
	})
}

func TestWheelReschedule(t *testing.T) {
	for _, test := range []struct{ name, first, second string }{
		{"earlier", "2s", "1s"},
		{"later", "1s", "2s"},
		{"to now", "1s", "0s"},
		{"to the same", "1s", "1s"},
		{"far, then near", "5m", "30ms"},
		{"near, then far", "30ms", "5m"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, _ := time.ParseDuration(test.first)
				second, _ := time.ParseDuration(test.second)
				w, a := newWheel(testTick), newAlarm()
				w.schedule(&a.timer, in(first))
				time.Sleep(min(first, second) / 2)
				when := in(second)
				w.schedule(&a.timer, when)
				time.Sleep(first + second + 2*testTick)
				a.expect(t, when)
				expectQuiet(t, w)
			})
		})
	}
}

func TestWheelScheduleBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, a := newWheel(testTick), newAlarm()
		first := in(time.Second)
		w.scheduleBefore(&a.timer, first)
		w.scheduleBefore(&a.timer, first)
		w.scheduleBefore(&a.timer, in(2*time.Second))
		w.scheduleBefore(&a.timer, in(time.Hour))
		time.Sleep(3 * time.Second)
		a.expect(t, first)

		w.scheduleBefore(&a.timer, in(time.Hour))
		second := in(time.Second)
		w.scheduleBefore(&a.timer, second)
		time.Sleep(2 * time.Hour)
		a.expect(t, first, second)
		expectQuiet(t, w)
	})
}

func TestWheelStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWheel(testTick)
		stopped, kept, again := newAlarm(), newAlarm(), newAlarm()
		w.stop(&stopped.timer) // never scheduled
		when := in(time.Second)
		for _, a := range []*alarm{stopped, kept, again} {
			w.schedule(&a.timer, when) // one slot for all three
		}
		w.stop(&stopped.timer)
		w.stop(&stopped.timer)
		w.stop(&again.timer)
		w.schedule(&again.timer, when)
		time.Sleep(2 * time.Second)
		stopped.expect(t)
		kept.expect(t, when)
		again.expect(t, when)
		w.stop(&kept.timer) // has fired
		expectQuiet(t, w)

		// A wheel whose only timer is stopped grows quiet before that timer's time, and still
		// starts again.
		w.schedule(&stopped.timer, in(time.Hour))
		w.stop(&stopped.timer)
		expectQuiet(t, w)
		when = in(time.Second)
		w.schedule(&stopped.timer, when)
		time.Sleep(2 * time.Second)
		stopped.expect(t, when)
	})
}

// Of several timers due at one tick, the first to fire decides about the others.
func TestWheelStopAndScheduleOfTimersThatAreDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for rotation := range 3 {
			w := newWheel(testTick)
			var alarms [3]*alarm
			first := true
			var later int64
			for i := range alarms {
				a := newAlarm()
				alarms[i] = a
				remember := a.fire
				a.fire = func() {
					remember()
					if !first {
						return
					}
					first = false
					later = in(time.Second)
					w.stop(&alarms[(i+1)%3].timer)
					w.schedule(&alarms[(i+2)%3].timer, later)
				}
			}
			when := in(time.Second)
			for i := range alarms {
				w.schedule(&alarms[(i+rotation)%3].timer, when)
			}
			time.Sleep(3 * time.Second)
			synctest.Wait()
			decider := slices.IndexFunc(alarms[:], func(a *alarm) bool { return len(a.fired) > 0 && a.fired[0] < later })
			if decider < 0 {
				t.Fatal("none fired")
			}
			alarms[decider].expect(t, when)
			alarms[(decider+1)%3].expect(t)
			alarms[(decider+2)%3].expect(t, later)
			expectQuiet(t, w)
		}
	})
}

func TestWheelScheduleFromFire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWheel(testTick)
		var whens []int64
		periodic, other := newAlarm(), newAlarm()
		remember := periodic.fire
		var otherWhen int64
		periodic.fire = func() {
			remember()
			if len(whens) == 5 {
				otherWhen = in(0) // due already: not in this turn, but in the next
				w.schedule(&other.timer, otherWhen)
				return
			}
			whens = append(whens, in(time.Second))
			w.schedule(&periodic.timer, whens[len(whens)-1])
		}
		whens = append(whens, in(time.Second))
		w.schedule(&periodic.timer, whens[0])
		time.Sleep(6 * time.Second)
		synctest.Wait()
		periodic.expect(t, whens...)
		other.expect(t, otherWhen)
		expectQuiet(t, w)
	})
}

// A machine that slept, or a fire function that blocked although it must not: afterwards everything
// that is due fires, and nothing else does.
func TestWheelLongJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, jump := range []time.Duration{3 * testTick, wheelSlots * testTick, 10*wheelSlots*testTick + 5} {
			w := newWheel(testTick)
			var blocker timer
			blocker.fire = func() { time.Sleep(jump) }
			w.schedule(&blocker, in(testTick))
			start := nanotime()
			var alarms []*alarm
			var whens []int64
			for i := range 3 * wheelSlots * 5 {
				a := newAlarm()
				alarms, whens = append(alarms, a), append(whens, in(time.Duration(i)*testTick))
				w.schedule(&a.timer, whens[i])
			}
			time.Sleep(jump)
			late := newAlarm() // scheduled while the wheel is behind
			lateWhen := in(testTick)
			w.schedule(&late.timer, lateWhen)
			time.Sleep(3*wheelSlots*5*testTick + 2*testTick)
			synctest.Wait()
			awake := start + int64(jump) + 2*int64(testTick)
			for i, a := range alarms {
				if len(a.fired) != 1 || a.fired[0] < whens[i] || a.fired[0] > max(whens[i], awake)+2*int64(testTick) {
					t.Fatalf("jump %v, alarm %d: due at %v, fired at %v", jump, i, time.Duration(whens[i]-start), a.fired)
				}
			}
			if len(late.fired) != 1 || late.fired[0] < lateWhen || late.fired[0] > max(lateWhen, awake)+2*int64(testTick) {
				t.Fatalf("jump %v: fired at %v", jump, late.fired)
			}
			expectQuiet(t, w)
		}
	})
}

// The ends of time: neither overflows into the other.
func TestWheelExtremes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWheel(testTick)
		never, atOnce := newAlarm(), newAlarm()
		w.schedule(&never.timer, math.MaxInt64)
		now := nanotime()
		w.schedule(&atOnce.timer, math.MinInt64)
		time.Sleep(5 * time.Minute)
		never.expect(t)
		atOnce.expect(t, now)
		w.stop(&never.timer)
		expectQuiet(t, w)
	})
}

// Random operations, beside a list of what must come of them.
func TestWheelModel(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			w := newWheel(testTick)
			type modelTimer struct {
				timer
				when      int64 // what the model knows: when it is to fire,
				scheduled bool  // and whether at all
			}
			timers := make([]modelTimer, 40)
			fires := 0

			// step does one random thing to one random timer.
			step := func() {
				mt := &timers[random.IntN(len(timers))]
				ahead := []time.Duration{0, testTick, 20 * testTick, wheelSlots * testTick, 4 * wheelSlots * testTick}
				when := in(time.Duration(random.Int64N(int64(ahead[random.IntN(len(ahead))])+1)) - testTick/2)
				switch random.IntN(5) {
				case 0:
					w.stop(&mt.timer)
					mt.scheduled = false
				case 1, 2:
					w.scheduleBefore(&mt.timer, when)
					if !mt.scheduled || when < mt.when {
						mt.when, mt.scheduled = when, true
					}
				default:
					w.schedule(&mt.timer, when)
					mt.when, mt.scheduled = when, true
				}
			}
			for i := range timers {
				mt := &timers[i]
				mt.fire = func() {
					now := nanotime()
					switch {
					case !mt.scheduled:
						t.Errorf("seed %d: timer %d fires, but is not scheduled", seed, i)
					case now < mt.when:
						t.Errorf("seed %d: timer %d fires %v early", seed, i, time.Duration(mt.when-now))
					}
					mt.scheduled = false
					fires++
					if random.IntN(3) == 0 {
						step()
					}
				}
			}
			// check compares the wheel with the model. The lock orders this before the next turn.
			check := func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				for i := range timers {
					mt := &timers[i]
					// A time in the past, at most half a tick, counts from when it was said.
					if late := time.Duration(nanotime() - mt.when); mt.scheduled && late > 2*testTick+testTick/2 {
						t.Fatalf("seed %d: timer %d is %v late", seed, i, late)
					}
					if mt.scheduled != mt.timer.scheduled {
						t.Fatalf("seed %d: timer %d is scheduled: %v, the model says %v", seed, i, mt.timer.scheduled, mt.scheduled)
					}
				}
			}
			for range 2000 {
				pause := time.Duration(random.Int64N(int64(8 * testTick)))
				if random.IntN(3) > 0 {
					step()
					pause = 0
				}
				check()
				time.Sleep(pause)
				synctest.Wait()
			}
			check()
			for i := range timers {
				w.stop(&timers[i].timer)
				timers[i].scheduled = false
			}
			expectQuiet(t, w)
			if fires < 100 {
				t.Errorf("seed %d: only %d timers fired", seed, fires)
			}
		})
	}
}

// Its methods may be called from any goroutine; this is for the race detector.
func TestWheelConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWheel(testTick)
		var group sync.WaitGroup
		shared := timer{fire: func() {}}
		for i := range uint64(8) {
			group.Go(func() {
				random := rand.New(rand.NewPCG(i, 1))
				fired := make(chan struct{}, 1)
				own := timer{fire: func() { fired <- struct{}{} }}
				for range 200 {
					w.schedule(&shared, in(time.Duration(random.Int64N(int64(5*testTick)))))
					w.schedule(&own, in(time.Duration(random.Int64N(int64(5*testTick)))))
					if random.IntN(4) == 0 {
						w.stop(&shared)
					}
					<-fired
				}
			})
		}
		group.Wait()
		w.stop(&shared)
		expectQuiet(t, w)
	})
}

// The same by the real clock, which synctest replaces above.
func TestWheelRealTime(t *testing.T) {
	w := newWheel(0) // a tick is at least a millisecond
	fired := make(chan int64)
	alarm := timer{fire: func() { fired <- nanotime() }}
	for range 3 {
		when := in(5 * time.Millisecond)
		w.schedule(&alarm, when)
		if now := <-fired; now < when {
			t.Errorf("fired %v early", time.Duration(when-now))
		}
	}
}

func TestFloorDivMod(t *testing.T) {
	for a := int64(-50); a <= 50; a++ {
		for b := int64(1); b <= 9; b++ {
			want := int64(math.Floor(float64(a) / float64(b)))
			if q, r := floorDiv(a, b), floorMod(a, b); q != want || r != a-want*b || r < 0 || r >= b {
				t.Errorf("%d by %d: %d, %d", a, b, q, r)
			}
		}
	}
}

func TestWheelAllocatesNothing(t *testing.T) {
	w := newWheel(time.Hour) // turns after the test
	var alarm timer
	w.schedule(&alarm, in(time.Hour))
	n := testing.AllocsPerRun(100, func() {
		w.schedule(&alarm, in(2*time.Hour))
		w.scheduleBefore(&alarm, in(time.Hour))
		w.stop(&alarm)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
	w.turning.Stop()
}

func BenchmarkWheelSchedule(b *testing.B) {
	w := newWheel(time.Second)
	timers := make([]timer, 1024)
	for i := range timers {
		timers[i].fire = func() {}
	}
	now := nanotime()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w.schedule(&timers[i%len(timers)], now+int64(time.Duration(i%1000)*time.Second))
	}
	for i := range timers {
		w.stop(&timers[i])
	}
}

// BenchmarkRuntimeTimerReset is what the wheel spares.
func BenchmarkRuntimeTimerReset(b *testing.B) {
	timers := make([]*time.Timer, 1024)
	for i := range timers {
		timers[i] = time.AfterFunc(time.Hour, func() {})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		timers[i%len(timers)].Reset(time.Hour + time.Duration(i%1000)*time.Second)
	}
	for _, t := range timers {
		t.Stop()
	}
}
