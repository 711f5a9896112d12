package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atrium-go/atrium/bench/process"
)

// deliveries is about how many a figure is taken of.
func deliveries() int {
	if *quick {
		return 20_000
	}
	return 200_000
}

// begin connects n clients to the server over TCP, or has it connect its own in memory. It returns
// what has the server emit events, and waits for their deliveries.
func begin(s *process.Server, network string, n int, hear func(i int, heard *sync.WaitGroup) func([]byte)) (tell func(events, deliveries int)) {
	var heard sync.WaitGroup
	isTCP := network == "TCP"
	if isTCP {
		connect(s, n, func(i int) func([]byte) { return hear(i, &heard) })
	}
	s.Command(0)
	return func(events, deliveries int) {
		if isTCP {
			heard.Add(deliveries)
		}
		s.Command(events)
		wait(&heard)
		s.Wait()
	}
}

// deliver measures a delivery to n members, and the memory of each.
func deliver(t *table, kind, network string, n int) {
	s := process.Start(kind+" "+network, strconv.Itoa(n))
	defer s.Stop()
	before := s.Memory()
	tell := begin(s, network, n, func(_ int, heard *sync.WaitGroup) func([]byte) { return everything(heard) })
	tell(1, n)
	of, name := count(n, "members"), map[string]string{"room": network, "bare": "a bare loop of writes"}[kind]
	resident := s.Memory().Resident - before.Resident
	for _, outstanding := range []int{1, 8} {
		times := max(1, deliveries()/n/outstanding)
		cost := costOf(s, func() {
			for range times {
				tell(outstanding, outstanding*n)
			}
		})
		t.add(row{fmt.Sprintf("a delivery, %s, %d outstanding", name, outstanding), "µs"}, of, micros(cost)/float64(times*outstanding*n))
	}
	t.add(row{"memory of a member, " + name, "bytes"}, of, float64(resident)/float64(n))
}

// emit measures an event to one of n rooms of two of 1,000 members.
func emit(t *table, network string, n int) {
	p := plan{members: 1000, rooms: n, each: 1}
	events := deliveries() / 2
	t.add(row{"an event to a room of two, " + network, "µs"}, count(n, "rooms"), p.cost(network, events/10)/float64(events))
}

// emitToMany measures an event to n of 20,000 rooms, a room. Whatever n is, each round goes to all
// rooms once.
func emitToMany(t *table, n int) {
	p := plan{members: 20_000, rooms: 20_000, each: n}
	events := p.rooms / n
	t.add(row{"To(r1 … rN), in memory, a room", "µs"}, count(n, "rooms"), p.cost("in memory", events)/float64(10*p.rooms))
}

// cost returns what ten rounds of that many events cost, in µs.
func (p plan) cost(network string, events int) float64 {
	s := process.Start("rooms "+network, strconv.Itoa(p.members), strconv.Itoa(p.rooms), strconv.Itoa(p.each))
	defer s.Stop()
	tell := begin(s, network, p.members, p.member)
	round := func() { tell(events, events*p.reached()) }
	round()
	return micros(costOf(s, func() {
		for range 10 {
			round()
		}
	}))
}

// visiting measures a stream of events and visits of a room, each alone and then together.
func visiting(t *table) {
	n := 1000
	var heard sync.WaitGroup
	s := process.Start("churn", strconv.Itoa(n))
	defer s.Stop()
	connect(s, n+visitors, func(i int) func([]byte) {
		if i < n {
			return everything(&heard)
		}
		return visitor(&heard)
	})
	s.Command(0)
	run := func(what int) float64 {
		if what&stream != 0 {
			heard.Add(events * n)
		}
		if what&turnover != 0 {
			heard.Add(visits)
		}
		return micros(costOf(s, func() {
			s.Command(what)
			wait(&heard)
			s.Wait()
		}))
	}
	run(stream)
	alone, visiting, both := run(stream), run(turnover), run(stream+turnover)
	second := (time.Duration(events) * eventEvery).Seconds()
	what := row{fmt.Sprintf("a second of %.0f events to %d members, %d visitors and %.0f visits", events/second, n, atOnce, visits/second), "ms"}
	t.add(what, "the events and the visits, each alone", (alone+visiting)/second/1000)
	t.add(what, "both at once", both/second/1000)
	t.add(row{"a visit: Join, Leave, an event", "µs"}, "alone", visiting/visits)
}

// processors measures a delivery and a call of servers with GOMAXPROCS n.
func processors(t *table, n int) {
	const members, clients, burst = 1000, 100, 16
	check(os.Setenv("GOMAXPROCS", strconv.Itoa(n)))
	defer os.Unsetenv("GOMAXPROCS")
	of := fmt.Sprint("GOMAXPROCS ", n)
	start := func(kind string, arguments ...string) (s *process.Server, stop func()) {
		isProfiled := n == 8 && *profileTo != ""
		if isProfiled {
			check(os.MkdirAll(*profileTo, 0o755))
			check(os.Setenv(profiles, filepath.Join(*profileTo, strings.Fields(kind)[0])))
			defer os.Unsetenv(profiles)
		}
		s = process.Start(kind, arguments...)
		return s, func() {
			if isProfiled {
				s.Command(profile)
			}
			s.Stop()
		}
	}
	func() {
		s, stop := start("room TCP", strconv.Itoa(members))
		defer stop()
		tell := begin(s, "TCP", members, func(_ int, heard *sync.WaitGroup) func([]byte) { return everything(heard) })
		tell(8, 8*members)
		times := deliveries() / members / 8
		cost := costOf(s, func() {
			for range times {
				tell(8, 8*members)
			}
		})
		t.add(row{"a delivery, TCP, 1,000 members, 8 outstanding", "µs"}, of, micros(cost)/float64(times*members*8))
	}()
	s, stop := start("echo")
	defer stop()
	answers := make([]chan int, clients)
	conns := connect(s, clients, func(i int) func([]byte) {
		answers[i] = make(chan int, burst)
		return func(p []byte) {
			if n := number(p, `{"id":`); n != 0 {
				answers[i] <- n
			}
		}
	})
	calls := func(from, to int) {
		var wg sync.WaitGroup
		for i, c := range conns {
			wg.Go(func() {
				for n := from; n < to; n += burst {
					var frames []byte
					for id := n; id < n+burst; id++ {
						frames = append(frames, process.Frame(process.OpText, fmt.Sprintf(`{"event":"echo","data":%d,"id":%d}`, id, id))...)
					}
					_, err := c.Write(frames)
					check(err)
					for id := n; id < n+burst; id++ {
						if got := <-answers[i]; got != id {
							wrong("a client got the answer to %d, want %d", got, id)
						}
					}
				}
			})
		}
		wg.Wait()
	}
	calls(first, first+burst)
	each := deliveries() / clients / burst * burst
	cost := costOf(s, func() { calls(first+burst, first+burst+each) })
	t.add(row{fmt.Sprintf("a call and its answer, TCP, %d clients, %d in flight", clients, burst), "µs"}, of, micros(cost)/float64(each*clients))
}

// costOf returns the time that the server computes while f runs.
func costOf(s *process.Server, f func()) time.Duration {
	before := s.CPU()
	f()
	return s.CPU() - before
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// count returns "20,000 rooms".
func count(n int, what string) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s + " " + what
}
