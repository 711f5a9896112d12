package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// table is what was measured of each kind, in order.
type table struct {
	title string
	rows  []row
}

type row struct {
	kind   string
	rounds []figures
}

func (t *table) add(kind string, f figures) {
	i := slices.IndexFunc(t.rows, func(r row) bool { return r.kind == kind })
	if i < 0 {
		i = len(t.rows)
		t.rows = append(t.rows, row{kind: kind})
	}
	t.rows[i].rounds = append(t.rows[i].rounds, f)
}

// median returns the median of a figure.
func (r *row) median(of func(f figures) float64) float64 {
	var values []float64
	for _, f := range r.rounds {
		values = append(values, of(f))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// print prints the table as markdown.
func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "| %s | processor time a second | messages a second to a member | bytes a second to a member | resident bytes of a member | told s after the last |\n"+
		"|---|---|---|---|---|---|\n", t.title)
	for _, r := range t.rows {
		fmt.Fprintf(w, "| %s | %.0f ms | %.1f | %.0f | %.0f | %.1f |\n", r.kind,
			r.median(func(f figures) float64 { return float64(f.cpu) / float64(time.Millisecond) }),
			r.median(func(f figures) float64 { return f.messages }),
			r.median(func(f figures) float64 { return f.bytes }),
			r.median(func(f figures) float64 { return f.memory }),
			r.median(func(f figures) float64 { return f.behind.Seconds() }))
	}
}
