package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// A row says what was measured, and in what.
type row struct{ what, unit string }

// A cell is a row's figure of one size: the medians of its values count.
type cell struct {
	row    row
	of     string
	values []float64
}

// table is what was measured, in order.
type table struct{ cells []*cell }

func (t *table) add(r row, of string, value float64) {
	for _, c := range t.cells {
		if c.row == r && c.of == of {
			c.values = append(c.values, value)
			return
		}
	}
	t.cells = append(t.cells, &cell{r, of, []float64{value}})
}

func (c *cell) median() float64 { return slices.Sorted(slices.Values(c.values))[len(c.values)/2] }

// each calls f with the median of each cell, as it is and as a multiple of the row's first.
func (t *table) each(f func(c *cell, median, ratio float64)) {
	var rows []row
	for _, c := range t.cells {
		if !slices.Contains(rows, c.row) {
			rows = append(rows, c.row)
		}
	}
	for _, r := range rows {
		base := 0.0
		for _, c := range t.cells {
			if c.row == r {
				if base == 0 {
					base = c.median()
				}
				f(c, c.median(), c.median()/base)
			}
		}
	}
}

// print prints the table as markdown.
func (t *table) print(w io.Writer) {
	fmt.Fprintln(w, "| what | of | median | least | most | times the first |\n|---|---|---|---|---|---|")
	t.each(func(c *cell, median, ratio float64) {
		format := func(v float64) string {
			if c.row.unit == "bytes" {
				return fmt.Sprintf("%.0f", v)
			}
			return fmt.Sprintf("%.3g", v)
		}
		fmt.Fprintf(w, "| %s, %s | %s | %s | %s | %s | %.2f |\n", c.row.what, c.row.unit, c.of, format(median),
			format(slices.Min(c.values)), format(slices.Max(c.values)), ratio)
	})
}

// lines prints a line of JSON for each cell.
func (t *table) lines(w io.Writer) error {
	out := json.NewEncoder(w)
	var failed error
	t.each(func(c *cell, median, ratio float64) {
		err := out.Encode(map[string]any{"row": c.row.what, "unit": c.row.unit, "of": c.of, "median": median, "ratio": ratio, "values": c.values})
		if err != nil {
			failed = err
		}
	})
	return failed
}
