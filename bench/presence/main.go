// Presence measures what it costs that the members of a room are told who else is there, while
// others come and go all the time: by Socket.Present, and by hand, with an event to everyone for
// each who joins and each who leaves, and a list for who has joined. The same without telling
// anybody is measured, too.
//
// The server is a process of its own, which tells the processor time it has used, the kernel's
// included. Those who come and go are connections of their own, each of another user. Each member
// checks that no change is missing, and at the end that it has the list of those who are there;
// otherwise the program fails.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/atrium-go/atrium/bench/process"
)

const usage = `Usage: go run ./presence [flags]

Presence has a room whose members come and go, and prints what it costs to tell them who is there. It ends with
status 1 if a member ends with another list than the true one, or misses a version.

`

// options say what is measured.
type options struct {
	members, joins int
	visit          time.Duration
	warmUp, last   time.Duration
	rounds         int
	kinds          string
	profile        string
	quick          bool
}

func main() {
	process.Serve(kinds)
	o := options{}
	flag.IntVar(&o.members, "members", 5000, "members of the room")
	flag.IntVar(&o.joins, "joins", 50, "how many come a second; as many leave")
	flag.DurationVar(&o.visit, "visit", 3*time.Second, "how long those stay who come and go")
	flag.DurationVar(&o.warmUp, "warm", 6*time.Second, "how long they come and go before it is measured: longer than a visit and the grace")
	flag.DurationVar(&o.last, "for", 10*time.Second, "how long a round measures")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each kind is measured, in turn")
	flag.StringVar(&o.kinds, "kind", "", "a regular expression: only these kinds")
	flag.StringVar(&o.profile, "profile", "", "write a profile of each server's processor time to a file with this and the kind for its name")
	flag.BoolVar(&o.quick, "quick", false, "300 members, for seconds: shows that it works")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
	}
	flag.Parse()
	if o.quick {
		o.members, o.joins, o.rounds, o.kinds = 300, 50, 1, told+"|"+byHand
		o.visit, o.warmUp, o.last = time.Second, time.Second, 2*time.Second
	}
	if o.members < 2*o.visitors() {
		check(fmt.Errorf("%d members are not twice as many as the %d who come and go", o.members, o.visitors()))
	}
	only, err := regexp.Compile(o.kinds)
	check(err)
	if may := process.Files(o.members + 1000); may < o.members+500 {
		check(fmt.Errorf("%d members need more than the %d files that may be open", o.members, may))
	}
	t := table{title: fmt.Sprintf("%d members, %d join and %d leave a second", o.members, o.joins, o.joins)}
	for range o.rounds {
		for _, name := range kindNames {
			for _, compressed := range []bool{false, true} {
				if name := kindName(name, compressed); only.MatchString(name) {
					t.add(name, o.measure(name, compressed))
				}
			}
		}
	}
	t.print(os.Stdout)
}

// visitors is how many are there at a time of those who come and go.
func (o options) visitors() int { return int(float64(o.joins) * o.visit.Seconds()) }

func kindName(name string, compressed bool) string {
	if compressed {
		return name + ", compressed"
	}
	return name
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
