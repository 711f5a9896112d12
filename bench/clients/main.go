// Clients measures 10,000 atrium.Clients in one process, over TCP to a hub in another one: what
// each holds while it waits, after it has called, handled an event and answered a ping; and, when
// the hub restarts, when they come back.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bench/process"
)

const pingInterval = 5 * time.Second

func main() {
	process.Serve(map[string]process.Kind{"hub": serve})
	n := flag.Int("n", 10_000, "clients")
	// With the default of 1 s the window is 1 s wide, and two processors shared with the hub need
	// longer for 10,000 handshakes: what one sees then is the machine.
	wait := flag.Duration("min", 6*time.Second, "Backoff.Min")
	flag.Parse()

	var server atomic.Pointer[process.Server]
	server.Store(process.Start("hub"))
	var attempts, connects moments
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		attempts.note()
		return new(net.Dialer).DialContext(ctx, network, server.Load().Addr)
	}
	clients := make([]*atrium.Client, *n)
	var connected, handled sync.WaitGroup
	for i := range clients {
		c := atrium.NewClient("http://127.0.0.1/", atrium.ClientOptions{
			Timeout: 2 * time.Minute, // for 10,000 of them on few processors
			Backoff: atrium.Backoff{Min: *wait, Max: 10 * *wait},
			Dial:    atrium.DialOptions{DialContext: dial},
		})
		atrium.On(c, "hello", func(*atrium.Client, int) error { handled.Done(); return nil })
		c.OnConnect(func(*atrium.Client) { connects.note(); connected.Done() })
		clients[i] = c
	}
	before := process.Own()
	connected.Add(*n)
	handled.Add(*n)
	var workers sync.WaitGroup
	for worker := range 16 {
		workers.Go(func() {
			for i := worker; i < *n; i += 16 {
				check(clients[i].Connect(context.Background()))
				_, err := atrium.Call[int](context.Background(), clients[i], "hello", i)
				check(err)
			}
		})
	}
	workers.Wait()
	connected.Wait()
	handled.Wait()
	time.Sleep(pingInterval + time.Second) // each has been pinged
	after := process.Own()
	each := func(before, after int64) int64 { return (after - before) / int64(*n) }
	fmt.Printf("| %d clients | resident, bytes each | heap | stacks | goroutines |\n|---|---|---|---|---|\n", *n)
	fmt.Printf("| over TCP | %d | %d | %d | %.2f |\n\n", each(before.Resident, after.Resident), each(before.Heap, after.Heap),
		each(before.Stacks, after.Stacks), float64(after.Goroutines-before.Goroutines)/float64(*n))

	connected.Add(*n)
	attempts.begin()
	connects.begin()
	server.Load().Stop()
	server.Store(process.Start("hub"))
	connected.Wait()
	wide := *wait / 20
	fmt.Printf("The hub restarts; the window is %v to %v.\n\n", *wait/2, *wait*3/2)
	attempts.print("attempts to come back", wide)
	connects.print("connected again", wide)
	for _, c := range clients {
		workers.Go(func() { c.Close() })
	}
	workers.Wait()
	server.Load().Stop()
}

func serve(l net.Listener) func(int) {
	h := atrium.New(atrium.Options{Timeouts: atrium.Timeouts{PingInterval: pingInterval, Ping: time.Minute}})
	atrium.OnCall(h, "hello", func(s *atrium.Socket, n int) (int, error) { return n, s.Emit("hello", n) })
	srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go srv.Serve(l)
	return nil
}

// moments are when something happened since begin.
type moments struct {
	mu    sync.Mutex // guards:
	start time.Time
	at    []time.Duration
}

func (m *moments) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.start, m.at = time.Now(), nil
}

func (m *moments) note() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at = append(m.at, time.Since(m.start))
}

// print prints how many there were in each bar, which is so wide.
func (m *moments) print(what string, wide time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var bars []int
	most := 1
	for _, at := range m.at {
		for len(bars) <= int(at/wide) {
			bars = append(bars, 0)
		}
		bars[at/wide]++
		most = max(most, bars[at/wide])
	}
	fmt.Printf("%d %s, by time since:\n\n", len(m.at), what)
	for i, n := range bars {
		fmt.Printf("    %5.2f s %6d %s\n", (time.Duration(i) * wide).Seconds(), n, strings.Repeat("#", (n*50+most-1)/most))
	}
	fmt.Println()
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
