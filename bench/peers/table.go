package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// A result is a line of the table: the medians of what the rounds have shown.
type result struct {
	Row    string `json:"row"`
	Peer   string `json:"peer"`
	Rounds int    `json:"rounds"`
	sample
}

// medians returns the medians of rounds, each column by itself.
func medians(samples []sample) sample {
	column := func(of func(sample) float64) float64 {
		var values []float64
		for _, s := range samples {
			values = append(values, of(s))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return sample{
		CPU:         column(func(s sample) float64 { return s.CPU }),
		Allocations: column(func(s sample) float64 { return s.Allocations }),
		Rate:        column(func(s sample) float64 { return s.Rate }),
		P50:         column(func(s sample) float64 { return s.P50 }),
		P99:         column(func(s sample) float64 { return s.P99 }),
		Resident:    column(func(s sample) float64 { return s.Resident }),
	}
}

// percentiles returns the median and the 99th percentile in µs.
func percentiles(waits []time.Duration) (p50, p99 float64) {
	if len(waits) == 0 {
		return 0, 0
	}
	slices.Sort(waits)
	at := func(part int) float64 { return float64(waits[len(waits)*part/100]) / float64(time.Microsecond) }
	return at(50), at(99)
}

// printRow prints a row of the table, a line for each peer.
func printRow(w io.Writer, results []result) {
	fmt.Fprintf(w, "\n| %s | CPU, µs | allocations | a second | median wait, µs | 99th percentile | RSS, MB |\n|---|---|---|---|---|---|---|\n", results[0].Row)
	for _, r := range results {
		fmt.Fprintf(w, "| %s | %s | %s | %.0f | %s | %s | %.0f |\n",
			r.Peer, short(r.CPU), short(r.Allocations), r.Rate, short(r.P50), short(r.P99), r.Resident)
	}
}

// short prints three digits, or – for nothing.
func short(f float64) string {
	switch {
	case f == 0:
		return "–"
	case f < 10:
		return fmt.Sprintf("%.2f", f)
	case f < 100:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

// writeJSON writes a line for each result.
func writeJSON(w io.Writer, results []result) error {
	for _, r := range results {
		if err := json.NewEncoder(w).Encode(r); err != nil {
			return err
		}
	}
	return nil
}
