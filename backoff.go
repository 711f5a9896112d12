package atrium

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Backoff computes the delays between attempts at something that fails: Min, then Factor times as
// long each time, up to Max. Jitter spreads them, so that clients that failed together do not retry
// together.
//
// The zero value does what Socket.IO's client does, with one difference: there nearly all later
// delays are exactly Max, so that all clients retry at the same instant; here they are spread below
// Max.
//
// A Backoff has no state. Its Delay is safe for concurrent use. With a negative Min or Max, a
// Factor below 1 or a Jitter that is not from 0 to 1, Delay and NewClient panic.
type Backoff struct {
	// Min is the first delay, before Jitter. Zero means 1 second.
	Min time.Duration
	// Max bounds every delay, Jitter included. Zero means 5 seconds, or Min if that is more.
	Max time.Duration
	// Factor multiplies the delay after each attempt; at least 1. Zero means 2.
	Factor float64
	// Jitter is the random part of a delay, from 0 to 1: with 0.5 a delay is between 0.5 and 1.5
	// times its value. With 1, full jitter, it is between 0 and 2 times its value, which is best
	// for a server to which all clients return at once. Zero means 0.5.
	Jitter float64
	// NoJitter turns jitter off: Jitter is ignored.
	NoJitter bool
	// Rand returns a random number in [0, 1). It must be safe for concurrent use if Delay is called
	// concurrently. Nil means math/rand/v2.Float64.
	Rand func() float64
}

// check returns an error that names an invalid field. NaN is invalid.
func (b Backoff) check() error {
	switch {
	case b.Factor != 0 && !(b.Factor >= 1):
		//lint:ignore ST1005 it begins with the field's name
		return fmt.Errorf("Factor is %v, and not 1 or more", b.Factor)
	case !(b.Jitter >= 0 && b.Jitter <= 1):
		//lint:ignore ST1005 it begins with the field's name
		return fmt.Errorf("Jitter is %v, and not from 0 to 1", b.Jitter)
	}
	return cmp.Or(negative(b.Min, "Min"), negative(b.Max, "Max"))
}

// normalize returns b with defaults in place of zeros.
func (b Backoff) normalize() Backoff {
	b.Min = cmp.Or(b.Min, time.Second)
	b.Max = cmp.Or(b.Max, max(5*time.Second, b.Min))
	b.Min = min(b.Min, b.Max)
	b.Factor = cmp.Or(b.Factor, 2)
	b.Jitter = cmp.Or(b.Jitter, 0.5)
	if b.NoJitter {
		b.Jitter = 0
	}
	if b.Rand == nil {
		b.Rand = rand.Float64
	}
	return b
}

// Delay returns how long to wait before an attempt. Attempt 0 is the first one after a failure;
// negative values count as 0. There is no upper limit.
func (b Backoff) Delay(attempt int) time.Duration {
	must("Backoff.", b.check())
	b = b.normalize()
	// An overflow becomes infinite, and then Max. Both ends of the interval grow with the attempt
	// until it ends at Max, so that the last delays are spread below Max instead of all being Max.
	middle := float64(b.Min) * math.Pow(b.Factor, float64(max(attempt, 0)))
	low := min(middle, float64(b.Max)) * (1 - b.Jitter)
	high := min(middle*(1+b.Jitter), float64(b.Max))
	delay := low + (high-low)*b.Rand()
	if delay >= float64(b.Max) { // which, as a float64, may be more than a Duration holds
		return b.Max
	}
	return time.Duration(delay)
}
