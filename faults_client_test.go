package atrium

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// breakable is a network whose connections break: a faultNet, or a relay of real ones.
type breakable interface {
	plan(f fault) (passed [2]int, at time.Time)
	dial() (net.Conn, error)
}

// clientFaults is a hub and, one after the other, Clients whose network breaks.
type clientFaults struct {
	t        *testing.T
	hub      *Hub
	net      breakable
	recovers bool
	pause    time.Duration // between two looks at what has come
	bytes    [2]int        // that the latest session took

	mu    sync.Mutex // guards:
	asked []int      // the calls that were handled
	told  []int      // the events of clients
	open  int        // sockets
	twice int        // OnConnect or OnDisconnect out of turn
}

func newClientFaults(t *testing.T, recovers bool) *clientFaults {
	options := Options{Compression: Compression{Level: 1}, Timeouts: Timeouts{PingInterval: 20 * time.Second, Ping: 10 * time.Second}}
	if recovers {
		options.Recovery.MaxDisconnection = 2 * time.Minute
	}
	f := &clientFaults{t: t, hub: newHub(t, options), recovers: recovers, pause: 200 * time.Millisecond}
	h := f.hub
	h.Use(func(s *Socket) error { return s.Join("room") })
	count := func(by int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.open += by
	}
	h.OnConnect(func(*Socket) { count(+1) })
	h.OnDisconnect(func(_ *Socket, why Reason) {
		count(-1)
		if !slices.Contains(sensible[breakReset], why) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.twice++
		}
	})
	OnCall(h, "double", func(_ *Socket, n int) (int, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.asked = append(f.asked, n)
		return 2 * n, nil
	})
	OnCall(h, "reverse", func(_ *Socket, b []byte) (Binary, error) { slices.Reverse(b); return b, nil })
	On(h, "tell", func(_ *Socket, n int) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.told = append(f.told, n)
		return nil
	})
	return f
}

// visit is what a Client has seen of a session.
type visit struct {
	*Client
	mu  sync.Mutex // guards:
	got [][]int    // the numbers, by connection
	on  bool
	odd string // what was out of turn
}

func (v *visit) latest() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, numbers := range slices.Backward(v.got) {
		if len(numbers) > 0 {
			return numbers[len(numbers)-1]
		}
	}
	return 0
}

// newVisit makes a Client that notes what comes.
func newVisit(n breakable, options ClientOptions) *visit {
	options.Dial.DialContext = func(context.Context, string, string) (net.Conn, error) { return n.dial() }
	options.Logger = slog.New(slog.DiscardHandler)
	if options.Backoff.Min == 0 {
		options.Backoff = Backoff{Min: 100 * time.Millisecond, Max: time.Second}
	}
	options.Timeout = cmp.Or(options.Timeout, 5*time.Second)
	v := &visit{Client: NewClient("http://localhost", options), got: [][]int{nil}}
	v.Handle("n", func(e *Event) {
		v.mu.Lock()
		defer v.mu.Unlock()
		var n int
		var b Binary
		if err := e.Bind(&n, &b); err != nil && n == 0 {
			v.odd = err.Error()
		}
		now := &v.got[len(v.got)-1]
		*now = append(*now, n)
	})
	turn := func(on bool) {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.on == on {
			v.odd = fmt.Sprintf("connected: %v, twice", on)
		}
		if v.on = on; !on {
			v.got = append(v.got, nil)
		}
	}
	v.OnConnect(func(*Client) { turn(true) })
	v.OnDisconnect(func(_ *Client, why Reason) {
		turn(false)
		if !slices.Contains([]Reason{ReasonTransportClose, ReasonTransportError, ReasonPingTimeout, ReasonClientDisconnect}, why) {
			v.odd = string(why)
		}
	})
	return v
}

// session is one of a Client, in which the fault comes. It checks what arrived.
func (f *clientFaults) session(planned fault) {
	f.t.Helper()
	f.asked, f.told = nil, nil
	f.net.plan(planned)
	v := newVisit(f.net, ClientOptions{CallRetries: 10, CallTimeout: time.Minute, Backoff: Backoff{Min: f.pause / 2, Max: 5 * f.pause}, Dial: DialOptions{Compression: Compression{Level: 1}}})
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Minute)
	defer cancel()
	if err := v.Connect(ctx); err != nil {
		f.t.Fatalf("%v: %v", planned, err)
	}
	last := f.converse(planned, ctx, v)
	if err := v.Close(); err != nil {
		f.t.Fatalf("%v: %v", planned, err)
	}
	f.bytes, _ = f.net.plan(fault{})
	f.awaitNobody(planned)
	v.mu.Lock()
	defer v.mu.Unlock()
	got, connections := slices.Concat(v.got...), v.got
	for i, n := range got {
		if i > 0 && n <= got[i-1] || f.recovers && n != i+1 {
			f.t.Fatalf("%v: the client got %v", planned, connections)
		}
	}
	for _, numbers := range connections {
		if len(numbers) > 0 && numbers[len(numbers)-1]-numbers[0] != len(numbers)-1 {
			f.t.Fatalf("%v: the client got %v", planned, connections)
		}
	}
	if v.odd != "" || f.twice != 0 || got[len(got)-1] != last {
		f.t.Fatalf("%v: the client got %v of %d, %s; %d odd at the hub", planned, got, last, v.odd, f.twice)
	}
	if told := slices.Compact(slices.Sorted(slices.Values(f.told))); !slices.Equal(told, f.told) {
		f.t.Fatalf("%v: the hub was told %v", planned, f.told)
	}
}

// converse has the hub and the client send each other everything there is, and returns the number
// of the last event.
func (f *clientFaults) converse(planned fault, ctx context.Context, v *visit) (last int) {
	emit := func(args ...any) {
		last++
		if err := f.hub.To("room").Emit("n", append([]any{last}, args...)...); err != nil {
			f.t.Fatal(err)
		}
	}
	for n := 1; n <= 3; n++ {
		emit()
		if err := v.Emit("tell", n); err != nil {
			f.t.Fatalf("%v: %v", planned, err)
		}
		if got, err := Call[int](ctx, v, "double", n); got != 2*n || err != nil {
			f.t.Fatalf("%v: call %d: %d, %v", planned, n, got, err)
		}
	}
	emit(Binary("abc"))
	emit(strings.Repeat("x", 300), Binary("def"))
	if got, err := Call[[]byte](ctx, v, "reverse", Binary("abc")); string(got) != "cba" || err != nil {
		f.t.Fatalf("%v: %q, %v", planned, got, err)
	}
	for began := time.Now(); v.latest() != last; {
		if !f.recovers {
			emit()
		}
		if time.Since(began) > 10*time.Minute {
			f.t.Fatalf("%v: the client waits for %d, and has %v", planned, last, v.got)
		}
		<-time.After(f.pause)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if asked := slices.Compact(slices.Clone(f.asked)); !slices.Equal(asked, []int{1, 2, 3}) {
		f.t.Fatalf("%v: the hub was asked %v", planned, f.asked)
	}
	return last
}

// awaitNobody waits until the hub has got over the client.
func (f *clientFaults) awaitNobody(planned fault) {
	f.t.Helper()
	for began := time.Now(); ; {
		f.mu.Lock()
		open := f.open
		f.mu.Unlock()
		if open == 0 && len(f.hub.list()) == 0 {
			return
		}
		if time.Since(began) > 10*time.Minute {
			f.t.Fatalf("%v: %d sockets are left", planned, open)
		}
		<-time.After(f.pause)
	}
}

// A Client whose connection breaks at any byte, in any way, is back by itself. With Recovery it has
// each event once and in order, and without none twice and each connection's without a gap; its
// calls are answered, and OnConnect and OnDisconnect take turns at both ends.
func TestFaultsClient(t *testing.T) {
	for _, recovers := range []bool{true, false} {
		for kind := breakReset; int(kind) < breakages; kind++ {
			forSeeds(t, fmt.Sprintf("recovery %v, %v", recovers, kind), func(t *testing.T, seed uint64) {
				const step = 4
				f, n := newClientFaults(t, recovers), newFaultNet(shapeOf(seed))
				serve(t, n.over(), f.hub)
				f.net = n
				f.session(fault{})
				for dir, total := range f.bytes {
					for at := (int(seed) + int(kind)) % step; at <= total; at += step {
						f.session(fault{kind, dir, at})
					}
				}
				if recovers {
					<-time.After(3 * time.Minute)
					f.hub.Namespace.recovery.check(t)
					f.hub.checkNobody(t)
				}
			})
		}
	}
}

// A Conn whose Reads are interrupted all the time, between any two bytes, loses nothing: however
// the network cuts the bytes into pieces, and compressed or not.
func TestFaultsDeadlineStorm(t *testing.T) {
	for _, level := range []int{0, 1} {
		forSeeds(t, fmt.Sprintf("level %d", level), func(t *testing.T, seed uint64) {
			n := newFaultNet(shape{seed: seed, piece: 3, buffer: 100, delay: 3 * time.Millisecond})
			z := Compression{Level: level, Threshold: 1}
			serve(t, n.over(), echoHandler(UpgradeOptions{Compression: z}))
			c, _, err := Dial(t.Context(), "ws://localhost/", DialOptions{Compression: z,
				DialContext: func(context.Context, string, string) (net.Conn, error) { return n.dial() }})
			if err != nil {
				t.Fatal(err)
			}
			const messages = 30
			go func() {
				for i := range messages {
					for err := errors.New("not yet"); err != nil; {
						ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
						err = c.Write(ctx, MessageText, []byte(numbered(i, 10*i)))
						cancel()
					}
				}
			}()
			interrupted := 0
			for i := 0; i < messages; {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				_, p, err := c.Read(ctx)
				cancel()
				switch {
				case err == context.DeadlineExceeded:
					interrupted++
				case err != nil || string(p) != numbered(i, 10*i):
					t.Fatalf("message %d: %q, %v", i, p, err)
				default:
					i++
				}
			}
			if interrupted < messages {
				t.Errorf("only %d Reads were interrupted", interrupted)
			}
			_ = c.CloseNow() // with a handshake both of the server's goroutines would wait, one of them for a mutex
		})
	}
}

// A closing handshake that breaks at any byte ends at both ends, soon, and Close tells whether it
// was completed.
func TestFaultsClose(t *testing.T) {
	for kind := breakReset; int(kind) < breakages; kind++ {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newFaultNet(shape{})
				ends := make(chan error, 1)
				k := n.over()
				l := k.listen(t)
				t.Cleanup(func() { l.Close() })
				for dir := range 2 {
					for at := range 30 {
						closing, other := closePair(t, n)
						go func() {
							var err error
							for err == nil {
								_, _, err = other.Read(context.Background())
							}
							ends <- err // Read has begun to finish
						}()
						stop := time.AfterFunc(time.Minute, func() { other.CloseNow() }) // nobody pings
						synctest.Wait()
						n.plan(fault{kind, dir, at})
						began := time.Now()
						if closing.Write(t.Context(), MessageText, []byte("last")) != nil {
							closing.CloseNow()
						}
						err := closing.Close(StatusNormalClosure, "bye")
						if took := time.Since(began); took > answerTimeout+lingerTimeout+stallTimeout {
							t.Errorf("%d, %d: it took %v", dir, at, took)
						}
						if err == nil && dir == 0 && at < 10 {
							t.Errorf("%d, %d: Close returned nil", dir, at)
						}
						if err != nil && !errors.Is(err, ErrClosed) {
							t.Errorf("%d, %d: %v", dir, at, err)
						}
						end := <-ends
						stop.Stop()
						if e, ok := errors.AsType[*CloseError](end); !ok || e.Code != StatusNormalClosure && e.Code != StatusAbnormalClosure {
							t.Errorf("%d, %d: %v", dir, at, end)
						}
						eventually(t, "both ends to be closed", func() bool {
							return closing.State() == StateClosed && other.State() == StateClosed
						})
					}
				}
			})
		})
	}
}

// closePair returns the ends of a connection, without a handshake: a client and a server.
func closePair(t *testing.T, n *faultNet) (client, server *Conn) {
	t.Helper()
	n.plan(fault{})
	accepted := make(chan net.Conn, 1)
	go func() {
		nc, err := n.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- nc
	}()
	near, err := n.dial()
	if err != nil {
		t.Fatal(err)
	}
	return newConn(near, connConfig{client: true}), newConn(<-accepted, connConfig{})
}
