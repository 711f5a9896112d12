package atrium

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait before each further attempt at something that fails: Min, then Factor times as long
// each time, up to Max, and spread by Jitter so that those who failed together do not come back together.
//
// The zero value is what Socket.IO's client does, but for one thing. There nearly all waits end up at exactly Max, and
// with them all clients in one instant; here the last waits are spread below it.
//
// A Backoff is a value without state, and its Delay safe for concurrent use. With a negative Min or Max, a Factor below 1 or a
// Jitter that is not from 0 to 1, Delay and NewClient panic.
type Backoff struct {
	// Min is the first delay, before Jitter. Zero means 1 second.
	Min time.Duration
	// Max is more than any delay is, with Jitter. Zero means 5 seconds, or Min if that is more.
	Max time.Duration
	// Factor is by how much the delay grows, 1 at least. Zero means 2.
	Factor float64
	// Jitter is the part of the delay that is left to chance: with 0.5 it is between half as much and half as much
	// again. With 1, which is full jitter, it is between nothing and twice as much: the best that can be done for a
	// server to which all come back at once. Zero means 0.5.
	Jitter float64
	// NoJitter leaves nothing to chance. Jitter is not used then.
	NoJitter bool
	// Rand returns a random number from 0 to below 1. With a given one, Delay is a function of its argument only. It
	// must be safe for concurrent use if Delay is to be. Zero means math/rand/v2.Float64.
	Rand func() float64
}

// check returns an error that names the field that is wrong. NaN is, too.
func (b Backoff) check() error {
	switch {
	case b.Factor != 0 && !(b.Factor >= 1):
		return fmt.Errorf("Factor is %v, and not 1 or more", b.Factor)
	case !(b.Jitter >= 0 && b.Jitter <= 1):
		return fmt.Errorf("Jitter is %v, and not from 0 to 1", b.Jitter)
	}
	return cmp.Or(negative(b.Min, "Min"), negative(b.Max, "Max"))
}

// normalize puts the defaults in place of zeros.
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

// Delay returns how long to wait before an attempt; 0 is the first after a failure, and a negative one counts as that.
// No attempt is too high.
func (b Backoff) Delay(attempt int) time.Duration {
	must("Backoff.", b.check())
	b = b.normalize()
	// What overflows becomes infinite, and then Max. Both ends of the window grow with the attempt, and so does its
	// mean; it is a window below Max at the last, and not a heap at Max.
	middle := float64(b.Min) * math.Pow(b.Factor, float64(max(attempt, 0)))
	low := min(middle, float64(b.Max)) * (1 - b.Jitter)
	high := min(middle*(1+b.Jitter), float64(b.Max))
	delay := low + (high-low)*b.Rand()
	if delay >= float64(b.Max) { // which, as a float64, may be more than a Duration holds
		return b.Max
	}
	return time.Duration(delay)
}
