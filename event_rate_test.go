package atrium

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// A bucket gives what a count of tokens would give that is kept in fractions of them.
func TestEventRateIsATokenBucket(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		rate, burst := 1<<random.IntN(8), 1+random.IntN(20) // a second divided by the rate has no rest
		var r eventRate
		tokens, last := float64(burst), int64(0)
		for now := int64(0); now < int64(time.Second); now += random.Int64N(3 * int64(time.Second) / int64(rate)) {
			tokens = min(tokens+float64(now-last)*float64(rate)/float64(time.Second), float64(burst))
			last = now
			want := tokens >= 1
			if want {
				tokens--
			}
			if got := r.take(now, rate, burst); got != want {
				t.Fatalf("%d a second, %d at a time, at %d with %g tokens: %t", rate, burst, now, tokens, got)
			}
		}
	}
}

// No numbers overflow.
func TestEventRateOfAnySize(t *testing.T) {
	for _, row := range []struct{ rate, burst, want int }{
		{1, 1, 1}, {1, noBound, 1000}, {noBound, 1, 1}, {noBound, noBound, 1000}, {math.MaxInt32, 5, 5},
	} {
		var r eventRate
		got := 0
		for range 1000 {
			if r.take(1, row.rate, row.burst) {
				got++
			}
		}
		if got != row.want {
			t.Errorf("%+v: %d", row, got)
		}
	}
}
