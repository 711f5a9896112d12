package e2e

import (
	"context"
	"fmt"
	"log/slog"

	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

// TestOneRoom: a Go client, a browser and Node, each with its own client, in one room.
func TestOneRoom(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	started, ok := l.start(httptest.NewRequest("POST", "/lab/start", nil)).(map[string]any)
	if !ok {
		t.Fatal("the lab has no hub")
	}
	address := started["url"].(string)
	l.mu.Lock()
	hub := l.hubs[0].hub
	l.mu.Unlock()

	c := atrium.NewClient(address, atrium.ClientOptions{Auth: token})
	t.Cleanup(func() { c.Close() })
	heard := make(chan string, 10)
	c.OnConnect(func() { c.Emit("join-room", "hall") })
	atrium.On(c, "msg", func(_ *atrium.Client, text string) error { heard <- text; return nil })
	connect(t, c)

	var others sync.WaitGroup
	others.Go(func() {
		ctx, cancel := context.WithTimeout(t.Context(), lifetime)
		defer cancel()
		out, err := exec.CommandContext(ctx, "node", "one-room.mjs", address, "Node", "2").CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != "Go browser" {
			t.Errorf("Node heard %q, %v", got, err)
		}
	})
	p := open(t, l.url+"/")
	p.tolerate = []string{"request to another host: http://127.0.0.1:", "request to another host: ws://127.0.0.1:"} // the hub's
	p.until(`window.run !== undefined`)
	others.Go(func() {
		js := fmt.Sprintf(`import('/one-room.mjs').then((m) => m.takePart(io, %q, 'browser', 2))`, address)
		if got := read[string](p, js); got != "Go Node" {
			t.Errorf("the browser heard %q", got)
		}
	})
	waitUntil(t, "all in the room", func() bool {
		n, err := hub.To("hall").Count(t.Context())
		return err == nil && n == 3
	})
	hub.To("hall").Emit("msg", "go")
	all := make(map[string]bool)
	for len(all) < 2 {
		switch text := receive(t, heard, "a message"); text {
		case "go":
			ask[any](t, c, "send-others", roomMessage{"hall", "Go"})
		default:
			all[text] = true
		}
	}
	others.Wait()
	if !all["Node"] || !all["browser"] {
		t.Errorf("Go heard %v", all)
	}
}

// waitUntil polls: what it waits for has no other sign.
func waitUntil(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for tick := time.Tick(5 * time.Millisecond); !holds(); {
		select {
		case <-tick:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// deliveries is what an application has stored: it survives its server.
type deliveries struct {
	mu sync.Mutex // guards:
	of map[string][]int
}

type numbered struct {
	Sender string `json:"sender"`
	N      int    `json:"n"`
}

// start starts a server process, so to speak, and returns its address and its end.
func (d *deliveries) start() (addr string, kill func()) {
	h := atrium.New(atrium.Options{PingInterval: 300 * time.Millisecond, PingTimeout: 1500 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	atrium.On(h, "numbered", func(_ *atrium.Socket, m numbered) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.of[m.Sender] = append(d.of[m.Sender], m.N)
		return nil
	})
	server := httptest.NewServer(h)
	return server.Listener.Addr().String(), func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		h.Shutdown(ctx)
		server.CloseClientConnections()
	}
}

// TestRestarts: fifty clients send numbered messages, with retries, while their server restarts ten times and the
// network is as bad as it can be. Each message that was acknowledged was delivered, in the sender's order.
func TestRestarts(t *testing.T) {
	t.Parallel()
	const clients, restarts = 50, 10
	stored := &deliveries{of: make(map[string][]int)}
	addr, kill := stored.start()
	p, err := newProxy(addr)
	if err != nil {
		t.Fatal(err)
	}
	acknowledged := make(chan struct{}, 1_000_000)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	last := make([]int, clients) // acknowledged, by sender
	var senders sync.WaitGroup
	for i := range clients {
		c := atrium.NewClient("http://"+p.addr, atrium.ClientOptions{
			Retries: 1000,
			Timeout: 2 * time.Second,
			Backoff: atrium.Backoff{Min: 20 * time.Millisecond, Max: 200 * time.Millisecond, Jitter: 1},
			Logger:  slog.New(slog.DiscardHandler),
		})
		t.Cleanup(func() { c.Close() })
		connect(t, c)
		senders.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				patient, cancel := context.WithTimeout(t.Context(), lifetime)
				_, err := atrium.Call[any](patient, c, "numbered", numbered{fmt.Sprint(i), n})
				cancel()
				if err != nil {
					t.Errorf("client %d, message %d: %v", i, n, err)
					return
				}
				last[i] = n
				acknowledged <- struct{}{}
			}
		})
	}
	progress := func(messages int) {
		t.Helper()
		for range messages {
			receive(t, acknowledged, "an acknowledgement")
		}
		for len(acknowledged) > 0 {
			<-acknowledged
		}
	}
	trouble := []struct {
		name string
		make func()
	}{
		{"half-closed", func() { p.each(cut) }},
		{"reset", func() { p.each(reset) }},
		{"black hole", p.stall},
		{"delayed", func() { p.delay.Store(int64(30 * time.Millisecond)) }},
		{"one end only", p.sever},
	}
	for round := range restarts {
		progress(4 * clients)
		trouble := trouble[round%len(trouble)]
		t.Logf("round %d: %s", round, trouble.name)
		trouble.make()
		progress(clients)
		p.down()
		kill()
		addr, kill = stored.start()
		p.delay.Store(0)
		if err := p.listen(addr); err != nil {
			t.Fatal(err)
		}
	}
	progress(4 * clients)
	stop()
	senders.Wait()
	p.down()
	kill()

	stored.mu.Lock()
	defer stored.mu.Unlock()
	total, twice := 0, 0
	for i := range clients {
		next := 0
		for _, n := range stored.of[fmt.Sprint(i)] {
			switch {
			case n == next:
				next++
			case n < next:
				twice++
			default:
				t.Errorf("client %d: message %d came when %d was due", i, n, next)
			}
		}
		if next <= last[i] {
			t.Errorf("client %d: message %d was acknowledged, and %d not delivered", i, last[i], next)
		}
		total += next
	}
	t.Logf("%d messages, %d of them twice", total, twice)
}
