package atrium

import (
	"math/bits"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// counters are a hub's, since New. What each event or delivery counts has shards, so that
// processors do not wait for each other; all else is rare. What goes over a WebSocket counts in its
// Conn, and in liveSessions.gone when its session has gone.
type counters struct {
	start  int64 // nanotime
	shards []counterShard
	next   atomic.Uint32 // the shard of the next session

	opened, upgraded, slow, silent atomic.Uint64
	refused                        [refusalKinds]atomic.Uint64
	left                           [len(allReasons)]atomic.Uint64
	polled                         struct{ received, sent trafficCount }

	panics, errors       atomic.Uint64
	answered, unanswered atomic.Uint64
	recovery             struct{ tried, recovered, anew atomic.Uint64 }
}

// counterShard is what counts on the hot paths. It takes whole pairs of cache lines.
type counterShard struct {
	events                     atomic.Uint64 // received
	emits, deliveries, dropped atomic.Uint64
	duration, wait             histogramCount
	_                          [(128 - (4*8+2*histogramSize)%128) % 128]byte
}

const histogramSize = (len(HistogramBounds) + 2) * 8

func (c *counters) init() {
	c.start = nanotime()
	c.shards = make([]counterShard, 1<<bits.Len(uint(runtime.GOMAXPROCS(0)-1)))
}

// shard returns the shard with a number of any size.
func (c *counters) shard(number uint32) *counterShard {
	return &c.shards[int(number)&(len(c.shards)-1)]
}

// handled counts an event whose handlers have returned.
func (c *counterShard) handled(at handling) {
	c.duration.add(nanotime() - at.began)
	c.wait.add(at.waited)
}

// ended counts a session that ends for the reason.
func (c *counters) ended(reason Reason) {
	switch reason {
	case ReasonSlowConsumer:
		c.slow.Add(1)
	case ReasonPingTimeout:
		c.silent.Add(1)
	}
}

// leave counts a socket that leaves for the reason.
func (c *counters) leave(reason Reason) {
	if i := slices.Index(allReasons[:], reason); i >= 0 {
		c.left[i].Add(1)
	}
}

// refusedStats returns the refusals.
func (c *counters) refusedStats() RefusedStats {
	n := func(kind refusalKind) uint64 { return c.refused[kind].Load() }
	return RefusedStats{
		Origin: n(refusedOrigin), Accept: n(refusedAccept), Use: n(refusedUse),
		Full: n(refusedFull), PerClient: n(refusedPerClient),
		Malformed: n(refusedMalformed), Unknown: n(refusedUnknown), ShuttingDown: n(refusedShuttingDown),
	}
}

// addShards adds up the shards.
func (c *counters) addShards(s *Stats) {
	for i := range c.shards {
		shard := &c.shards[i]
		s.Received.Events += shard.events.Load()
		s.Sent.Events += shard.emits.Load()
		s.Deliveries += shard.deliveries.Load()
		s.Dropped += shard.dropped.Load()
		shard.duration.addTo(&s.Handlers.Duration)
		shard.wait.addTo(&s.Handlers.Wait)
	}
}

// histogramCount counts durations.
type histogramCount struct {
	counts [len(HistogramBounds) + 1]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

func (h *histogramCount) add(d int64) {
	i := 0
	for i < len(HistogramBounds) && d > int64(HistogramBounds[i]) {
		i++
	}
	h.counts[i].Add(1)
	if d > 0 {
		h.sum.Add(d)
	}
}

// addTo adds what was counted.
func (h *histogramCount) addTo(sum *Histogram) {
	for i := range h.counts {
		sum.Counts[i] += h.counts[i].Load()
	}
	sum.Sum += time.Duration(h.sum.Load())
}
