package atrium

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever ends a connection, the client comes back, with its handlers, and rejoins; but not if the
// server has put it out of its namespace.
func TestClientReconnects(t *testing.T) {
	noLeaks(t)
	overClientKinds(t, func(t *testing.T, k kind) {
		h := newHub(t, Options{})
		joined := newChannel[*Socket]()
		On(h, "join", func(s *Socket, room string) error { err := s.Join(room); joined <- s; return err })
		var dialed []net.Conn
		srv := serve(t, k, h)
		c := newClient(t, func() (net.Conn, error) {
			nc, err := k.dial(srv.listener)
			dialed = append(dialed, nc)
			return nc, err
		}, ClientOptions{})
		news := newChannel[int]()
		On(c, "news", func(_ *Client, n int) error { news <- n; return nil })
		left := reasons(c)
		c.OnConnect(func(*Client) {
			if err := c.Emit("join", "lobby"); err != nil {
				t.Error(err)
			}
		})
		mustConnect(t, c)
		seen := make(map[string]bool)
		for i, test := range []struct {
			end  func(s *Socket)
			want []Reason
		}{
			{func(s *Socket) { s.session.closeNow() }, []Reason{ReasonTransportClose, ReasonTransportError}},
			{func(s *Socket) { dialed[len(dialed)-1].Close() }, []Reason{ReasonTransportClose, ReasonTransportError}},
			{func(s *Socket) { s.session.end(ReasonShutdown, StatusGoingAway, "") }, []Reason{ReasonTransportClose}},
			{func(s *Socket) { s.session.sendText(append(newFrame(1), '1')) }, []Reason{ReasonTransportClose}},
			{func(s *Socket) { s.Disconnect() }, []Reason{ReasonServerDisconnect}},
		} {
			s := within(t, joined, "a join")
			if seen[s.ID()] || s.ID() != c.ID() {
				t.Errorf("%d: the id is %q, the client's %q, seen before: %v", i, s.ID(), c.ID(), seen[s.ID()])
			}
			seen[s.ID()] = true
			h.To("lobby").Emit("news", i)
			if got := within(t, news, "news"); got != i {
				t.Errorf("got news %d, want %d", got, i)
			}
			test.end(s)
			if why := within(t, left, "OnDisconnect"); !slices.Contains(test.want, why) {
				t.Errorf("%d: disconnected for %q, want %q", i, why, test.want)
			}
		}
		if c.State() != StateClosed {
			t.Errorf("after %q: %v", ReasonServerDisconnect, c.State())
		}
		// By hand it may come back.
		mustConnect(t, c)
		within(t, joined, "a join")
		if err := c.Connect(context.Background()); err == nil || errors.Is(err, ErrClosed) {
			t.Errorf("Connect while connected: got %v", err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if why := within(t, left, "OnDisconnect"); why != ReasonClientDisconnect {
			t.Errorf("after Close: disconnected for %q", why)
		}
	})
}

// With recovery, a client that was cut off goes on with its socket, and hears what it missed, once
// and in order, before OnConnect.
func TestClientRecovers(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{Recovery: Recovery{MaxDisconnection: time.Minute}})
	h.OnConnect(func(s *Socket) {
		if !s.Recovered() {
			s.Join("lobby")
			s.Emit("joined")
		}
	})
	srv := serve(t, overTCP, h)
	gate := make(chan struct{}, 1)
	gate <- struct{}{}
	c := newClient(t, func() (net.Conn, error) { <-gate; return dialTCP(srv.listener) }, ClientOptions{})
	heard := newChannel[string]()
	c.OnConnect(func(*Client) { heard <- fmt.Sprintf("connected, recovered: %v", c.Recovered()) })
	On(c, "joined", func(*Client, struct{}) error { heard <- "joined"; return nil })
	On(c, "news", func(_ *Client, n int) error { heard <- fmt.Sprint(n); return nil })
	c.Handle("bytes", func(e *Event) {
		var b []byte
		if err := e.Bind(&b); err != nil || len(e.Args()) != 1 {
			t.Errorf("bytes: %v, %s", err, e.Args())
		}
		heard <- string(b)
	})
	left := reasons(c)
	mustConnect(t, c)
	id := c.ID()
	want := func(all ...string) {
		t.Helper()
		for _, want := range all {
			if got := within(t, heard, want); got != want {
				t.Fatalf("heard %q, want %q", got, want)
			}
		}
	}
	want("connected, recovered: false", "joined")
	h.To("lobby").Emit("news", 0)
	want("0")
	for round := range 3 {
		s := h.Namespace.socket(c.ID())
		s.session.closeNow()
		within(t, left, "OnDisconnect")
		for n := range 10 {
			h.To("lobby").Emit("news", 10*round+n)
		}
		h.To("lobby").Emit("bytes", Binary("bytes"))
		gate <- struct{}{}
		for n := range 10 {
			want(fmt.Sprint(10*round + n))
		}
		want("bytes", "connected, recovered: true")
		if c.ID() != id {
			t.Errorf("the id has changed")
		}
	}
}

// An event over the client's own limit ends the connection. It is not asked for again: a client
// that recovered would get it at each return.
func TestClientDoesNotRecoverWhatIsTooBig(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{Recovery: Recovery{MaxDisconnection: time.Minute}})
	srv := serve(t, overTCP, h)
	c := newClient(t, func() (net.Conn, error) { return dialTCP(srv.listener) }, ClientOptions{Dial: DialOptions{MaxMessageBytes: 1000}})
	connected := newChannel[bool]()
	c.OnConnect(func(*Client) { connected <- c.Recovered() })
	heard := newChannel[int]()
	On(c, "news", func(_ *Client, n int) error { heard <- n; return nil })
	left := reasons(c)
	mustConnect(t, c)
	within(t, connected, "OnConnect")
	h.Emit("news", 1)
	within(t, heard, "the first event")
	h.Emit("news", strings.Repeat("x", 2000))
	h.Emit("news", 2)
	if why := within(t, left, "OnDisconnect"); why != ReasonMessageTooBig {
		t.Errorf("disconnected for %q", why)
	}
	if within(t, connected, "OnConnect") {
		t.Error("recovered, and was sent the same event again")
	}
	h.Emit("news", 3)
	if n := within(t, heard, "the next event"); n != 3 {
		t.Errorf("heard %d, want 3", n)
	}
}

// A server that refuses a client which comes back stops it.
func TestClientRefusedLater(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	var locked atomic.Bool
	h.Use(func(*Socket) error {
		if locked.Load() {
			return Errorf("banned")
		}
		return nil
	})
	sockets := newChannel[*Socket]()
	h.OnConnect(func(s *Socket) { sockets <- s })
	h.Handle("ignored", func(e *Event) { <-e.Socket().Context().Done() })
	c := serve(t, overTCP, h).client(t, ClientOptions{CallRetries: 9})
	refused := newChannel[error]()
	c.OnConnectError(func(_ *Client, err error) { refused <- err })
	mustConnect(t, c)
	failed := make(chan error, 1)
	go func() {
		_, err := Call[any](context.Background(), c, "ignored")
		failed <- err
	}()
	eventually(t, "the call was sent", func() bool { return c.sentCalls() == 1 })
	locked.Store(true)
	within(t, sockets, "a socket").session.closeNow()
	if err := within(t, refused, "OnConnectError"); err.Error() != "banned" {
		t.Errorf("OnConnectError heard %v", err)
	}
	if err := within(t, failed, "the call"); err != ErrDisconnected {
		t.Errorf("the call that was to be retried: %v", err)
	}
	if c.State() != StateClosed {
		t.Errorf("afterwards: %v", c.State())
	}
}

// A call that waits for its answer when the connection breaks fails; with CallRetries it is sent
// again, as it was.
func TestClientRetries(t *testing.T) {
	noLeaks(t)
	ask := func(c *Client, n int) <-chan error {
		result := make(chan error, 1)
		go func() {
			got, err := Call[int](context.Background(), c, "ask", n)
			if err == nil && got != n {
				err = fmt.Errorf("the answer to %d is %d", n, got)
			}
			result <- err
		}()
		return result
	}
	t.Run("none", func(t *testing.T) {
		f := newFakeServer(t, overTCP)
		c, s := f.connected(t, ClientOptions{})
		result := ask(c, 1)
		s.want(`420["ask",1]`)
		s.CloseNow()
		if err := within(t, result, "the call"); err != ErrDisconnected {
			t.Errorf("got %v", err)
		}
		s = f.welcome(t)
		later := ask(c, 2)
		s.want(`421["ask",2]`)
		s.send(`430[1]`) // to the one that has failed
		s.send(`431[2]`)
		if err := within(t, later, "the next"); err != nil {
			t.Error(err)
		}
	})
	t.Run("two", func(t *testing.T) {
		f := newFakeServer(t, overTCP)
		c, s := f.connected(t, ClientOptions{CallRetries: 2})
		var results []<-chan error
		for n := range 3 {
			results = append(results, ask(c, n))
			s.want(fmt.Sprintf(`42%d["ask",%d]`, n, n))
		}
		for range 2 {
			s.CloseNow()
			s = f.accept(t)
			eventually(t, "the end of the connection", func() bool { return c.State() != StateOpen })
			if err := c.Emit("behind"); err != nil { // what is new comes after what was sent before
				t.Error(err)
			}
			s.send(engineHello)
			s.want("40")
			s.send(letIn)
			for n := range 3 {
				s.want(fmt.Sprintf(`42%d["ask",%d]`, n, n))
			}
			s.want(`42["behind"]`)
		}
		s.send(`431[1]`)
		if err := within(t, results[1], "the call that was answered"); err != nil {
			t.Error(err)
		}
		s.CloseNow()
		for _, n := range []int{0, 2} {
			if err := within(t, results[n], "a call with no retry left"); err != ErrDisconnected {
				t.Errorf("got %v", err)
			}
		}
	})
}

// What waits for a connection is bounded, and sent in order; volatile events do not wait.
func TestClientOffline(t *testing.T) {
	noLeaks(t)
	f := newFakeServer(t, overTCP)
	one := &parcel{text: []byte(`42["e",1]`)}
	c := f.client(t, ClientOptions{MaxOfflineBytes: 3 * one.size()})
	for n := range 3 {
		if err := c.Volatile().Emit("lost"); err != nil {
			t.Error(err)
		}
		if err := c.Emit("e", n); err != nil {
			t.Error(err)
		}
	}
	if err := c.Emit("e", 3); !errors.Is(err, ErrBufferFull) {
		t.Errorf("got %v, want ErrBufferFull", err)
	}
	if _, err := Call[any](context.Background(), c, "e"); !errors.Is(err, ErrBufferFull) {
		t.Errorf("Call: got %v, want ErrBufferFull", err)
	}
	result := connecting(c)
	s := f.welcome(t)
	if err := within(t, result, "Connect"); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		s.want(fmt.Sprintf(`42["e",%d]`, n))
	}
	if err := c.Volatile().Emit("now"); err != nil {
		t.Error(err)
	}
	s.want(`42["now"]`)
	for i, wrong := range []error{c.Emit("connect"), c.Volatile().Emit("disconnect"), c.Emit("newListener")} {
		if !errors.Is(wrong, ErrReserved) {
			t.Errorf("%d: got %v, want ErrReserved", i, wrong)
		}
	}
	if err := c.Emit("e", func() {}); err == nil {
		t.Error("a function was encoded")
	}
}

// While connected, too, only so much waits: a server that does not read makes Emit fail, and not
// the memory grow.
func TestClientServerStalls(t *testing.T) {
	noLeaks(t)
	f := newFakeServer(t, overPipe)
	c, s := f.connected(t, ClientOptions{Dial: DialOptions{MaxQueuedBytes: 10_000}})
	text := strings.Repeat("x", 1000)
	sent := 0
	for ; sent < 100; sent++ {
		if err := c.Emit("e", sent, text); errors.Is(err, ErrBufferFull) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if sent < 5 || sent > 12 {
		t.Errorf("%d KB were taken", sent)
	}
	eventually(t, "the drainer waits", func() bool {
		out := &c.link.conn.out
		out.mu.Lock()
		defer out.mu.Unlock()
		return out.stalledFor(kernelWait)
	})
	if err := c.Volatile().Emit("volatile"); err != nil {
		t.Error(err)
	}
	for n := range sent {
		s.want(fmt.Sprintf(`42["e",%d,%q]`, n, text))
	}
	settleClient(s)
}

// A context that ends, ends Connect, at whatever it was.
func TestClientConnectContext(t *testing.T) {
	noLeaks(t)
	f := newFakeServer(t, overTCP)
	for _, says := range [][]string{nil, {engineHello}} {
		c := f.client(t, ClientOptions{})
		ctx, cancel := context.WithCancel(context.Background())
		result := make(chan error, 1)
		go func() { result <- c.Connect(ctx) }()
		s := f.accept(t)
		for _, m := range says {
			s.send(m)
			s.want("40")
		}
		cancel()
		if err := within(t, result, "Connect"); !errors.Is(err, context.Canceled) || c.State() != StateClosed {
			t.Errorf("%s: got %v, %v", says, err, c.State())
		}
		wantClosed(t, s.Conn, StatusAbnormalClosure)
		result = make(chan error, 1) // and it may be called again
		go func() { result <- c.Connect(context.Background()) }()
		f.welcome(t)
		if err := within(t, result, "Connect"); err != nil {
			t.Error(err)
		}
	}

	broken := errors.New("no network")
	attempts := newChannel[int]()
	c := newClient(t, func() (net.Conn, error) { attempts <- 1; return nil, broken }, ClientOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- c.Connect(ctx) }()
	for range 5 {
		within(t, attempts, "an attempt")
	}
	cancel()
	if err := within(t, result, "Connect"); !errors.Is(err, context.Canceled) || !errors.Is(err, broken) {
		t.Errorf("got %v, want the context's error and the last attempt's", err)
	}
}

// Close, at whatever the client was, leaves nothing behind.
func TestClientClose(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	h.Handle("ignored", func(e *Event) { <-e.Socket().Context().Done() })
	left := leavings(h)
	srv := serve(t, overTCP, h)

	t.Run("never connected", func(t *testing.T) {
		c := srv.client(t, ClientOptions{})
		waiting := make(chan error, 1)
		go func() {
			_, err := Call[any](context.Background(), c, "e")
			waiting <- err
		}()
		eventually(t, "the call waits", func() bool { return c.unsentParcels() == 1 })
		if err := c.Close(); err != nil || c.State() != StateClosed {
			t.Errorf("got %v, %v", err, c.State())
		}
		if err := within(t, waiting, "the call"); err != ErrClosed {
			t.Errorf("the call: %v", err)
		}
		_, err := Call[any](context.Background(), c, "e")
		for i, err := range []error{c.Close(), c.Connect(context.Background()), c.Emit("e"), c.Volatile().Emit("e"), err} {
			if err != ErrClosed {
				t.Errorf("%d, after Close: got %v", i, err)
			}
		}
	})
	t.Run("connected", func(t *testing.T) {
		var states []State
		var mu sync.Mutex
		c := srv.client(t, ClientOptions{CallRetries: 1})
		c.OnState(func(_ *Client, s State) {
			mu.Lock()
			defer mu.Unlock()
			states = append(states, s)
		})
		gone := reasons(c)
		mustConnect(t, c)
		waiting := make(chan error, 1)
		go func() {
			_, err := Call[any](context.Background(), c, "ignored")
			waiting <- err
		}()
		eventually(t, "the call was sent", func() bool { return c.sentCalls() == 1 })
		var all sync.WaitGroup
		var closed atomic.Int32
		for range 5 {
			all.Go(func() {
				if c.Close() == nil {
					closed.Add(1)
				}
			})
		}
		all.Wait()
		if closed.Load() != 1 {
			t.Errorf("%d calls of Close returned nil", closed.Load())
		}
		if err := within(t, waiting, "the call"); err != ErrClosed {
			t.Errorf("the call: %v", err)
		}
		wantReason(t, left, ReasonClientDisconnect)
		if why := within(t, gone, "OnDisconnect"); why != ReasonClientDisconnect {
			t.Errorf("disconnected for %q", why)
		}
		want := []State{StateConnecting, StateOpen, StateClosing, StateClosed}
		eventually(t, "the states", func() bool { mu.Lock(); defer mu.Unlock(); return len(states) >= len(want) })
		if !slices.Equal(states, want) {
			t.Errorf("states %v, want %v", states, want)
		}
	})
	t.Run("in a handler, with an inbox that is full", func(t *testing.T) {
		f := newFakeServer(t, overTCP)
		c, s := f.connected(t, ClientOptions{})
		enough, closed := make(chan struct{}), make(chan struct{})
		var once sync.Once
		c.Handle("e", func(*Event) {
			once.Do(func() {
				<-enough
				c.Close()
				close(closed)
			})
		})
		for range 2 * maxClientInboxEvents {
			s.send(`42["e"]`)
		}
		eventually(t, "the reader waits", func() bool { return c.reading.paused() })
		close(enough)
		within(t, closed, "Close")
	})
	t.Run("between two attempts", func(t *testing.T) {
		attempts := newChannel[int]()
		c := newClient(t, func() (net.Conn, error) { attempts <- 1; return nil, io.EOF }, ClientOptions{Backoff: Backoff{Min: time.Hour, Max: time.Hour}})
		result := connecting(c)
		within(t, attempts, "the attempt")
		if c.State() != StateConnecting {
			t.Errorf("meanwhile: %v", c.State())
		}
		c.Close()
		if err := within(t, result, "Connect"); err != ErrClosed {
			t.Errorf("Connect: %v", err)
		}
	})
	t.Run("in an attempt", func(t *testing.T) {
		f := newFakeServer(t, overTCP)
		c := f.client(t, ClientOptions{})
		result := connecting(c)
		s := f.accept(t)
		s.send(engineHello)
		s.want("40")
		c.Close()
		if err := within(t, result, "Connect"); err != ErrClosed {
			t.Errorf("Connect: %v", err)
		}
	})
	t.Run("while it reconnects", func(t *testing.T) {
		f := newFakeServer(t, overTCP)
		c, s := f.connected(t, ClientOptions{})
		s.CloseNow()
		f.accept(t)
		c.Close()
		if c.State() != StateClosed {
			t.Errorf("afterwards: %v", c.State())
		}
	})
}

// What was emitted before Close is sent.
func TestClientCloseSends(t *testing.T) {
	noLeaks(t)
	overClientKinds(t, func(t *testing.T, k kind) {
		h := newHub(t, Options{})
		got := newChannel[int]()
		On(h, "n", func(_ *Socket, n int) error { got <- n; return nil })
		c := serve(t, k, h).client(t, ClientOptions{})
		mustConnect(t, c)
		for n := range 100 {
			c.Emit("n", n)
		}
		c.Close()
		for want := range 100 {
			if n := within(t, got, "what was emitted"); n != want {
				t.Fatalf("got %d, want %d", n, want)
			}
		}
	})
}

// A handler that panics, or ends its goroutine, costs its own event the answer, and nobody anything
// else.
func TestClientPanics(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	sockets := newChannel[*Socket]()
	h.OnConnect(func(s *Socket) { sockets <- s })
	c := serve(t, overTCP, h).client(t, ClientOptions{})
	c.OnState(func(*Client, State) { panic("OnState") })
	c.OnConnect(func(*Client) { panic("OnConnect") })
	On(c, "panic", func(*Client, any) error { panic("On") })
	On(c, "exit", func(*Client, any) error { runtime.Goexit(); return nil })
	OnCall(c, "fine", func(*Client, any) (int, error) { return 1, nil })
	mustConnect(t, c)
	s := within(t, sockets, "the socket")
	for _, event := range []string{"panic", "exit"} {
		if _, err := Call[any](context.Background(), s, event); err == nil || err.Error() != "internal error" {
			t.Errorf("%s: got %v", event, err)
		}
	}
	if got := ask[int](t, s, "fine"); got != 1 || c.State() != StateOpen {
		t.Errorf("got %d, %v", got, c.State())
	}
}

// Registering what cannot be registered is a mistake that panics, as at the hub.
func TestClientHandlePanics(t *testing.T) {
	c := NewClient("http://example.com", ClientOptions{})
	c.Handle("once", func(*Event) {})
	for _, event := range []string{"once", "connect", "", strings.Repeat("x", 257), "\xff"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%.10q was registered", event)
				}
			}()
			On(c, event, func(*Client, int) error { return nil })
		}()
	}
}

// A server that sends faster than its events are handled waits, but not while a Call waits for an
// answer, which may stand behind them; and one that goes on and on is given up then.
func TestClientInboxBounds(t *testing.T) {
	noLeaks(t)
	for _, flood := range []bool{false, true} {
		f := newFakeServer(t, overTCP)
		release := make(chan struct{})
		handled := newChannel[int]()
		c, s := f.connected(t, ClientOptions{})
		left := reasons(c)
		On(c, "e", func(_ *Client, n int) error { <-release; handled <- n; return nil })
		events := maxClientInboxEvents + 100
		if flood {
			events = 3 * maxClientInboxEvents
		}
		for n := range events {
			s.send(fmt.Sprintf(`42["e",%d]`, n))
		}
		eventually(t, "the reader waits", func() bool { return c.reading.paused() })
		if n := c.inbox.waiting(); n > maxClientInboxEvents {
			t.Errorf("%d events wait", n)
		}
		ctx, cancel := context.WithCancel(context.Background())
		result := make(chan error, 1)
		go func() {
			_, err := Call[int](ctx, c, "ask")
			result <- err
		}()
		if !flood {
			s.want(`420["ask"]`)
			s.send(`430[7]`)
			err := within(t, result, "the call")
			close(release)
			cancel()
			if err != nil {
				t.Errorf("got %v", err)
			}
			for n := range events {
				if got := within(t, handled, "an event"); got != n {
					t.Fatalf("handled %d, want %d", got, n)
				}
			}
			continue
		}
		eventually(t, "given up", func() bool { return c.State() != StateOpen })
		close(release)
		cancel() // perhaps it waits for the next connection
		within(t, result, "the call")
		if why := within(t, left, "OnDisconnect"); why != ReasonTransportError {
			t.Errorf("disconnected for %q", why)
		}
		f.welcome(t)
	}
}

// Auth, if it is a function, is called before each attempt; its failure is the attempt's.
func TestClientAuthFunc(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	names := newChannel[int]()
	h.Use(func(s *Socket) error {
		var auth struct{ N int }
		defer func() { names <- auth.N }()
		return s.Handshake().Bind(&auth)
	})
	n := 0
	broken := errors.New("no token")
	c := serve(t, overTCP, h).client(t, ClientOptions{AuthFunc: func(ctx context.Context) (any, error) {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("its context has no deadline")
		}
		switch n++; n {
		case 1:
			return nil, broken
		case 2:
			panic("no token")
		case 3:
			return "no object", nil
		}
		return map[string]int{"n": n}, nil
	}})
	failed := newChannel[error]()
	c.OnConnectError(func(_ *Client, err error) { failed <- err })
	mustConnect(t, c)
	if got := within(t, names, "a client"); got != 4 {
		t.Errorf("the auth is number %d", got)
	}
	for i, want := range []string{"no token", "it panicked", "expected what JSON makes an object of, got string"} {
		if err := within(t, failed, "OnConnectError"); !strings.Contains(err.Error(), want) || i == 0 && !errors.Is(err, broken) {
			t.Errorf("attempt %d: got %v, want %q", i, err, want)
		}
	}
	h.Namespace.socket(c.ID()).session.closeNow()
	if got := within(t, names, "a client"); got != 5 {
		t.Errorf("the auth is number %d", got)
	}
}

// A handler may call Connect, however much waits for it.
func TestClientConnectInHandler(t *testing.T) {
	noLeaks(t)
	f := newFakeServer(t, overTCP)
	result := make(chan error, 1)
	c, s := f.connected(t, ClientOptions{})
	c.OnState(func(*Client, State) {})
	block := make(chan struct{})
	c.Handle("block", func(*Event) {
		<-block
		result <- c.Connect(context.Background())
	})
	s.send(`42["block"]`)
	for range maxClientInboxEvents - 2 {
		s.send(`42["e"]`)
	}
	s.send("41")
	eventually(t, "put out", func() bool { return c.State() == StateClosed && c.inbox.waiting() >= maxClientInboxEvents-1 })
	close(block)
	f.welcome(t)
	if err := within(t, result, "Connect"); err != nil {
		t.Error(err)
	}
}

// --- By the clock ---

// The schedule of attempts, to the instant: immediately, then as the Backoff says, from the
// beginning again only if a connection has lasted.
func TestClientSchedule(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		var down atomic.Bool
		var mu sync.Mutex
		var at []time.Duration
		start := time.Now()
		c := newClient(t, func() (net.Conn, error) {
			mu.Lock()
			at = append(at, time.Since(start))
			mu.Unlock()
			if down.Load() {
				return nil, io.EOF
			}
			return srv.kind.dial(srv.listener)
		}, ClientOptions{Backoff: Backoff{Min: time.Second, Max: 5 * time.Second, NoJitter: true}})
		wantAt := func(what string, want ...time.Duration) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(at, want) {
				t.Errorf("%s: attempts after %v, want %v", what, at, want)
			}
			at, start = nil, time.Now()
		}
		down.Store(true)
		result := connecting(c)
		time.Sleep(13 * time.Second)
		down.Store(false)
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		wantAt("at first", 0, 1*time.Second, 3*time.Second, 7*time.Second, 12*time.Second, 17*time.Second)

		cut := func() {
			h.Namespace.socket(c.ID()).session.closeNow()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			start = time.Now()
		}
		cut() // at once: it does not count as a connection
		time.Sleep(6 * time.Second)
		wantAt("after a connection that did not last", 5*time.Second)
		time.Sleep(5 * time.Second)
		cut()
		time.Sleep(2 * time.Second)
		wantAt("after one that did", time.Second)
		cut()
		time.Sleep(3 * time.Second)
		wantAt("again", 2*time.Second)
	})
}

// What a server asks for with Retry-After comes before the delay of the Backoff, and is bounded. A
// refusal that is final ends the attempts of a client that was connected before, too.
func TestClientRetryAfter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		answers := make(chan http.Handler, 10)
		start := time.Now()
		var at []time.Duration // one attempt at a time
		srv := serve(t, overPipe, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			at = append(at, time.Since(start))
			(<-answers).ServeHTTP(w, r)
		}))
		busy := func(status int, after string) {
			answers <- http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", after)
				w.WriteHeader(status)
			})
		}
		busy(503, "7")
		busy(429, time.Now().UTC().Add(108*time.Second).Format(http.TimeFormat)) // a date: after 8 s it is 100 s away
		busy(503, "99999999999999999999")                                        // no number that anybody means
		busy(503, "999999999")
		busy(200, "soon")
		answers <- h
		c := srv.client(t, ClientOptions{Backoff: Backoff{Min: time.Second, Max: time.Second, NoJitter: true}})
		if err := c.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []time.Duration{0, 8 * time.Second, 109 * time.Second, 110 * time.Second, time.Hour + 111*time.Second, time.Hour + 112*time.Second}
		if !slices.Equal(at, want) {
			t.Errorf("attempts after %v, want %v", at, want)
		}

		errs := newChannel[error]()
		c.OnConnectError(func(_ *Client, err error) { errs <- err })
		busy(401, "1")
		h.Namespace.socket(c.ID()).session.closeNow()
		refused, ok := (<-errs).(*Error)
		if !ok || refused.Status != 401 || c.State() != StateClosed {
			t.Errorf("%v, with status %v", c.State(), refused)
		}
	})
}

// Attempts that hang take Timeout each, and a bounded number of attempts ends.
func TestClientAttempts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newClient(t, func() (net.Conn, error) { near, _ := net.Pipe(); return near, nil },
			ClientOptions{MaxAttempts: 3, Backoff: Backoff{Min: time.Second, NoJitter: true}})
		start := time.Now()
		err := c.Connect(context.Background())
		if took := time.Since(start); !errors.Is(err, ErrTimeout) || took != 63*time.Second { // 3 of 20 s, 1 and 2 between
			t.Errorf("after %v: %v", took, err)
		}

		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		start = time.Now()
		err = c.Connect(ctx)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrTimeout) || took != 30*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// Calls take as long as they may.
func TestClientCallTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFakeServer(t, overPipe)
		c, s := f.connected(t, ClientOptions{})
		go func() {
			for {
				if _, _, err := s.Read(context.Background()); err != nil {
					return
				}
			}
		}()
		start := time.Now()
		if _, err := Call[any](context.Background(), c, "ask"); err != ErrTimeout || time.Since(start) != 10*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		start = time.Now()
		_, err := Call[any](ctx, c, "ask")
		if !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 20*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if _, err := Call[any](ctx, c, "ask"); !errors.Is(err, ErrTimeout) {
			t.Errorf("with a context that has ended: %v", err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.queue.calls != nil {
			t.Errorf("%d calls are left", len(c.queue.calls))
		}
	})
}

// A server that sends nothing for its ping interval and its ping time-out is gone; pings are
// answered, and anything is a sign of life.
func TestClientHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFakeServer(t, overPipe)
		c, s := f.connected(t, ClientOptions{})
		left := reasons(c)
		lived := func(d time.Duration) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if c.State() != StateOpen {
				t.Fatalf("%v after %v", c.State(), d)
			}
		}
		for range 3 {
			lived(44 * time.Second)
			s.send("2")
			s.want("3")
			lived(44 * time.Second)
			s.send("6")
		}
		// A message that takes its time is life, too.
		part := make([]byte, 1000)
		text := prependHeader(append(newFrame(0), `42["big","`+strings.Repeat("x", 5*len(part))+`"]`...), frameHeader{Fin: true, Opcode: opText})
		for len(text) > 0 {
			lived(30 * time.Second)
			n, err := s.nc.Write(text[:min(len(part), len(text))])
			if err != nil {
				t.Fatal(err)
			}
			text = text[n:]
		}
		start := time.Now()
		if why := <-left; why != ReasonPingTimeout || time.Since(start) != 45*time.Second {
			t.Errorf("after %v: %q", time.Since(start), why)
		}
	})
}

// A client that does not read does not blame the server for silence.
func TestClientHeartbeatWhilePaused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFakeServer(t, overPipe)
		release := make(chan struct{})
		c, s := f.connected(t, ClientOptions{})
		c.Handle("e", func(*Event) { <-release })
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for range maxClientInboxEvents + 10 {
				s.send(`42["e"]`)
			}
		}()
		time.Sleep(time.Hour)
		if c.State() != StateOpen {
			t.Errorf("%v", c.State())
		}
		close(release)
		<-sent
		settleClient(s)
		if c.State() != StateOpen {
			t.Errorf("%v", c.State())
		}
	})
}

// A server that goes while the client does not read is noticed by writing: what is emitted then
// waits for the next connection, and is not lost with the one that ended.
func TestClientHeartbeatWritesWhilePaused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFakeServer(t, overPipe)
		c, s := f.connected(t, ClientOptions{})
		left := reasons(c)
		release := make(chan struct{})
		c.Handle("e", func(*Event) { <-release })
		for range maxClientInboxEvents + 1 {
			s.send(`42["e"]`)
		}
		synctest.Wait()
		if !c.reading.paused() {
			t.Fatal("the client reads")
		}
		s.nc.Close()
		<-time.After(time.Minute)
		if err := c.Emit("late"); err != nil || c.unsentParcels() != 1 {
			t.Errorf("Emit: %v, %d events wait", err, c.unsentParcels())
		}
		close(release)
		f.welcome(t).want(`42["late"]`)
		if why := <-left; why != ReasonTransportError {
			t.Errorf("disconnected for %q", why)
		}
	})
}

// A laptop that sleeps: nothing comes, time jumps. If timers ran on, the client has noticed; if
// they stood still with everything else, the wall clock is a reason to ask the server, as
// TestClientProbes shows. What is emitted is not lost but sent when the client is connected again.
func TestClientSleeps(t *testing.T) {
	t.Run("timers go on", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			h := newHub(t, Options{Recovery: Recovery{MaxDisconnection: 24 * time.Hour}})
			got := newChannel[string]()
			On(h, "e", func(_ *Socket, text string) error { got <- text; return nil })
			srv := serve(t, overPipe, h)
			var network blackHole
			c := newClient(t, func() (net.Conn, error) { return network.dial(srv) }, ClientOptions{})
			left := reasons(c)
			mustConnect(t, c)
			id := c.ID()
			network.asleep.Store(true)
			time.Sleep(8 * time.Hour)
			if why := <-left; why != ReasonPingTimeout {
				t.Errorf("disconnected for %q", why)
			}
			if c.State() != StateConnecting {
				t.Errorf("asleep: %v", c.State())
			}
			if err := c.Emit("e", "good morning"); err != nil {
				t.Error(err)
			}
			network.asleep.Store(false)
			if text := <-got; text != "good morning" {
				t.Errorf("got %q", text)
			}
			if !c.Recovered() || c.ID() != id {
				t.Errorf("recovered: %v", c.Recovered())
			}
			c.Close()
		})
	})
}

// After a sleep through which no timer ran the server is asked whether it is still there. A clock
// that was set forward looks the same, and ends no connection; one that was set back hides no dead
// server.
func TestClientProbes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFakeServer(t, overPipe)
		c, s := f.connected(t, ClientOptions{Backoff: Backoff{Min: time.Second, NoJitter: true}})
		left := reasons(c)
		forward := func(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.link.heartbeat.lookedWall -= int64(d) }
		reading, stop := context.WithCancel(t.Context())
		read := make(chan struct{})
		go func() {
			defer close(read)
			s.Read(reading) // it answers pings
		}()
		for _, jump := range []time.Duration{20 * time.Second, time.Hour, -time.Hour} {
			forward(jump)
			time.Sleep(lookInterval + probeTimeout + time.Second)
			if c.State() != StateOpen {
				t.Fatalf("%v after the clock was set by %v", c.State(), jump)
			}
			s.send("6") // heartbeats go on
		}
		stop()
		<-read

		forward(20 * time.Second) // and nobody answers
		start := time.Now()
		if why := <-left; why != ReasonPingTimeout || time.Since(start) > lookInterval+probeTimeout {
			t.Errorf("after %v: %q", time.Since(start), why)
		}

		s = f.welcome(t)
		synctest.Wait()
		forward(20 * time.Second)
		start = time.Now()
		if err := c.Emit("e", "good morning"); err != nil { // who sends looks at once
			t.Error(err)
		}
		if why := <-left; why != ReasonPingTimeout || time.Since(start) != probeTimeout {
			t.Errorf("after %v: %q", time.Since(start), why)
		}

		f.welcome(t)
		synctest.Wait()
		forward(-time.Hour)
		start = time.Now()
		if why := <-left; why != ReasonPingTimeout || time.Since(start) != 45*time.Second {
			t.Errorf("after %v: %q", time.Since(start), why)
		}
	})
}

// blackHole is a network that can stop to carry anything, without a word.
type blackHole struct{ asleep atomic.Bool }

func (b *blackHole) dial(srv *server) (net.Conn, error) {
	near, far := net.Pipe()
	server, err := srv.kind.dial(srv.listener)
	if err != nil {
		return nil, err
	}
	carry := func(to, from net.Conn) {
		defer func() {
			if !b.asleep.Load() {
				to.Close()
			}
		}()
		buffer := make([]byte, 4096)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			if b.asleep.Load() {
				continue
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	go carry(far, server)
	go carry(server, far)
	return near, nil
}

// Many clients whose server restarts come back spread over the window, not in one instant.
func TestClientsSpread(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const clients = 200
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		var mu sync.Mutex
		var at []time.Duration
		var start time.Time
		for i := range clients {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			c := newClient(t, func() (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				at = append(at, time.Since(start))
				return srv.kind.dial(srv.listener)
			}, ClientOptions{Backoff: Backoff{Min: time.Second, Rand: random.Float64}})
			mustConnect(t, c)
		}
		mu.Lock()
		at, start = nil, time.Now()
		mu.Unlock()
		for _, s := range h.list() {
			s.closeNow()
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n, err := h.Count(context.Background()); n != clients || err != nil {
			t.Errorf("%d clients are back, %v", n, err)
		}
		mu.Lock()
		defer mu.Unlock()
		var tenths [10]int
		for _, d := range at {
			if d < 500*time.Millisecond || d >= 1500*time.Millisecond {
				t.Errorf("an attempt after %v", d)
				continue
			}
			tenths[(d-500*time.Millisecond)/(100*time.Millisecond)]++
		}
		if slices.Max(tenths[:]) > clients/4 || slices.Min(tenths[:]) == 0 {
			t.Errorf("in each tenth of the window: %v", tenths)
		}
	})
}

// The log says which of a client's functions it was that panicked.
func TestClientLogNamesFunction(t *testing.T) {
	noLeaks(t)
	logger, log := newLog()
	h := newHub(t, Options{})
	h.OnConnect(func(s *Socket) { s.Emit("e") })
	c := serve(t, overTCP, h).client(t, ClientOptions{Logger: logger})
	c.OnState(func(*Client, State) { panic("oops") })
	c.OnConnect(func(*Client) { panic("oops") })
	c.OnDisconnect(func(*Client, Reason) { panic("oops") })
	c.Handle("e", func(*Event) { panic("oops") })
	mustConnect(t, c)
	eventually(t, "the event", func() bool { return strings.Contains(log.String(), "event=e") })
	c.Close()
	for _, want := range []string{"function=OnConnect ", "function=OnDisconnect ", "function=OnState "} {
		eventually(t, want, func() bool { return strings.Contains(log.String(), want) })
	}
}

// A client whose server restarts has not failed: it comes back after a quarter of the first delay,
// and the delays after that begin with the first. Before the server has let it in, and with any
// other status, it waits as ever.
func TestClientComesBackAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeServer(t, overPipe)
		var dialed []time.Time
		refuse := 0
		c := newClient(t, func() (net.Conn, error) {
			dialed = append(dialed, time.Now())
			if refuse > 0 {
				refuse--
				return nil, errors.New("refused")
			}
			return f.kind.dial(f.listener)
		}, ClientOptions{Backoff: Backoff{Min: time.Second, Max: 5 * time.Second, NoJitter: true}})
		left := reasons(c)
		connected := connecting(c)
		s := f.accept(t)
		s.send(engineHello)
		s.want("40")
		s.Close(StatusServiceRestart, "")
		s = f.welcome(t)
		if err := <-connected; err != nil {
			t.Fatal(err)
		}
		for _, end := range []struct {
			code    StatusCode
			refused int // attempts that fail before the next connection
		}{{StatusServiceRestart, 2}, {StatusGoingAway, 0}, {StatusServiceRestart, 0}} {
			<-time.After(10 * time.Second) // so that the delays begin anew
			refuse = end.refused
			dialed = append(dialed, time.Now())
			s.Close(end.code, "")
			wantReason(t, left, ReasonTransportClose)
			s = f.welcome(t)
		}
		var delays []time.Duration
		for i := range dialed[1:] {
			delays = append(delays, dialed[i+1].Sub(dialed[i]))
		}
		quarter := 250 * time.Millisecond
		if want := []time.Duration{
			time.Second, 10 * time.Second,
			quarter, time.Second, 2 * time.Second, 10 * time.Second,
			time.Second, 10 * time.Second,
			quarter,
		}; !slices.Equal(delays, want) {
			t.Errorf("got  %v\nwant %v", delays, want)
		}
	})
}

// A server that restarts at each connect is one that fails: the delays grow.
func TestClientIsSentAwayByEachServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeServer(t, overPipe)
		c, s := f.connected(t, ClientOptions{Backoff: Backoff{Min: time.Second, Max: 5 * time.Second, NoJitter: true}})
		left := reasons(c)
		var delays []time.Duration
		for _, lasts := range []time.Duration{0, time.Second - 1, 0, time.Second, 0} {
			<-time.After(lasts)
			ended := time.Now()
			s.Close(StatusServiceRestart, "")
			wantReason(t, left, ReasonTransportClose)
			s = f.welcome(t)
			delays = append(delays, time.Since(ended))
		}
		if want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, time.Second / 4, 5 * time.Second}; !slices.Equal(delays, want) {
			t.Errorf("got  %v\nwant %v", delays, want)
		}
	})
}

// What proxies answer while a server behind them starts or ends, or is busy, ends no Client.
func TestClientTriesAgain(t *testing.T) {
	noLeaks(t)
	statuses := []int{400, 404, 408, 421, 425, 429, 500, 502, 503}
	h := newHub(t, Options{})
	var tried atomic.Int32
	c := serve(t, overTCP, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(tried.Add(1)) - 1
		if n == len(statuses) {
			h.ServeHTTP(w, r)
			return
		}
		http.Error(w, `{"code":1,"message":"Session ID unknown"}`, statuses[n])
	})).client(t, ClientOptions{})
	errs := newChannel[error]()
	c.OnConnectError(func(_ *Client, err error) { errs <- err })
	mustConnect(t, c)
	for _, status := range statuses {
		e, ok := errors.AsType[*HandshakeError](within(t, errs, "OnConnectError"))
		if !ok || e.Response.StatusCode != status {
			t.Errorf("got %v, want a status of %d", e, status)
		}
	}
}

// What a client has missed may take longer to come than an attempt may take: that goes on while
// something comes, for ten times as long at most. A client that is new has no such time.
func TestClientAwaitsWhatItMissed(t *testing.T) {
	const timeout = 20 * time.Second // the default
	const hello = `40{"sid":"socket","pid":"pid"}`
	slow := encodeFrame(frameHeader{Fin: true, Opcode: opText, Length: 300}, `42["slow","`+strings.Repeat("x", 287)+`"]`)
	for _, test := range []struct {
		name   string
		known  bool
		pieces [][]byte // of what comes, before the client is let in
		pause  time.Duration
		want   time.Duration // how long the attempt lasts
		lets   bool          // the client is let in
	}{
		{"nothing", true, nil, 0, timeout, false},
		{"one slow event", true, slices.Collect(slices.Chunk(slow, 31)), 15 * time.Second, 150 * time.Second, true},
		{"a new client", false, slices.Collect(slices.Chunk(slow, 31)), 15 * time.Second, timeout, false},
		{"a replay that stops", true, slices.Collect(slices.Chunk(slow[:93], 31)), time.Second, 2 * timeout, false},
		{"a replay without an end", true, slices.Collect(slices.Chunk(slow, 1)), 2 * time.Second, (maxReplayTimeouts + 1) * timeout, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeServer(t, overPipe)
				c := f.client(t, ClientOptions{Backoff: Backoff{Min: time.Second, NoJitter: true}, MaxAttempts: 1})
				if test.known {
					connected := connecting(c)
					s := f.accept(t)
					s.send(engineHello)
					s.want("40")
					s.send(hello)
					if err := <-connected; err != nil {
						t.Fatal(err)
					}
					<-time.After(5 * time.Second)
					s.Close(StatusNormalClosure, "")
				}
				came, failed := newChannel[bool](), newChannel[error]()
				c.OnConnect(func(*Client) { came <- true })
				c.OnConnectError(func(_ *Client, err error) { failed <- err })
				if !test.known {
					connecting(c)
				}
				s := f.accept(t)
				start := time.Now()
				s.send(engineHello)
				s.next()
				var server sync.WaitGroup
				server.Go(func() {
					for _, piece := range test.pieces {
						if _, err := s.nc.Write(piece); err != nil {
							return
						}
						<-time.After(test.pause)
					}
					if test.lets {
						_ = s.Write(t.Context(), MessageText, []byte(hello))
					}
				})
				select {
				case <-came:
				case err := <-failed:
					if test.lets || !errors.Is(err, ErrTimeout) {
						t.Error(err)
					}
				}
				if lasted := time.Since(start); lasted != test.want {
					t.Errorf("the attempt has taken %v", lasted)
				}
				s.CloseNow()
				server.Wait()
			})
		})
	}
}
