package main

import (
	"fmt"
	"time"
)

// A sample is what a round has shown.
type sample struct {
	CPU         float64 `json:"cpu_us"`      // processor time of the server an operation, in µs
	Allocations float64 `json:"allocations"` // of the server, an operation
	Rate        float64 `json:"per_second"`  // operations
	P50         float64 `json:"p50_us"`      // of the time that clients waited, in µs
	P99         float64 `json:"p99_us"`
	Resident    float64 `json:"rss_mb"` // of the server at the end of the round
	// What the server has more than before its clients connected, in bytes a connection: at the end
	// of the round, and after a garbage collection.
	Loaded float64 `json:"loaded_bytes"`
	Idle   float64 `json:"idle_bytes"`
}

// measure starts a peer's server, connects its clients, has them do a round for nothing, and
// measures the next. After an error the server goes on, until this process ends.
func (r row) measure(p peer, part int) (got sample, err error) {
	s := p.start(r.work, r.overTLS)
	before := int64(0)
	l := r.load(part)
	if r.memory {
		// What the process needs once is there before the first measurement.
		first := handshakes{times: 100, place: s}
		if _, err := first.round(); err != nil {
			return got, err
		}
		before = s.Memory().Resident
	}
	if err := l.connect(s); err != nil {
		return got, err
	}
	if _, err := l.round(); err != nil {
		return got, err
	}
	allocations, cpu, start := s.Allocations(), s.CPU(), time.Now()
	n, err := l.round()
	if err != nil {
		return got, err
	}
	elapsed := time.Since(start)
	got.CPU = float64(s.CPU()-cpu) / float64(time.Microsecond) / float64(n)
	got.Allocations = float64(s.Allocations()-allocations) / float64(n)
	got.Rate = float64(n) / elapsed.Seconds()
	got.P50, got.P99 = percentiles(l.waits())
	resident := s.Resident()
	got.Resident = float64(resident) / 1e6
	if r.memory {
		got.Loaded = float64(resident-before) / float64(l.connections())
		got.Idle = float64(s.Memory().Resident-before) / float64(l.connections())
	}
	s.Stop()
	if err := l.finish(); err != nil {
		return got, fmt.Errorf("after the last round: %w", err)
	}
	return got, nil
}
