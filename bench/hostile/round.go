package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/atrium-go/atrium/bench/process"
)

// round runs attacks one by one and prints a line of the table for each.
type round struct {
	server, attacker *process.Server
	all              *neighbours
	quiet            time.Duration // how long the neighbours are listened to before and after
	failed           bool
}

const (
	recovery  = 30 * time.Second // how long the server may take to be what it was
	spareHeap = 8 << 20          // what may be left: pools, tables that have grown
	spareRSS  = 64 << 20         // the heap has holes afterwards
	spareGo   = 10               // goroutines that come and go with the neighbours
)

func printHead() {
	fmt.Println("\n| attack | how many | seconds | RSS, MB: before, peak, after | heap, MB | goroutines | neighbours wait, ms: p50 before, during, after | p99 | what the offenders were told |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
}

func (r *round) run(i int, t attack) {
	r.all.latency()
	time.Sleep(r.quiet)
	calm := r.all.latency()
	before := r.server.Memory()
	r.stats()
	r.all.latency()

	began := time.Now()
	done := make(chan string, 1)
	go func() { done <- r.attacker.Ask(strconv.Itoa(i)) }()
	if t.during != nil {
		t.during(r.all)
	}
	var line string
	peak := before.Resident
	for sample := time.Tick(20 * time.Millisecond); line == ""; {
		peak = max(peak, r.server.Resident())
		select {
		case line = <-done:
		case <-sample:
		}
	}
	took := time.Since(began)
	during, at := r.all.latency(), r.stats()
	var told tally
	check(json.Unmarshal([]byte(line), &told))

	after, returned := r.returned(before)
	r.all.latency()
	time.Sleep(r.quiet)
	late := r.all.latency()
	fmt.Printf("| %s | %d | %.1f | %s | %s | %d, %d, %d | %s, %s, %s | %s, %s, %s | %v |\n", t.name, t.n, took.Seconds(),
		megabytes(before.Resident, peak, after.Resident), megabytes(before.Heap, at.PeakHeap, after.Heap),
		before.Goroutines, at.PeakGoroutines, after.Goroutines,
		ms(calm.p50), ms(during.p50), ms(late.p50), ms(calm.p99), ms(during.p99), ms(late.p99), told)
	if !returned {
		r.failed = true
		fmt.Printf("%s: after %v the server still holds more than before\n", t.name, recovery)
	}
	if at.Panics > 0 && !r.failed {
		r.failed = true
		fmt.Printf("%s: the server has logged %d errors\n", t.name, at.Panics)
	}
}

// returned waits until the server holds about what it did before.
func (r *round) returned(before process.Memory) (after process.Memory, ok bool) {
	for limit := time.Now().Add(recovery); time.Now().Before(limit); time.Sleep(r.quiet) {
		after = r.server.Memory()
		if after.Heap <= before.Heap+spareHeap && after.Goroutines <= before.Goroutines+spareGo && after.Resident <= before.Resident+spareRSS {
			return after, true
		}
	}
	return after, false
}

// stats asks the server for its peaks since it was last asked.
func (r *round) stats() (s stats) {
	check(json.Unmarshal([]byte(r.server.Ask("stats")), &s))
	return s
}

func megabytes(before, peak, after int64) string {
	mb := func(n int64) float64 { return float64(n) / (1 << 20) }
	return fmt.Sprintf("%.0f, %.0f, %.0f", mb(before), mb(max(before, peak)), mb(after))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }
