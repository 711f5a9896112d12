package main

import (
	"fmt"
	"io"
)

// print prints the figures as markdown, and what has happened.
func (s *soak) print(w io.Writer) {
	fmt.Fprintln(w, "| when | node | sockets | goroutines | timers | descriptors | heap, KB | resident, KB |\n|---|---|---|---|---|---|---|---|")
	for _, m := range s.figures {
		fmt.Fprintf(w, "| %s | %d | %d | %d | %d | %d | %d | %d |\n", m.When, m.Node, m.Sockets, m.Goroutines, m.Timers, m.Descriptors, m.Heap>>10, m.Resident>>10)
	}
	fmt.Fprintln(w)
	for _, c := range s.counts() {
		fmt.Fprintf(w, "%10d %s\n", c.number, c.what)
	}
}

// count is how often something has happened.
type count struct {
	what   string
	number int64
}

func (s *soak) counts() []count {
	f := s.fleet
	list := []count{
		{"events were told", f.Told.Load()},
		{"events of the other node were lost by the Bus, which promises no more", f.Missed.Load()},
		{"of these had been kept by a successor, and came behind later ones", f.Late.Load()},
		{"joins", f.Joins.Load()},
		{"leaves", f.Leaves.Load()},
		{"calls were acknowledged", f.Calls.Load()},
		{"calls were sent again", f.Again.Load()},
		{"calls were known by their key", f.Known.Load()},
		{"connections were cut", f.Cut.Load()},
		{"connections were ended by the servers", f.Closed.Load()},
		{"connections continued a socket", f.Recovered.Load()},
		{"connections began anew", f.Anew.Load()},
		{"attempts failed", f.Refused.Load()},
		{"restarts of servers", s.restarts.Load()},
		{"restarts of Redis", s.kills.Load()},
		{"bad clients that read slowly", s.bad.slow.Load()},
		{"bad clients that did not read", s.bad.stalled.Load()},
		{"bad clients that sent garbage", s.bad.garbage.Load()},
	}
	for what, n := range f.HTTP() {
		list = append(list, count{what, int64(n)})
	}
	return list
}

// report is what -json writes.
func (s *soak) report() any {
	counts := make(map[string]int64)
	for _, c := range s.counts() {
		counts[c.what] = c.number
	}
	return map[string]any{"figures": s.figures, "counts": counts}
}
