package main

import (
	"fmt"
	"time"

	"github.com/atrium-go/atrium/bench/process"
)

// A sample is what a round has shown.
type sample struct {
	CPU         float64 `json:"cpu_us"`      // processor time of the server an operation, in µs
	Allocations float64 `json:"allocations"` // of the server, an operation
	Rate        float64 `json:"per_second"`  // operations
	P50         float64 `json:"p50_us"`      // of the time that clients waited, in µs
	P99         float64 `json:"p99_us"`
	Resident    float64 `json:"rss_mb"` // memory of the server at the end of the round
}

// measure starts a peer's server, connects its clients, has them do a round for nothing, and
// measures the next.
func measure(r row, p peer, part int) (got sample, err error) {
	service := p.work[r.work]
	s := process.Start(p.kind(r.work))
	stop := s.Stop
	defer func() { stop() }()
	l := r.load(part)
	if err := l.connect(place{s, service.dialect, false}); err != nil {
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
	got = sample{
		CPU:         float64(s.CPU()-cpu) / float64(time.Microsecond) / float64(n),
		Allocations: float64(s.Allocations()-allocations) / float64(n),
		Rate:        float64(n) / elapsed.Seconds(),
		Resident:    float64(s.Resident()) / 1e6,
	}
	got.P50, got.P99 = percentiles(l.waits())
	stop = func() {}
	s.Stop()
	if err := l.finish(); err != nil {
		return got, fmt.Errorf("after the end: %w", err)
	}
	return got, nil
}
