// Fairness measures how long polite clients wait for their answers while others send calls as fast as they can: at a hub,
// and, beside it, at a server that has one goroutine a connection and answers each message with one write.
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
		"hub":                      func(l net.Listener) func(int) { return serve(l, hub()) },
		"a goroutine a connection": func(l net.Listener) func(int) { return serve(l, http.HandlerFunc(answer)) },
	})
	flooding := flag.Int("n", 200, "clients that flood")
	last := flag.Duration("t", 10*time.Second, "how long each row lasts")
	flag.Parse()
	fmt.Println("| server | clients that flood | polite calls | median wait | 99th percentile | longest | flood's calls a second |\n|---|---|---|---|---|---|---|")
	for _, kind := range []string{"hub", "a goroutine a connection"} {
		for _, n := range []int{0, *flooding} {
			measure(kind, n, *last)
		}
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

// answer is a server that does the least: it reads a message, decodes it, and writes the answer.
func answer(w http.ResponseWriter, r *http.Request) {
	c, err := atrium.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		_, p, err := c.Read(r.Context())
		var e struct {
			Data json.RawMessage
			ID   int64
		}
		if err != nil || json.Unmarshal(p, &e) != nil {
			return
		}
		b, _ := json.Marshal(map[string]any{"id": e.ID, "data": e.Data}) // it was JSON before
		if c.Write(r.Context(), atrium.OpText, b) != nil {
			return
		}
	}
}

const polite = 10

// measure prints one row.
func measure(kind string, flooding int, last time.Duration) {
	s := process.Start(kind)
	defer s.Stop()
	connect := func() *process.Client {
		c := s.Connect(false, "200 bytes", "")
		if kind == "hub" {
			c.Expect(`{"event":"connect"`)
		}
		return c
	}
	var over atomic.Bool
	var flood, running sync.WaitGroup
	var answered atomic.Int64
	for range flooding {
		c := connect()
		call := process.Frame(atrium.OpText, `{"event":"echo","data":0,"id":1}`)
		batch := bytes.Repeat(call, 4096/len(call))
		flood.Go(func() {
			for !over.Load() {
				if _, err := c.Write(batch); err != nil {
					return // it was closed
				}
			}
		})
		flood.Go(func() {
			in := bufio.NewReaderSize(c, 16<<10)
			for n := int64(len(`..{"id":1,"data":0}`)); ; answered.Add(1) {
				if _, err := io.CopyN(io.Discard, in, n); err != nil {
					return
				}
			}
		})
		defer c.Close()
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
	running.Wait()
	slices.Sort(waits)
	at := func(part float64) time.Duration {
		return waits[int(part*float64(len(waits)-1))].Round(10 * time.Microsecond)
	}
	fmt.Printf("| %s | %d | %d | %v | %v | %v | %.0f |\n", kind, flooding, len(waits), at(0.5), at(0.99), at(1), float64(total)/last.Seconds())
}
