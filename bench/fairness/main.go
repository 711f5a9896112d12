// Fairness measures how long polite clients of a hub wait for their answers, alone and while others send calls as fast as
// they can.
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
	flooding := flag.Int("n", 200, "clients that flood")
	last := flag.Duration("t", 10*time.Second, "how long each row lasts")
	flag.Parse()
	fmt.Println("| clients that flood | polite calls | median wait | 99th percentile | longest | flood's calls a second |\n|---|---|---|---|---|---|")
	for _, n := range []int{0, *flooding} {
		measure(n, *last)
	}
}

func serve(l net.Listener, h http.Handler) func(int) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l)
	return nil
}

func hub() http.Handler {
	h := atrium.New(atrium.Options{Logger: slog.New(slog.DiscardHandler)})
	atrium.OnCall(h, "echo", func(_ *atrium.Socket, v json.RawMessage) (json.RawMessage, error) { return v, nil })
	return h
}

const polite = 10

// measure prints one row.
func measure(flooding int, last time.Duration) {
	s := process.Start("hub")
	defer s.Stop()
	connect := func() *process.Client {
		c := s.Connect(false, "200 bytes", "")
		c.Expect(`{"event":"connect"`)
		return c
	}
	var over atomic.Bool
	var running sync.WaitGroup
	var flood []*process.Client
	var answered atomic.Int64
	for range flooding {
		c := connect()
		call := process.Frame(atrium.OpText, `{"event":"echo","data":0,"id":1}`)
		batch := bytes.Repeat(call, 4096/len(call))
		go func() {
			for !over.Load() {
				if _, err := c.Write(batch); err != nil {
					return // it was closed
				}
			}
		}()
		go func() {
			in := bufio.NewReaderSize(c, 16<<10)
			for n := int64(len(`..{"id":1,"data":0}`)); ; answered.Add(1) {
				if _, err := io.CopyN(io.Discard, in, n); err != nil {
					return
				}
			}
		}()
		flood = append(flood, c)
	}
	var mu sync.Mutex // guards waits
	var waits []time.Duration
	for range polite {
		c := connect()
		running.Go(func() {
			defer c.Close()
			for id := 0; !over.Load(); id++ {
				start := time.Now()
				c.Send(atrium.OpText, `{"event":"echo","data":0,"id":`+strconv.Itoa(id)+`}`)
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
	for _, c := range flood {
		c.Close() // or what it has sent already would have to be handled first
	}
	running.Wait()
	slices.Sort(waits)
	at := func(part float64) time.Duration {
		return waits[int(part*float64(len(waits)-1))].Round(10 * time.Microsecond)
	}
	fmt.Printf("| %d | %d | %v | %v | %v | %.0f |\n", flooding, len(waits), at(0.5), at(0.99), at(1), float64(total)/last.Seconds())
}
