// Soak runs a server, or two that Redis joins, for a while with clients of all kinds, good and bad:
// clients that come and go, join rooms, leave them and call; clients that read little or nothing;
// and what is no client at all. Meanwhile the servers are drained and replaced, and Redis is killed
// and started again. What the good clients must be told is known, and checked; and when all have
// left, the server must hold no more than it did at the start.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/atrium-go/atrium/bench/fleet"
	"github.com/atrium-go/atrium/bench/process"
)

const usage = `Usage: go run ./soak [flags]

Soak keeps servers busy with clients of all kinds, replaces the servers, and kills what is between them. It ends
with status 1 if an event or a call is lost, doubled, out of order or too late, or if the servers do not
return to what they held at the start.

`

func main() {
	process.Serve(fleet.Kinds)
	var o options
	flag.DurationVar(&o.length, "for", 20*time.Second, "how long")
	flag.IntVar(&o.number, "clients", 2000, "clients at a time, besides the bad ones")
	flag.Uint64Var(&o.seed, "seed", 1, "the random choices")
	jsonFile := flag.String("json", "", "write the figures to this `file`, too")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	process.Files(5*o.number + 2000)
	s, err := start(o)
	if err == nil {
		err = s.run()
	}
	if s != nil {
		s.print(os.Stdout)
		if *jsonFile != "" {
			b, failed := json.MarshalIndent(s.report(), "", "\t")
			check(failed)
			check(os.WriteFile(*jsonFile, b, 0o644))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
