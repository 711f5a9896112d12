// Wire measures what messages cost the server, in processor time of its own process: an echo and a
// fan-out, each against the least that any server must do. Rounds alternate between the two; the
// ratio is that of the medians.
package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atrium-go/atrium/bench/process"
)

const (
	members = 1000
	event   = `{"event":"said","data":"hello, everybody"}`
	message = "sixty-four bytes, which is what a short message comes to: xxxxxx"
)

func main() {
	process.Serve(map[string]process.Kind{
		"bare echo":     bareEcho,
		"Conn echo":     connEcho,
		"Conn echo too": connEcho,
		"bare fan-out":  bareFanOut,
		"hub fan-out":   hubFanOut,
	})
	rounds := flag.Int("rounds", 9, "rounds of each")
	flag.Parse()
	fmt.Println("| what | bare, µs | Atrium, µs | ratio |\n|---|---|---|---|")
	for _, burst := range []int{1, 16} {
		compare(fmt.Sprintf("echo, %d in flight, a message", burst), *rounds, "bare echo", "Conn echo", func(s *process.Server, _ bool) (func(), int) {
			return echoes(s, process.OpText, message, burst, 20_000), 20_000 * burst
		})
	}
	ascii := strings.Repeat(message, 16<<10/len(message))
	compare("echo of 16 KB of ASCII as text, against Atrium's as binary", *rounds, "Conn echo", "Conn echo too", func(s *process.Server, isText bool) (func(), int) {
		op := process.OpBinary
		if isText {
			op = process.OpText
		}
		return echoes(s, op, ascii, 1, 10_000), 10_000
	})
	for _, outstanding := range []int{1, 8} {
		compare(fmt.Sprintf("fan-out to %d, %d outstanding, a delivery", members, outstanding), *rounds, "bare fan-out", "hub fan-out", func(s *process.Server, isHub bool) (func(), int) {
			return broadcasts(s, isHub, outstanding), 50 * outstanding * members
		})
	}
}

// compare prints the medians of rounds with a bare server and with ours. prepare returns what a
// round does, and how many operations that is.
func compare(what string, rounds int, bare, ours string, prepare func(s *process.Server, isOurs bool) (round func(), n int)) {
	var costs [2][]float64
	var servers [2]*process.Server
	var round [2]func()
	n := 0
	for i, kind := range []string{bare, ours} {
		servers[i] = process.Start(kind)
		defer servers[i].Stop()
		round[i], n = prepare(servers[i], kind == ours)
		round[i]() // once for nothing
	}
	for range rounds {
		for i, s := range servers {
			before := s.CPU()
			round[i]()
			costs[i] = append(costs[i], float64(s.CPU()-before)/float64(time.Microsecond)/float64(n))
		}
	}
	a, b := median(costs[0]), median(costs[1])
	fmt.Printf("| %s | %.2f | %.2f | %.2f |\n", what, a, b, b/a)
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// echoes sends bursts of messages on one connection, and waits for the answers to each.
func echoes(s *process.Server, op process.Opcode, text string, burst, times int) func() {
	c := s.Connect(false, "200 bytes", "")
	out := []byte(strings.Repeat(string(process.Frame(op, text)), burst))
	header := process.AppendHeader(nil, process.Header{Opcode: op, Length: len(text)})
	in := make([]byte, (len(header)+len(text))*burst)
	return func() {
		for range times {
			_, err := c.Write(out)
			check(err)
			_, err = io.ReadFull(c, in)
			check(err)
		}
	}
}

// broadcasts has the server tell the members, several times at once, and waits until all have
// heard.
func broadcasts(s *process.Server, isHub bool, outstanding int) func() {
	const frame = len(event) + 2
	var heard sync.WaitGroup
	for range members {
		c := s.Connect(false, "200 bytes", "")
		if isHub {
			c.Expect(`{"event":"connect"`)
		}
		go func() {
			buf := make([]byte, 4096)
			have := 0
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				for have += n; have >= frame; have -= frame {
					heard.Done()
				}
			}
		}()
	}
	return func() {
		for range 50 {
			heard.Add(members * outstanding)
			s.Command(outstanding)
			heard.Wait()
		}
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
