//go:build unix

package atrium

import (
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// relay stands between clients and a server that have real sockets, and so the fast path, and
// breaks their connections.
type relay struct {
	listener, server net.Listener
	piece            int // the most bytes that it takes at a time, at random
	running          sync.WaitGroup

	mu      sync.Mutex // guards:
	rng     *rand.Rand
	planned fault
	passed  [2]int
	at      time.Time
	open    map[*relayed]struct{}
}

// relayed is a connection: its client's end and its server's.
type relayed [2]net.Conn

// newRelay starts one, which ends with the test. Its sockets are of the kind of the server's.
func newRelay(t *testing.T, k kind, server net.Listener, seed uint64, piece int) *relay {
	r := &relay{listener: k.listen(t), server: server, piece: piece, rng: rand.New(rand.NewPCG(seed, 0)), open: make(map[*relayed]struct{})}
	r.running.Go(func() {
		for {
			near, err := r.listener.Accept()
			if err != nil {
				return
			}
			far, err := k.dial(server)
			if err != nil {
				near.Close()
				continue
			}
			r.join(&relayed{near, far})
		}
	})
	t.Cleanup(func() {
		r.listener.Close()
		r.mu.Lock()
		for c := range r.open {
			c.reset()
		}
		r.mu.Unlock()
		r.running.Wait()
	})
	return r
}

func (r *relay) join(c *relayed) {
	narrow(c[0])
	narrow(c[1])
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[c] = struct{}{}
	r.strike(c, r.planned.dir)
	var both sync.WaitGroup
	both.Go(func() { r.pump(c, toServer) })
	both.Go(func() { r.pump(c, toClient) })
	r.running.Go(func() {
		both.Wait()
		c[0].Close()
		c[1].Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.open, c)
	})
}

// narrow makes the buffers of a socket small. With smaller ones TCP waits for its timers.
func narrow(nc net.Conn) {
	sized := nc.(interface {
		SetReadBuffer(int) error
		SetWriteBuffer(int) error
	})
	sized.SetReadBuffer(16 << 10) // an error would leave it larger
	sized.SetWriteBuffer(8 << 10)
}

// reset closes both ends, so that they see a reset if they are TCP's.
func (c *relayed) reset() {
	for _, nc := range c {
		if nc, ok := nc.(*net.TCPConn); ok {
			nc.SetLinger(0)
		}
		nc.Close()
	}
}

// pump copies one direction until it ends or the fault comes.
func (r *relay) pump(c *relayed, dir int) {
	from, to := c[dir], c[1-dir]
	buf := make([]byte, r.piece)
	for {
		r.mu.Lock()
		piece := 1 + r.rng.IntN(r.piece)
		r.mu.Unlock()
		n, err := from.Read(buf[:piece])
		for p := buf[:n]; len(p) > 0; {
			r.mu.Lock()
			room := len(p)
			if f := r.planned; f.kind != noBreakage && f.dir == dir {
				room = min(room, f.at-r.passed[dir])
			}
			r.mu.Unlock()
			if _, err := to.Write(p[:room]); err != nil {
				from.Close() // which resets what it has not read
				return
			}
			p = p[room:]
			r.mu.Lock()
			r.passed[dir] += room
			struck := r.strike(c, dir)
			r.mu.Unlock()
			if struck {
				return
			}
		}
		if err != nil {
			to.(interface{ CloseWrite() error }).CloseWrite()
			return
		}
	}
}

// strike lets the fault come if it is time for it. r.mu is held.
func (r *relay) strike(c *relayed, dir int) bool {
	f := r.planned
	if f.kind == noBreakage || f.dir != dir || r.passed[dir] < f.at {
		return false
	}
	r.planned, r.at = fault{}, time.Now()
	if f.kind == breakReset {
		c.reset()
	} else {
		c[0].Close()
		c[1].Close()
	}
	return true
}

// plan implements breakable. The kinds are breakReset and breakEnd.
func (r *relay) plan(f fault) (passed [2]int, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	passed, at = r.passed, r.at
	r.planned, r.passed, r.at = f, [2]int{}, time.Time{}
	return passed, at
}

// dial implements breakable.
func (r *relay) dial() (net.Conn, error) {
	nc, err := net.Dial(r.listener.Addr().Network(), r.listener.Addr().String())
	if err == nil {
		narrow(nc)
	}
	return nc, err
}

// narrowListener accepts sockets with small buffers, and nothing around them.
type narrowListener struct{ net.Listener }

func (l narrowListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil {
		narrow(nc)
	}
	return nc, err
}

// overNarrow are the kinds of sockets that have the fast path, with small buffers.
func overNarrow(t *testing.T, test func(t *testing.T, k kind)) {
	unix := kind{"unix", func(t testing.TB) net.Listener {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}, func(l net.Listener) (net.Conn, error) { return net.Dial("unix", l.Addr().String()) }}
	for _, k := range []kind{overTCP, unix} {
		listen := k.listen
		k.listen = func(t testing.TB) net.Listener { return narrowListener{listen(t)} }
		t.Run(k.name, func(t *testing.T) { test(t, k) })
	}
}

// On real sockets, too, a Client is back by itself after a reset or the end at any byte, and has
// each event once and in order. One of many bytes is tried in each round.
func TestFaultsSockets(t *testing.T) {
	overNarrow(t, func(t *testing.T, k kind) {
		for _, seed := range faultRounds(t) {
			for _, kind := range []breakage{breakReset, breakEnd} {
				t.Run(fmt.Sprintf("%v, seed %d", kind, seed), func(t *testing.T) {
					noLeaks(t)
					f := newClientFaults(t, true)
					f.net, f.pause = newRelay(t, k, serve(t, k, f.hub).listener, seed, 100), time.Millisecond
					f.session(fault{})
					const step = 61
					for dir, total := range f.bytes {
						for at := int(seed*7+uint64(kind)) % step; at <= total; at += step {
							f.session(fault{kind, dir, at})
						}
					}
				})
			}
		}
	})
}

// Sockets that take little at a time, with a peer that takes it in pieces: all that is sent
// arrives, in order, large and small, in both directions at once.
func TestFaultsFullSockets(t *testing.T) {
	overNarrow(t, func(t *testing.T, k kind) {
		for _, seed := range faultRounds(t) {
			t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
				noLeaks(t)
				h := newHub(t, Options{Limits: Limits{QueuedBytes: 1 << 30, InboxBytes: 1 << 26}})
				sum := make(chan error, 1000)
				On(h, "up", func(s *Socket, text string) error { return s.Emit("down", text) })
				r := newRelay(t, k, serve(t, k, h).listener, seed, 3000)
				const clients, messages = 3, 60
				rng := rand.New(rand.NewPCG(seed, 1))
				var texts []string
				for i := range messages {
					texts = append(texts, numbered(i, 1<<rng.IntN(17)))
				}
				for range clients {
					c := newClient(t, r.dial, ClientOptions{Dial: DialOptions{MaxQueuedBytes: 1 << 30}})
					next := 0
					On(c, "down", func(_ *Client, text string) error {
						if next < messages && text != texts[next] {
							sum <- fmt.Errorf("message %d is %.20q of %d bytes", next, text, len(text))
						}
						if next++; next == messages {
							sum <- nil
						}
						return nil
					})
					mustConnect(t, c)
					go func() {
						for _, text := range texts {
							if err := c.Emit("up", text); err != nil {
								sum <- err
							}
						}
					}()
				}
				for range clients {
					if err := within(t, sum, "all of the messages"); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	})
}
