// Growth measures what becomes dearer when there are more: members of a room, rooms, rooms that an
// event goes to, members that come and go, processors. Each server is a process of its own, which
// tells the processor time it has used, the kernel's included. Each event has a number, and each
// client checks that it is told what it should be, once and in order; otherwise the program fails.
//
// Over TCP much of the growth is the kernel's: a bare loop of writes is measured, too. In memory a
// server has no network, but a function call for each write, so that what Atrium itself does is
// seen more clearly, and the limit of open files is none.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"

	"github.com/atrium-go/atrium/bench/process"
)

const usage = `Usage: go run ./growth [flags]

Growth measures the processor time of an Atrium server for an event, a call or a visit when there are
more members, rooms, visitors or processors. It fails if a client is told too much or too little.

`

const legend = `Times are processor time of the server, the kernel's included, for what the row names. "TCP" has clients
over TCP, "in memory" a function call for each write. The last column is the median as a multiple of the
row's first.

`

var (
	quick     = flag.Bool("quick", false, "small numbers, once, in less than a minute: shows that it works, and no more")
	passes    = flag.Int("passes", 3, "how many servers of each size")
	only      = flag.String("only", "", "measure one `part` of room, memory, rooms, to, churn, processors")
	jsonFile  = flag.String("json", "", "write the results to this `file`, too, a line of JSON each")
	profileTo = flag.String("profile", "", "a `directory` for profiles of the servers with 8 processors; their costs include the profiling")
)

func main() {
	process.Serve(map[string]process.Kind{
		"bare TCP":        bare,
		"room TCP":        profiled(room(false)),
		"room in memory":  profiled(room(true)),
		"rooms TCP":       profiled(rooms(false)),
		"rooms in memory": profiled(rooms(true)),
		"churn":           profiled(churn),
		"echo":            profiled(echo),
	})
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	sizes, most := []int{1000, 5000, 20_000, 50_000}, []int{1000, 100_000}
	if *quick {
		*passes, sizes, most = 1, []int{500, 2000}, []int{1000, 10_000}
	}
	overTCP := sizes
	largest := slices.Max(sizes)
	if files := process.Files(largest+100) - 100; files < largest {
		fmt.Printf("The system allows %d open files: %d members over TCP are the most.\n\n", files+100, files)
		overTCP = slices.DeleteFunc(slices.Clone(sizes), func(n int) bool { return n >= files })
		overTCP = append(overTCP, files)
	}
	t := new(table)
	parts := []struct {
		name string
		run  func()
	}{
		{"room", func() { each(overTCP, func(n int) { deliver(t, "room", "TCP", n); deliver(t, "bare", "TCP", n) }) }},
		{"memory", func() { each(sizes, func(n int) { deliver(t, "room", "in memory", n) }) }},
		{"rooms", func() { each(most, func(n int) { emit(t, "TCP", n); emit(t, "in memory", n) }) }},
		{"to", func() { each([]int{10, 1000, 20_000}, func(n int) { emitToMany(t, n) }) }},
		{"churn", func() { visiting(t) }},
		{"processors", func() { each([]int{1, 2, 4, 8}, func(n int) { processors(t, n) }) }},
	}
	for _, p := range parts {
		if *only == "" || *only == p.name {
			for range *passes {
				p.run()
			}
		}
	}
	if len(t.cells) == 0 {
		fmt.Fprintf(os.Stderr, "there is no part %q; see -help\n", *only)
		os.Exit(2)
	}
	fmt.Print(legend)
	t.print(os.Stdout)
	if *jsonFile != "" {
		f, err := os.Create(*jsonFile)
		check(err)
		check(t.lines(f))
		check(f.Close())
	}
}

func each(sizes []int, measure func(n int)) {
	for _, n := range sizes {
		measure(n)
	}
}
