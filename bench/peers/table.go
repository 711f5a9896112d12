package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A result is a line of the table: the medians of what the rounds have shown.
type result struct {
	Row    string `json:"row"`
	Peer   string `json:"peer"`
	Rounds int    `json:"rounds"`
	sample
}

// A column is a figure of a sample.
type column struct {
	name  string
	value func(*sample) *float64
}

var columns = []column{
	{"CPU, µs", func(s *sample) *float64 { return &s.CPU }},
	{"allocations", func(s *sample) *float64 { return &s.Allocations }},
	{"a second", func(s *sample) *float64 { return &s.Rate }},
	{"median wait, µs", func(s *sample) *float64 { return &s.P50 }},
	{"99th percentile", func(s *sample) *float64 { return &s.P99 }},
	{"RSS, MB", func(s *sample) *float64 { return &s.Resident }},
	{"idle, bytes each", func(s *sample) *float64 { return &s.Idle }},
	{"under load", func(s *sample) *float64 { return &s.Loaded }},
}

// medians returns the medians of rounds, each column by itself.
func medians(samples []sample) (m sample) {
	for _, c := range columns {
		var values []float64
		for _, s := range samples {
			values = append(values, *c.value(&s))
		}
		slices.Sort(values)
		*c.value(&m) = values[len(values)/2]
	}
	return m
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

// printRow prints a row of the table, a line for each peer, with the columns in which there is
// something.
func printRow(w io.Writer, results []result) {
	fmt.Fprintf(w, "\n| %s |", results[0].Row)
	var shown []column
	for _, c := range columns {
		if slices.ContainsFunc(results, func(r result) bool { return *c.value(&r.sample) != 0 }) {
			shown = append(shown, c)
			fmt.Fprintf(w, " %s |", c.name)
		}
	}
	fmt.Fprintln(w, "\n|---|"+strings.Repeat("---|", len(shown)))
	for _, r := range results {
		fmt.Fprintf(w, "| %s |", r.Peer)
		for _, c := range shown {
			fmt.Fprintf(w, " %s |", short(*c.value(&r.sample)))
		}
		fmt.Fprintln(w)
	}
}

// A summary has a line for each row: the least processor time of the bare loops, of the libraries
// and of Atrium, and how many times the libraries' that is. For memory it has bytes.
type summary [][]result

func (all summary) print(w io.Writer) {
	fmt.Fprintln(w, "\n| CPU of an operation, µs | bare loop | best library | Atrium | ratio |\n|---|---|---|---|---|")
	for _, results := range all {
		of := columns[0].value
		if strings.HasPrefix(results[0].Row, "memory") {
			of = func(s *sample) *float64 { return &s.Idle }
		}
		best := make(map[string]result)
		for _, r := range results {
			kind, _, _ := strings.Cut(r.Peer, ",")
			switch kind {
			case "Atrium":
			case "hijack only", "bare loop":
				kind = "bare"
			default:
				kind = "library"
			}
			if b, ok := best[kind]; !ok || *of(&r.sample) < *of(&b.sample) {
				best[kind] = r
			}
		}
		bare, library, ours := best["bare"], best["library"], best["Atrium"]
		if library.Peer == "" || ours.Peer == "" {
			continue
		}
		fmt.Fprintf(w, "| %s | %s | %s %s | %s | %s |\n", results[0].Row, short(*of(&bare.sample)),
			library.Peer, short(*of(&library.sample)), short(*of(&ours.sample)), short(*of(&ours.sample) / *of(&library.sample)))
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
