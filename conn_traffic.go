package atrium

import (
	"sync/atomic"
	"time"
)

// traffic is how much has gone over a connection in one direction.
type traffic struct {
	messages uint64 // but no heartbeats
	bytes    uint64 // with frame headers and control frames, before TLS
}

// plus returns the sum.
func (t traffic) plus(more traffic) traffic {
	return traffic{t.messages + more.messages, t.bytes + more.bytes}
}

// trafficCount is traffic that is counted in some goroutines and read in others.
type trafficCount struct{ messages, bytes atomic.Uint64 }

func (c *trafficCount) add(messages, bytes int) {
	c.messages.Add(uint64(messages))
	c.bytes.Add(uint64(bytes))
}

func (c *trafficCount) load() traffic { return traffic{c.messages.Load(), c.bytes.Load()} }

// pingTimer measures the time from a heartbeat's ping to its pong. Of several pings that wait for
// their pongs it is the first that counts.
type pingTimer struct {
	pinged atomic.Int64 // nanotime at which that one was queued; 0: none waits
	took   atomic.Int64 // nanoseconds; 0: none was answered yet
}

// ping notes that a ping is queued.
func (r *pingTimer) ping() { r.pinged.CompareAndSwap(0, nanotime()) }

// pong notes that a pong has come.
func (r *pingTimer) pong() {
	if at := r.pinged.Swap(0); at != 0 {
		r.took.Store(max(nanotime()-at, 1))
	}
}

// last returns how long the last one took; 0 if none was answered yet.
func (r *pingTimer) last() time.Duration { return time.Duration(r.took.Load()) }
