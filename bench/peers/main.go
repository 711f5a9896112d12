// Peers compares Atrium with other libraries, and with bare loops that do the least that any server
// must. Each server is a process of its own, which a round of a row starts anew; the rounds of the
// peers alternate, and the table has their medians. Compare within a row only.
//
// Every message is numbered and checked: one that is lost, comes twice, out of order or harmed ends
// the run with status 1.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/atrium-go/atrium/bench/process"
)

func main() {
	process.Serve(kinds())
	rounds := flag.Int("rounds", 5, "rounds of each peer in a row")
	onlyRow := flag.String("row", "", "do the rows that match this `regexp`")
	onlyPeer := flag.String("peer", "", "with the peers that match this `regexp`")
	quick := flag.Bool("quick", false, "one round, and a tenth of the load: shows that it works, and no more")
	jsonFile := flag.String("json", "", "write the results to this `file`, too, a line of JSON each")
	flag.Parse()
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
	for _, r := range rows {
		if !regexp.MustCompile(*onlyRow).MatchString(r.name) {
			continue
		}
		results, err := r.compare(regexp.MustCompile(*onlyPeer), *rounds, part)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if len(results) > 0 {
			printRow(os.Stdout, results)
			check(writeJSON(lines, results))
		}
	}
}

// compare measures the peers that can do the row's work, in alternating rounds.
func (r row) compare(which *regexp.Regexp, rounds, part int) (results []result, err error) {
	samples := make(map[string][]sample)
	for range rounds {
		for _, p := range peers {
			if _, ok := p.work[r.work]; !ok || !which.MatchString(p.name) {
				continue
			}
			s, err := measure(r, p, part)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", r.name, p.name, err)
			}
			samples[p.name] = append(samples[p.name], s)
		}
	}
	for _, p := range peers {
		if len(samples[p.name]) > 0 {
			results = append(results, result{r.name, p.name, rounds, medians(samples[p.name])})
		}
	}
	return results, nil
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
