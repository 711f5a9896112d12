// Idle measures the memory of connections that wait: 10,000 of them to one server process, over TCP
// and over TLS, with short requests and with those of a browser. Each has been used before: a
// member of the hub has handled an event that asked its client something, and was pinged; a Conn
// has echoed a message and answered a ping.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bench/process"
)

const pingInterval = 10 * time.Second

func main() {
	process.Serve(map[string]process.Kind{
		"Conn over TCP":             func(l net.Listener) func(int) { return serve(l, http.HandlerFunc(echo)) },
		"Conn over TLS":             func(l net.Listener) func(int) { return serve(process.Secure(l), http.HandlerFunc(echo)) },
		"hub member over TCP":       func(l net.Listener) func(int) { return serve(l, hub()) },
		"hub member over TLS":       func(l net.Listener) func(int) { return serve(process.Secure(l), hub()) },
		"Socket.IO member over TCP": func(l net.Listener) func(int) { return serve(l, hub()) },
	})
	n := flag.Int("n", 10_000, "connections")
	flag.Parse()
	fmt.Printf("| %d connections | request | resident, bytes each | heap | stacks | goroutines |\n|---|---|---|---|---|---|\n", *n)
	for _, kind := range []string{"Conn over TCP", "hub member over TCP", "Socket.IO member over TCP", "Conn over TLS", "hub member over TLS"} {
		for _, handshake := range []string{"200 bytes", "a browser's"} {
			measure(kind, handshake, *n)
		}
	}
}

func serve(l net.Listener, h http.Handler) func(int) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l)
	return nil
}

func echo(w http.ResponseWriter, r *http.Request) {
	c, err := atrium.Upgrade(w, r, atrium.UpgradeOptions{})
	if err != nil {
		return
	}
	// A goroutine of its own lets go of what net/http's holds.
	go func() {
		for {
			op, p, err := c.Read(context.Background())
			if err != nil {
				return
			}
			if err := c.Write(context.Background(), op, p); err != nil {
				return
			}
		}
	}()
}

func hub() http.Handler {
	h := atrium.New(atrium.Options{Timeouts: atrium.Timeouts{PingInterval: pingInterval}})
	h.OnConnect(func(s *atrium.Socket) { s.Join("everybody") })
	atrium.OnCall(h, "hello", func(s *atrium.Socket, n int) (int, error) {
		return atrium.Call[int](context.Background(), s, "ask", n)
	})
	return h
}

// measure prints what each of n connections holds.
func measure(kind, handshake string, n int) {
	s := process.Start(kind)
	defer s.Stop()
	use, isTLS, query := useConn, strings.HasSuffix(kind, "TLS"), ""
	switch {
	case strings.HasPrefix(kind, "hub"):
		use = useMember
	case strings.HasPrefix(kind, "Socket.IO"):
		use, query = useSocketIO, "?EIO=4&transport=websocket"
	}
	// What the process needs once is there before the first measurement.
	for range 100 {
		c := s.Connect(isTLS, handshake, query)
		use(c)
		c.Close()
	}
	time.Sleep(time.Second) // the server has seen that they are gone
	before := s.Memory()

	clients := make([]*process.Client, n)
	var wg, pinged sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := worker; i < n; i += 16 {
				clients[i] = s.Connect(isTLS, handshake, query)
				use(clients[i])
			}
		})
	}
	wg.Wait()
	if !strings.HasPrefix(kind, "Conn") {
		for _, c := range clients {
			pinged.Add(1)
			go answerPings(c, pinged.Done)
		}
		pinged.Wait()
	}
	after := s.Memory()
	each := func(before, after int64) int64 { return (after - before) / int64(n) }
	fmt.Printf("| %s | %s | %d | %d | %d | %.2f |\n", kind, handshake, each(before.Resident, after.Resident),
		each(before.Heap, after.Heap), each(before.Stacks, after.Stacks), float64(after.Goroutines-before.Goroutines)/float64(n))
	for _, c := range clients {
		c.Close()
	}
}

// The following have a connection do what it will have done before it is idle.

func useConn(c *process.Client) {
	c.Send(process.OpText, "hello")
	c.Expect("hello")
	c.Send(process.OpPing, "1")
	c.Expect("1")
}

func useSocketIO(c *process.Client) {
	c.Expect(`0{"sid":`)
	c.Send(process.OpText, "40")
	c.Expect(`40{"sid":`)
	c.Send(process.OpText, `421["hello",7]`)
	id, _, _ := strings.Cut(c.Expect("42"), "[")
	c.Send(process.OpText, "43"+id+"[8]")
	c.Expect("431[8]")
}

func useMember(c *process.Client) {
	c.Expect(`{"event":"connect"`)
	c.Send(process.OpText, `{"event":"hello","data":7,"id":1}`)
	c.Send(process.OpText, `{"data":8,`+c.Expect(`{"event":"ask","data":7,`)) // the rest is the id
	c.Expect(`{"id":1,"data":8}`)
}

// answerPings answers pings for as long as the connection lasts, and reports the first.
func answerPings(c *process.Client, pinged func()) {
	for first := true; ; first = false {
		op, p, err := c.Next()
		if err != nil {
			return
		}
		var pong []byte
		switch {
		case op == process.OpPing:
			pong = process.Frame(process.OpPong, string(p))
		case string(p) == "2": // Engine.IO's
			pong = process.Frame(process.OpText, "3")
		default:
			panic(fmt.Sprintf("got %v %s, want a ping", op, p))
		}
		if _, err := c.Write(pong); err != nil {
			return
		}
		if first {
			pinged()
		}
	}
}
