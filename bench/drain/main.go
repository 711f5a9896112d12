// Drain measures what clients notice of a deploy: clients of all kinds are connected to one server,
// which lets them go and is followed by the next one on the same socket, several times. Meanwhile
// the servers emit events to rooms, and the clients call: each event has a number, and each call a
// key, so that the program fails if one is lost, comes twice or out of order.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/atrium-go/atrium/bench/fleet"
	"github.com/atrium-go/atrium/bench/process"
)

const usage = `Usage: go run ./drain [flags]

Drain connects clients to a server, which is drained and replaced several times, and prints when they come
back and what they have noticed. It ends with status 1 if an event or a call is lost, doubled or out of order,
if a client gets an HTTP error, or if the busiest second has more than twice as many connections as the mean.

`

func main() {
	process.Serve(fleet.Kinds)
	o := options{}
	flag.IntVar(&o.clients, "clients", 5000, "clients: plain, Socket.IO by WebSocket and by polling, and Go, in equal parts")
	flag.IntVar(&o.restarts, "restarts", 5, "how often the server is replaced")
	flag.DurationVar(&o.drain, "drain", 15*time.Second, "the time that a server has to let its clients go")
	flag.DurationVar(&o.wide, "bin", 500*time.Millisecond, "what a line of the histogram stands for")
	flag.Uint64Var(&o.seed, "seed", 1, "the clients' random choices")
	flag.BoolVar(&o.quick, "quick", false, "300 clients, one restart, in less than 20 seconds: only what is lost, doubled or out of order fails")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	if o.quick {
		o.clients, o.restarts, o.drain = 300, 1, 5*time.Second
	}
	process.Files(3*o.clients + 500)
	if err := o.run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
