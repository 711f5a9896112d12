// Peers compares Atrium with other libraries, and with bare loops that do the least that any server
// must. Each server is a process of its own, which a round of a row starts anew; the rounds of the
// peers alternate, and the table has their medians. Compare within a row only.
//
// Every message is numbered and checked: one that is lost, comes twice, out of order or damaged
// ends the run with status 1.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/atrium-go/atrium/bench/process"
)

// files is how many the largest row needs to have open, at either end.
const files = 10_500

const usage = `Usage: go run ./peers [flags]

Peers compares Atrium with other libraries, each server in a process of its own, and prints a table
for each row of work. It ends with status 1 if a message is lost, comes twice, out of order or damaged.

`

const legend = `CPU is the processor time of the server, the kernel's included. It and allocations are for one operation:
a message that is echoed or delivered, a call and its answer, or a connection. "A second" counts operations.
The wait is a client's, for all that it had in flight. RSS is the server's memory at the end. "Idle" and
"under load" are bytes of a connection: after a garbage collection, and at the end of the round.
Compare CPU, and within a table only: the clients run on the same machine.
`

const quickLegend = `
One round with a tenth of the load that a table names shows that it works, and no more.
`

func main() {
	process.Serve(kinds(peers))
	rounds := flag.Int("rounds", 5, "rounds of each peer in a row")
	var onlyRow, onlyPeer regexp.Regexp
	flag.TextVar(&onlyRow, "row", regexp.MustCompile(""), "do the rows that match this `regexp`")
	flag.TextVar(&onlyPeer, "peer", regexp.MustCompile(""), "with the peers that match this `regexp`")
	quick := flag.Bool("quick", false, "one round, and a tenth of the load, in less than a minute: shows that it works, and no more")
	whole := flag.Bool("all", os.Getenv("CI") != "", "fail without Node, instead of leaving its Socket.IO out; set in CI")
	jsonFile := flag.String("json", "", "write the results to this `file`, too, a line of JSON each")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	if n := process.Files(files); n < files {
		fail(fmt.Errorf("%d open files are allowed, and %d needed: see ulimit -n", n, files))
	}
	part := 1
	if *quick {
		*rounds, part = 1, 10
	}
	var lines io.Writer = io.Discard
	if *jsonFile != "" {
		f, err := os.Create(*jsonFile)
		check(err)
		defer f.Close()
		lines = f
	}
	peers := slices.DeleteFunc(peers, func(p peer) bool { return !onlyPeer.MatchString(p.name) })
	rows := slices.DeleteFunc(rows, func(r row) bool { return !onlyRow.MatchString(r.name) })
	fmt.Print(legend)
	if *quick {
		fmt.Print(quickLegend)
	}
	if node := slices.IndexFunc(peers, func(p peer) bool { return p.name == onNode }); node >= 0 {
		if err := installNode(); err != nil && *whole {
			fail(err)
		} else if err != nil {
			fmt.Printf("\nWithout %s: %v\n", onNode, err)
			peers = slices.Delete(peers, node, node+1)
		}
	}
	var all summary
	for _, r := range rows {
		results, err := r.compare(peers, *rounds, part)
		if err != nil {
			fail(err)
		}
		if len(results) > 0 {
			printRow(os.Stdout, results)
			check(writeJSON(lines, results))
			all = append(all, results)
		}
	}
	if len(all) == 0 {
		fail(errors.New("nothing is measured: no peer that matches -peer does a row that matches -row"))
	}
	all.print(os.Stdout)
}

// compare measures the peers that can do the row's work, in alternating rounds.
func (r row) compare(peers []peer, rounds, part int) (results []result, err error) {
	peers = slices.DeleteFunc(slices.Clone(peers), func(p peer) bool {
		_, can := p.work[r.work]
		return !can || r.skip != "" && strings.HasPrefix(p.name, r.skip)
	})
	samples := make([][]sample, len(peers))
	for range rounds {
		for i, p := range peers {
			s, err := r.measure(p, part)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", r.name, p.name, err)
			}
			samples[i] = append(samples[i], s)
		}
	}
	for i, p := range peers {
		results = append(results, result{r.name, p.name, rounds, medians(samples[i])})
	}
	return results, nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
