// Hostile runs a list of attacks against a hub in a process of its own, while a hundred neighbours
// that do no harm call it and hear its broadcasts, and prints what the attacks have cost: memory
// and goroutines before, at the peak and afterwards, how long the neighbours waited, and what the
// offenders were told.
//
//	go run ./hostile                        all of it, ten minutes
//	go run ./hostile -quick                 less of each
//	go run ./hostile -only 'bomb' -seed 7   some of it
//
// It exits with 1 if the server ends or panics, if a neighbour is disconnected, misses something or
// gets it twice, or if memory or goroutines do not return to what they were. The attackers run in a
// process of low priority, as if on another machine.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atrium-go/atrium/bench/process"
)

const people = 100 // neighbours

func main() {
	process.Serve(map[string]process.Kind{"server": serve, "attacker": serveAttacks})
	streams := flag.Int("streams", 0, "how many fuzzed streams (default 1,000,000; 2,000 with -quick)")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "what the streams are made with")
	quick := flag.Bool("quick", false, "less of each attack")
	only := flag.String("only", "", "a regular expression: which attacks")
	flag.Parse()
	wanted := regexp.MustCompile(*only)
	if *streams == 0 {
		*streams = 1_000_000
		if *quick {
			*streams = 2_000
		}
	}
	fmt.Printf("seed %d, %d files\n", *seed, process.Files(25_000))

	server := process.Start("server", fmt.Sprint(*quick))
	attacker := process.Start("attacker", server.Addr, fmt.Sprint(*seed), fmt.Sprint(*streams), fmt.Sprint(*quick))
	quit, leave := context.WithCancel(context.Background())
	all := &neighbours{addr: server.Addr, quit: quit}
	all.moveIn(people)
	r := round{server: server, attacker: attacker, all: all, quiet: 2 * time.Second}
	if *quick {
		r.quiet = 200 * time.Millisecond
	}
	time.Sleep(r.quiet) // connections grow to what they need

	printHead()
	for i, t := range attacks(*streams, *quick) {
		if wanted.MatchString(t.name) {
			r.run(i, t)
		}
	}
	all.mu.Lock()
	ticks := all.ticks
	all.mu.Unlock()
	fmt.Printf("\n%d neighbours have heard %d ticks, each once and in order.\n", people, ticks)
	leave()
	attacker.Stop()
	server.Stop()
	if r.failed || len(all.wrong) > 0 {
		fmt.Println("FAILED")
		os.Exit(1)
	}
}

// serveAttacks is the attackers' process, which is asked for an attack by its number and answers
// what they were told.
func serveAttacks(l net.Listener) func(int) {
	check(l.Close())
	// The priority is a thread's, and new threads have that of the one that makes them.
	threads, err := os.ReadDir("/proc/self/task")
	check(err)
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		check(err)
		check(unix.Setpriority(unix.PRIO_PROCESS, id, 19))
	}
	process.Files(25_000)
	a := &attacker{server: process.Server{Addr: os.Args[1]}, quick: os.Args[4] == "true", look: 2 * time.Second}
	if a.quick {
		a.look /= 4
	}
	a.seed, err = strconv.ParseUint(os.Args[2], 10, 64)
	check(err)
	streams, err := strconv.Atoi(os.Args[3])
	check(err)
	list := attacks(streams, a.quick)
	process.Answer = func(number string) string {
		i, err := strconv.Atoi(number)
		check(err)
		told, err := json.Marshal(a.run(list[i]))
		check(err)
		return string(told)
	}
	return nil
}
