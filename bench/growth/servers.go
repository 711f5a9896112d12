package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bench/process"
)

// argument returns an argument of Start.
func argument(i int) int {
	n, err := strconv.Atoi(os.Args[1+i])
	check(err)
	return n
}

// newHub returns a hub that calls join for each new socket with the number of its client. The
// clients answer no pings.
func newHub(join func(s *atrium.Socket, i int)) *atrium.Hub {
	h := atrium.New(atrium.Options{
		Timeouts: atrium.Timeouts{PingInterval: time.Hour},
		Limits:   atrium.Limits{Rooms: 1 << 20, QueuedBytes: 1 << 30},
	})
	h.OnConnect(func(s *atrium.Socket) {
		i, err := strconv.Atoi(s.Handshake().URL().Query().Get("i"))
		check(err)
		join(s, i)
	})
	return h
}

func joinRoom(s *atrium.Socket, _ int) { check(s.Join("room")) }

// clients are the clients of a server: its own in memory, for whose deliveries it waits, or those
// that connect to it.
type clients struct {
	inMemory bool
	heard    sync.WaitGroup // deliveries in memory
}

// await connects those in memory, and waits until all n clients are there.
func (c *clients) await(h http.Handler, n int, hear func(i int) func([]byte), count func() int) {
	if c.inMemory {
		serveInMemory(h, n, hear)
	}
	for count() < n { // a client knows that it is connected a little before its OnConnect has run
		time.Sleep(time.Millisecond)
	}
}

// tell emits events, of which there are that many deliveries.
func (c *clients) tell(deliveries, events int, emit func() error) {
	if c.inMemory {
		c.heard.Add(deliveries)
	}
	for range events {
		check(emit())
	}
	wait(&c.heard)
}

// In the following the command 0 waits until all clients are there, and others are how many events
// to emit.

// room has a room with as many members as its argument.
func room(inMemory bool) process.Kind {
	return func(l net.Listener) func(int) {
		members := argument(0)
		h := newHub(joinRoom)
		go http.Serve(l, h)
		c := clients{inMemory: inMemory}
		next := first
		return func(events int) {
			if events == 0 {
				hear := func(int) func([]byte) { return everything(&c.heard) }
				c.await(h, members, hear, func() int { n, _ := h.To("room").Count(context.Background()); return n })
			}
			c.tell(members*events, events, func() error {
				next++
				return h.To("room").Emit("told", next-1)
			})
		}
	}
}

// rooms has as many members and rooms of two as its arguments say.
func rooms(inMemory bool) process.Kind {
	return func(l net.Listener) func(int) {
		p := plan{members: argument(0), rooms: argument(1), each: argument(2)}
		names, joins := p.names()
		var ready atomic.Int64
		h := newHub(func(s *atrium.Socket, i int) {
			check(s.Join(joins[i]...))
			ready.Add(1)
		})
		go http.Serve(l, h)
		c := clients{inMemory: inMemory}
		next := first
		return func(events int) {
			if events == 0 {
				c.await(h, p.members, func(i int) func([]byte) { return p.member(i, &c.heard) }, func() int { return int(ready.Load()) })
			}
			c.tell(events*p.reached(), events, func() error {
				at := p.first(next)
				next++
				return h.To(names[at:at+p.each]...).Emit("told", next-1)
			})
		}
	}
}

// bare writes the same frame to one connection after the other.
func bare(l net.Listener) func(int) {
	members := argument(0)
	var mu sync.Mutex
	var conns []net.Conn
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nc, _, err := http.NewResponseController(w).Hijack()
		check(err)
		_, err = nc.Write(append([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"), textFrame(`{"event":"connect"}`)...))
		check(err)
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, nc)
	}))
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(conns) }
	var c clients
	next := first
	return func(events int) {
		if events == 0 {
			c.await(nil, members, nil, count)
		}
		for range events {
			frame := textFrame(fmt.Sprintf(`{"event":"told","data":%d}`, next))
			for _, nc := range conns {
				_, err := nc.Write(frame)
				check(err)
			}
			next++
		}
	}
}

// textFrame returns a server's frame.
func textFrame(payload string) []byte {
	return append(process.AppendHeader(nil, process.Header{Opcode: process.OpText, Length: len(payload)}), payload...)
}

// The commands of churn are sums of these.
const (
	stream   = 1 // a stream of events to the room
	turnover = 2 // visitors join the room and leave it
)

// What the commands of churn do, one thing after the other.
const (
	events       = 100
	eventEvery   = 20 * time.Millisecond
	visits       = 2000
	visitsEvery  = 10 * time.Millisecond
	visitsAtOnce = 10
	atOnce       = 50 // visitors in the room
	visitors     = 2 * atOnce
)

// churn has a room with as many members as its argument, and visitors.
func churn(l net.Listener) func(int) {
	members := argument(0)
	var sockets [visitors]*atrium.Socket
	var ready atomic.Int64
	h := newHub(func(s *atrium.Socket, i int) {
		if i < members {
			joinRoom(s, i)
		} else {
			sockets[i-members] = s
		}
		ready.Add(1)
	})
	go http.Serve(l, h)
	var begun, done atomic.Int64 // the number of the last event that Emit was called for, and has returned for
	begun.Store(first - 1)
	done.Store(first - 1)
	emit := func() {
		n := begun.Add(1)
		check(h.To("room").Emit("told", n))
		done.Store(n)
	}
	type visit struct {
		s           *atrium.Socket
		before, now int64
	}
	var inside []visit
	leave := func() {
		v := inside[0]
		inside = inside[1:]
		before := done.Load()
		v.s.Leave("room")
		check(v.s.Emit("left", v.before, v.now, before, begun.Load()))
	}
	join := func(s *atrium.Socket) {
		before := done.Load()
		check(s.Join("room"))
		inside = append(inside, visit{s, before, begun.Load()})
	}
	return func(command int) {
		new(clients).await(nil, members+visitors, nil, func() int { return int(ready.Load()) })
		var wg sync.WaitGroup
		if command&stream != 0 {
			wg.Go(func() { pace(events, eventEvery, func(int) { emit() }) })
		}
		if command&turnover != 0 {
			wg.Go(func() {
				pace(visits/visitsAtOnce, visitsEvery, func(i int) {
					for j := range visitsAtOnce {
						if len(inside) == atOnce {
							leave()
						}
						join(sockets[(i*visitsAtOnce+j)%visitors])
					}
				})
				for len(inside) > 0 {
					leave()
				}
			})
		}
		wg.Wait()
	}
}

// pace calls f n times.
func pace(n int, every time.Duration, f func(i int)) {
	start := time.Now()
	for i := range n {
		time.Sleep(time.Until(start.Add(time.Duration(i) * every)))
		f(i)
	}
}

// echo answers calls with what they came with.
func echo(l net.Listener) func(int) {
	h := newHub(func(*atrium.Socket, int) {})
	atrium.OnCall(h, "echo", func(_ *atrium.Socket, n int) (int, error) { return n, nil })
	go http.Serve(l, h)
	return func(int) {}
}

// profiles is the variable of the environment with the path of the profiles that a server writes at
// the command profile; without one it takes none.
const (
	profiles = "ATRIUM_BENCH_PROFILES"
	profile  = -1
)

// profiled returns the kind with that command.
func profiled(kind process.Kind) process.Kind {
	path := os.Getenv(profiles)
	if path == "" {
		return kind
	}
	return func(l net.Listener) func(int) {
		runtime.SetBlockProfileRate(1)
		runtime.SetMutexProfileFraction(1)
		cpu, err := os.Create(path + ".cpu")
		check(err)
		check(pprof.StartCPUProfile(cpu))
		command := kind(l)
		return func(n int) {
			if n != profile {
				command(n)
				return
			}
			pprof.StopCPUProfile()
			check(cpu.Close())
			for _, name := range []string{"block", "mutex"} {
				f, err := os.Create(path + "." + name)
				check(err)
				check(pprof.Lookup(name).WriteTo(f, 0))
				check(f.Close())
			}
		}
	}
}
