package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bench/process"
)

const (
	tickEvery  = 100 * time.Millisecond // the neighbours hear a tick so often
	sampleTime = 20 * time.Millisecond
	longest    = 20 * time.Second // no time-out of the server is longer
)

// stats is what the server tells of itself.
type stats struct {
	PeakHeap       int64 // bytes, since the last stats
	PeakGoroutines int
	Panics         int64 // since the server began
}

// serve is the server that is attacked: a hub as it comes, but for a bound on all queues together.
// Its time-outs are short, so that what an attack has left is gone soon.
func serve(l net.Listener) func(int) {
	patient := 4 * time.Second
	if os.Args[1] == "true" { // -quick
		patient = time.Second
	}
	var panics atomic.Int64
	logger := slog.New(panicCounter{&panics})
	options := atrium.Options{
		Logger: logger, Compression: atrium.Compression{Level: 1},
		Timeouts: atrium.Timeouts{PingInterval: patient, Ping: 10 * time.Second, Connect: patient, Message: patient},
		Recovery: atrium.Recovery{MaxDisconnection: patient},
		Limits:   atrium.Limits{TotalQueuedBytes: 128 << 20},
	}
	h := newHub(options)
	peaks := make(chan *stats)
	go sample(peaks)
	process.Answer = func(string) string {
		s := <-peaks
		s.Panics = panics.Load()
		answer, err := json.Marshal(s)
		check(err)
		return string(answer)
	}
	mux := http.NewServeMux()
	mux.Handle("/hub", h)
	options.Limits.EventsPerSecond = 100
	mux.Handle("/limited", newHub(options))
	mux.Handle("/client.js", atrium.ClientScript())
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: patient, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelError)}
	go srv.Serve(l)
	return nil
}

// newHub returns a hub with the handlers of a chat, and a broadcast that somebody who knows how can
// start.
func newHub(options atrium.Options) *atrium.Hub {
	h := atrium.New(options)
	h.OfFunc(func(name string) bool { return strings.HasPrefix(name, "/any-") })
	for _, n := range []*atrium.Namespace{h.Namespace, h.Of("/custom")} {
		atrium.OnCall(n, "echo", func(_ *atrium.Socket, v any) (any, error) { return v, nil })
		atrium.OnCall(n, "blob", func(_ *atrium.Socket, b atrium.Binary) (atrium.Binary, error) { return b, nil })
		atrium.On(n, "join", func(s *atrium.Socket, room string) error { return s.Join("room:" + room) })
		atrium.On(n, "leave", func(s *atrium.Socket, room string) error { s.Leave("room:" + room); return nil })
		atrium.On(n, "say", func(s *atrium.Socket, text string) error { return s.To("room:lobby").Emit("said", text) })
	}
	atrium.OnCall(h, "neighbour", func(s *atrium.Socket, _ any) (any, error) { return nil, s.Join("neighbours") })
	atrium.On(h, "listen", func(s *atrium.Socket, _ any) error { return s.Join("audience") })
	atrium.OnCall(h, "spray", func(s *atrium.Socket, seconds float64) (any, error) {
		text := strings.Repeat("x", 64<<10)
		for end := time.Now().Add(time.Duration(seconds * float64(time.Second))); time.Now().Before(end); time.Sleep(tickEvery / 5) {
			if err := h.To("audience").Emit("spray", text); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	go func() {
		n := 0
		for range time.Tick(tickEvery) {
			n++
			check(h.To("neighbours").Emit("tick", n))
		}
	}()
	return h
}

// sample passes on the peaks since it last has.
func sample(peaks chan<- *stats) {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	s := new(stats)
	for tick := time.Tick(sampleTime); ; {
		metrics.Read(heap)
		s.PeakHeap = max(s.PeakHeap, int64(heap[0].Value.Uint64()))
		s.PeakGoroutines = max(s.PeakGoroutines, runtime.NumGoroutine())
		select {
		case <-tick:
		case peaks <- s:
			s = new(stats)
		}
	}
}

// panicCounter is a log that counts what must not happen: panics, and errors of the server's own.
type panicCounter struct{ n *atomic.Int64 }

func (c panicCounter) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelError
}
func (c panicCounter) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c panicCounter) WithGroup(string) slog.Handler      { return c }

func (c panicCounter) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "TLS handshake") {
		return nil
	}
	c.n.Add(1)
	println(r.Message)
	r.Attrs(func(a slog.Attr) bool { println("\t", a.String()); return true })
	return nil
}
