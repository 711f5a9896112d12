// Fairness measures how long polite clients of a hub wait for their answers: alone, beside what
// keeps all processors as busy but takes turns, and while others send calls as fast as they can.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bench/process"
)

func main() {
	process.Serve(map[string]process.Kind{
		"hub": func(l net.Listener) func(int) { return serve(l, hub()) },
	})
	n := flag.Int("n", 200, "clients that call without a pause")
	last := flag.Duration("t", 10*time.Second, "how long each row lasts")
	flag.Parse()
	fmt.Println("| beside them | polite calls | median wait | 99th percentile | longest | others' calls a second |\n|---|---|---|---|---|---|")
	for _, o := range []others{
		{name: "nobody"},
		{name: "a goroutine a processor that computes, in either process", computing: runtime.GOMAXPROCS(0)},
		{name: fmt.Sprintf("%d that await each answer", *n), clients: *n, awaiting: true},
		{name: fmt.Sprintf("%d that flood", *n), clients: *n},
	} {
		measure(o, *last)
	}
}

// Others are what else the processors have to do.
type others struct {
	name      string
	computing int // goroutines in the hub's process and in the clients' each
	clients   int
	awaiting  bool // the clients send a call when the one before was answered
}

func serve(l net.Listener, h http.Handler) func(int) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l)
	return compute
}

// compute starts n goroutines that never wait. They end with the process.
func compute(n int) {
	for range n {
		go func() {
			for sum := 0; ; sum++ {
			}
		}()
	}
}

func hub() http.Handler {
	h := atrium.New(atrium.Options{Logger: slog.New(slog.DiscardHandler)})
	atrium.OnCall(h, "echo", func(_ *atrium.Socket, v json.RawMessage) (json.RawMessage, error) { return v, nil })
	return h
}

const polite = 10

// measure prints one row.
func measure(o others, last time.Duration) {
	s := process.Start("hub")
	defer s.Stop()
	connect := func() *process.Client {
		c := s.Connect(false, "200 bytes", "")
		c.Expect(`{"event":"connect"`)
		return c
	}
	var over atomic.Bool
	var running sync.WaitGroup
	s.Command(o.computing)
	for range o.computing {
		go func() {
			for !over.Load() {
			}
		}()
	}
	var beside []*process.Client
	var answered atomic.Int64
	for range o.clients {
		c := connect()
		if o.awaiting {
			go callInTurn(c, &answered)
		} else {
			go flood(c)
			go countAnswers(c, &answered)
		}
		beside = append(beside, c)
	}
	var mu sync.Mutex // guards waits
	var waits []time.Duration
	for range polite {
		c := connect()
		running.Go(func() {
			defer c.Close()
			for id := 0; !over.Load(); id++ {
				start := time.Now()
				c.Send(process.OpText, `{"event":"echo","data":0,"id":`+strconv.Itoa(id)+`}`)
				c.Expect(`{`)
				mu.Lock()
				waits = append(waits, time.Since(start))
				mu.Unlock()
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	time.Sleep(last)
	total := answered.Load()
	over.Store(true)
	for _, c := range beside {
		c.Close() // or what it has sent already would have to be handled first
	}
	running.Wait()
	slices.Sort(waits)
	at := func(part float64) time.Duration {
		return waits[int(part*float64(len(waits)-1))].Round(10 * time.Microsecond)
	}
	fmt.Printf("| %s | %d | %v | %v | %v | %.0f |\n", o.name, len(waits), at(0.5), at(0.99), at(1), float64(total)/last.Seconds())
}

const (
	call   = `{"event":"echo","data":0,"id":1}`
	answer = `..{"id":1,"data":0}` // with its header
)

// flood sends calls as fast as it can, until the connection is closed.
func flood(c *process.Client) {
	frame := process.Frame(process.OpText, call)
	batch := bytes.Repeat(frame, 4096/len(frame))
	for {
		if _, err := c.Write(batch); err != nil {
			return
		}
	}
}

// countAnswers reads answers until the connection is closed.
func countAnswers(c *process.Client, answered *atomic.Int64) {
	in := bufio.NewReaderSize(c, 16<<10)
	for ; ; answered.Add(1) {
		if _, err := io.CopyN(io.Discard, in, int64(len(answer))); err != nil {
			return
		}
	}
}

// callInTurn sends a call and reads its answer, again and again, until the connection is closed.
func callInTurn(c *process.Client, answered *atomic.Int64) {
	frame := process.Frame(process.OpText, call)
	in := make([]byte, len(answer))
	for ; ; answered.Add(1) {
		if _, err := c.Write(frame); err != nil {
			return
		}
		if _, err := io.ReadFull(c, in); err != nil {
			return
		}
	}
}
