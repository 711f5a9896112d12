package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
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
	c.OnConnect(func(*atrium.Client) { c.Emit("join-room", "hall") })
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
	of map[string][]numbered
	by map[numbered]bool // which of them there are
}

type numbered struct {
	Sender string `json:"sender"`
	N      int    `json:"n"`
	Once   bool   `json:"once"` // to be stored once, however often it comes: sender and number are its key
}

// start starts a server process, so to speak, and returns its address and its end.
func (d *deliveries) start(origin string) (addr string, kill func()) {
	h := atrium.New(atrium.Options{
		AllowedOrigins: []string{origin},
		Timeouts:       atrium.Timeouts{PingInterval: 300 * time.Millisecond, Ping: 1500 * time.Millisecond},
		Logger:         slog.New(slog.DiscardHandler),
	})
	atrium.On(h, "numbered", func(_ *atrium.Socket, m numbered) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		if !m.Once || !d.by[m] {
			d.by[m] = true
			d.of[m.Sender] = append(d.of[m.Sender], m)
		}
		return nil
	})
	server := httptest.NewServer(h)
	return server.Listener.Addr().String(), func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		h.Shutdown(ctx)
		server.CloseClientConnections()
		server.Close()
	}
}

// check returns how many of the messages that are to be stored at least once came again. It fails
// the test unless those from 0 up to the acknowledged came in order, the others exactly once.
func (d *deliveries) check(t *testing.T, sender string, acknowledged int) (again int) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	next := 0
	for _, m := range d.of[sender] {
		switch {
		case m.N == next:
			next++
		case m.N > next:
			t.Errorf("%s: message %d came when %d was due", sender, m.N, next)
			return again
		case m.Once:
			t.Errorf("%s: message %d came again, and has a key", sender, m.N)
		default:
			again++
		}
	}
	if next != acknowledged {
		t.Errorf("%s: %d messages were acknowledged, and %d delivered", sender, acknowledged, next)
	}
	return again
}

// A sender sends messages with numbers from 0 on, every other one with a key, until it is told to
// stop.
type sender struct {
	acknowledged func() int
	until        func(acknowledged int)
	stop         func() // waits for the last acknowledgement
}

// goSender is one in Go, with one message at a time.
func goSender(t *testing.T, name, url string) sender {
	c := atrium.NewClient(url, atrium.ClientOptions{
		CallRetries: 1000,
		Timeout:     2 * time.Second,
		Backoff:     atrium.Backoff{Min: 20 * time.Millisecond, Max: 200 * time.Millisecond, Jitter: 1},
		Logger:      slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	t.Cleanup(func() {
		c.Close()
		sending.Wait()
	})
	connect(t, c)
	var acknowledged atomic.Int64
	sending.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			patient, cancel := context.WithTimeout(t.Context(), patience)
			_, err := atrium.Call[any](patient, c, "numbered", numbered{name, n, n%2 == 1})
			cancel()
			if err != nil {
				t.Errorf("%s: message %d: %v", name, n, err)
				return
			}
			acknowledged.Add(1)
		}
	})
	return sender{
		acknowledged: func() int { return int(acknowledged.Load()) },
		until: func(n int) {
			t.Helper()
			waitUntil(t, fmt.Sprintf("%s: %d acknowledgements", name, n), func() bool { return acknowledged.Load() >= int64(n) })
		},
		stop: func() {
			stop()
			sending.Wait()
		},
	}
}

// tabSender is a browser's tab, with client.js and four messages at a time.
func tabSender(t *testing.T, name, url string, l *lab) sender {
	p := openClient(t, l)
	read[bool](p, fmt.Sprintf(`import('/numbered.mjs').then((m) => { window.sender = m.send(connect, %s, %s); return true; })`, js(url+"/socket.io/"), js(name)))
	return sender{
		acknowledged: func() int { return read[int](p, `sender.acknowledged`) },
		until:        func(n int) { p.until(fmt.Sprintf(`sender.acknowledged >= %d`, n)) },
		stop:         func() { read[bool](p, `(sender.stop = true, sender.ended.then(() => true))`) },
	}
}

// TestRestarts: fifty Go clients and five tabs send numbered messages, with retries, while their
// server restarts ten times and the network is as bad as it can be. Each message that was
// acknowledged was delivered as often as its sender was promised, and in the order in which it was
// sent.
func TestRestarts(t *testing.T) {
	t.Parallel()
	const clients, tabs, restarts = 50, 5, 10
	l := newLab(t)
	stored := &deliveries{of: make(map[string][]numbered), by: make(map[numbered]bool)}
	addr, kill := stored.start(l.url)
	p, err := newProxy(addr)
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + p.addr
	senders := make(map[string]sender)
	for i := range tabs {
		name := fmt.Sprint("tab ", i)
		senders[name] = tabSender(t, name, url, l)
	}
	for i := range clients {
		name := fmt.Sprint("client ", i)
		senders[name] = goSender(t, name, url)
	}

	// progress waits until each sender has had more acknowledgements than messages were on their
	// way: it has got over whatever there was.
	progress := func() {
		t.Helper()
		goal := make(map[string]int)
		for name, s := range senders {
			goal[name] = s.acknowledged() + 5
		}
		for name, s := range senders {
			s.until(goal[name])
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
		progress()
		trouble := trouble[round%len(trouble)]
		t.Logf("round %d: %s", round, trouble.name)
		trouble.make()
		progress()
		p.down()
		kill()
		addr, kill = stored.start(l.url)
		p.delay.Store(0)
		if err := p.listen(addr); err != nil {
			t.Fatal(err)
		}
	}
	progress()
	total, again := 0, 0
	for name, s := range senders {
		s.stop()
		acknowledged := s.acknowledged()
		again += stored.check(t, name, acknowledged)
		total += acknowledged
	}
	p.down()
	kill()
	t.Logf("%d messages; of those without a key, %d again", total, again)
}
