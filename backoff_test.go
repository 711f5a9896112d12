package atrium

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"testing/quick"
	"time"
)

// at returns a Backoff with a random number that is always the same.
func (b Backoff) at(random float64) Backoff {
	b.Rand = func() float64 { return random }
	return b
}

// almostOne is the greatest number that a random source returns.
var almostOne = math.Nextafter(1, 0)

func TestBackoffDefaults(t *testing.T) {
	for _, test := range []struct {
		attempt           int
		low, middle, high time.Duration
	}{
		{-1, 500 * time.Millisecond, time.Second, 1500 * time.Millisecond},
		{0, 500 * time.Millisecond, time.Second, 1500 * time.Millisecond},
		{1, time.Second, 2 * time.Second, 3 * time.Second},
		{2, 2 * time.Second, 3500 * time.Millisecond, 5 * time.Second}, // 6 s, but for Max
		{3, 2500 * time.Millisecond, 3750 * time.Millisecond, 5 * time.Second},
		{1_000_000, 2500 * time.Millisecond, 3750 * time.Millisecond, 5 * time.Second},
		{math.MaxInt, 2500 * time.Millisecond, 3750 * time.Millisecond, 5 * time.Second},
	} {
		for random, want := range map[float64]time.Duration{0: test.low, 0.5: test.middle, almostOne: test.high} {
			if got := (Backoff{}).at(random).Delay(test.attempt); (got - want).Abs() > time.Microsecond {
				t.Errorf("attempt %d, random %v: got %v, want %v", test.attempt, random, got, want)
			}
		}
	}
}

func TestBackoffFields(t *testing.T) {
	for _, test := range []struct {
		name      string
		backoff   Backoff
		attempt   int
		low, high time.Duration
	}{
		{"full jitter", Backoff{Jitter: 1}, 0, 0, 2 * time.Second},
		{"full jitter at the maximum", Backoff{Jitter: 1}, 9, 0, 5 * time.Second},
		{"no jitter", Backoff{NoJitter: true}, 1, 2 * time.Second, 2 * time.Second},
		{"no jitter, whatever it is", Backoff{Jitter: 1, NoJitter: true}, 1, 2 * time.Second, 2 * time.Second},
		{"no growth", Backoff{Factor: 1, NoJitter: true}, 1000, time.Second, time.Second},
		{"a factor without end", Backoff{Factor: math.Inf(1), NoJitter: true}, 1, 5 * time.Second, 5 * time.Second},
		{"a minimum above the default maximum", Backoff{Min: time.Minute, NoJitter: true}, 9, time.Minute, time.Minute},
		{"a minimum above the maximum", Backoff{Min: time.Minute, Max: time.Second, NoJitter: true}, 0, time.Second, time.Second},
		{"the longest", Backoff{Max: math.MaxInt64, NoJitter: true}, 1_000_000, math.MaxInt64, math.MaxInt64},
	} {
		if got := test.backoff.at(0).Delay(test.attempt); got != test.low {
			t.Errorf("%s: lowest %v, want %v", test.name, got, test.low)
		}
		if got := test.backoff.at(almostOne).Delay(test.attempt); (got - test.high).Abs() > time.Microsecond {
			t.Errorf("%s: highest %v, want %v", test.name, got, test.high)
		}
	}
}

// What is out of range makes Delay and NewClient panic, with the field's name.
func TestBackoffRefuses(t *testing.T) {
	for _, test := range []struct {
		backoff Backoff
		want    string
	}{
		{Backoff{Jitter: -1}, "Backoff.Jitter is -1, and not from 0 to 1"},
		{Backoff{Jitter: 7}, "Backoff.Jitter is 7"},
		{Backoff{Jitter: math.NaN()}, "Backoff.Jitter is NaN"},
		{Backoff{Factor: 0.1}, "Backoff.Factor is 0.1, and not 1 or more"},
		{Backoff{Factor: -2}, "Backoff.Factor is -2"},
		{Backoff{Factor: math.NaN()}, "Backoff.Factor is NaN"},
		{Backoff{Min: -1}, "Backoff.Min is negative"},
		{Backoff{Max: -1}, "Backoff.Max is negative"},
	} {
		wantPanic(t, test.want, "atrium: "+test.want, func() { test.backoff.Delay(0) })
		wantPanic(t, test.want, "atrium: ClientOptions."+test.want, func() { NewClient("http://localhost", ClientOptions{Backoff: test.backoff}) })
	}
}

// Whatever a Backoff is made of: no delay is out of its bounds, the same random number gives a
// later attempt at least the same delay, and the mean grows.
func TestBackoffProperties(t *testing.T) {
	holds := func(least, most uint32, factor, jitter uint8, attempt uint32, random uint64) bool {
		b := Backoff{
			Min:    time.Duration(least) * time.Microsecond,
			Max:    time.Duration(most) * time.Millisecond,
			Factor: 1 + float64(factor)/32,
			Jitter: float64(jitter) / 255,
		}
		n := b.normalize()
		r := float64(random>>11) / (1 << 53)
		for _, attempt := range []int{int(attempt % 20), int(attempt % 1_000_001), math.MaxInt - 1} {
			this, next := b.at(r).Delay(attempt), b.at(r).Delay(attempt+1)
			least := time.Duration(float64(n.Min) * (1 - n.Jitter))
			if this < least-1 || this > n.Max || next < this {
				t.Logf("%+v: attempt %d: %v, then %v", n, attempt, this, next)
				return false
			}
			if b.at(r).Delay(attempt) != this {
				return false // not pure
			}
			// It is linear in the random number, so the middle is the mean.
			if b.at(0.5).Delay(attempt+1) < b.at(0.5).Delay(attempt) {
				return false
			}
		}
		return true
	}
	if err := quick.Check(holds, &quick.Config{MaxCount: 2000}); err != nil {
		t.Error(err)
	}
}

// Those who failed together are spread evenly over the window, at the maximum too: there is no heap
// at its end.
func TestBackoffSpreads(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, attempt := range []int{0, 3, 1_000_000} {
		b := Backoff{Rand: random.Float64}
		low, high := b.at(0).Delay(attempt), b.at(almostOne).Delay(attempt)
		var tenths [10]int
		for range 10_000 {
			tenths[min(9, int(10*float64(b.Delay(attempt)-low)/float64(high-low)))]++
		}
		for i, n := range tenths {
			if n < 850 || n > 1150 { // five standard deviations
				t.Errorf("attempt %d: %d of 10,000 in tenth %d of the window", attempt, n, i)
			}
		}
	}
}

// How often to try again is the caller's to say.
func ExampleBackoff() {
	backoff := Backoff{Min: 100 * time.Millisecond, Max: time.Second, NoJitter: true}
	for attempt := range 6 {
		fmt.Println(backoff.Delay(attempt))
	}
	// Output:
	// 100ms
	// 200ms
	// 400ms
	// 800ms
	// 1s
	// 1s
}
