package atrium

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Flush waits until less than half of the bound is queued, for as long as its context lasts.
func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound = 100_000
		h := newHub(t, Options{Timeouts: Timeouts{PingInterval: time.Hour}, Limits: Limits{QueuedBytes: bound}})
		p := serve(t, overPipe, h).peer(t)
		s := p.arrive(h)
		synctest.Wait()
		if err := s.Flush(t.Context()); err != nil || s.Buffered() != 0 {
			t.Errorf("with nothing queued: %v, %d bytes", err, s.Buffered())
		}
		text := strings.Repeat("x", 10_000)
		n := 0
		for ; s.Buffered() < bound; n++ {
			s.Emit("e", text)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		if err := s.Flush(ctx); err != context.DeadlineExceeded || time.Since(start) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		flushed := make(chan error, 1)
		go func() { flushed <- s.Flush(context.Background()) }()
		for read := 0; ; read++ {
			synctest.Wait()
			if s.Buffered() < bound/2 {
				break
			}
			if len(flushed) > 0 {
				t.Errorf("Flush returned with %d bytes queued", s.Buffered())
			}
			p.want(opText, `{"event":"e","data":"`+text+`"}`)
		}
		if err := <-flushed; err != nil {
			t.Error(err)
		}
		// A flush is over when the socket is.
		for s.Buffered() < bound {
			s.Emit("e", text)
		}
		go func() { flushed <- s.Flush(context.Background()) }()
		synctest.Wait()
		p.nc.Close()
		if err := <-flushed; !errors.Is(err, ErrClosed) {
			t.Errorf("a flush under way: %v", err)
		}
		if err := s.Flush(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("a flush afterwards: %v", err)
		}
		synctest.Wait()
		if s.Buffered() != 0 {
			t.Errorf("%d bytes queued for nobody", s.Buffered())
		}
	})
}

// A sender that flushes between the pieces can send any amount to a client, however slow: it is
// never dropped.
func TestFlushBetweenPieces(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		const n = 300
		h := newHub(t, Options{Limits: Limits{QueuedBytes: 20_000}})
		text := strings.Repeat("x", 5000)
		h.Handle("go", func(e *Event) {
			for i := range n {
				if err := errors.Join(e.Socket().Flush(e.Socket().Context()), e.Socket().Emit("e", i, text)); err != nil {
					t.Error(err)
				}
			}
		})
		c := serve(t, k, h).connect(t, nil)
		c.send(`{"event":"go"}`)
		for i := range n {
			c.want(fmt.Sprintf(`{"event":"e","args":[%d,"%s"]}`, i, text))
		}
	})
}

func TestSocketContext(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		var early context.Context
		h.Use(func(s *Socket) error { early = s.Context(); return nil })
		left := make(chan *Socket, 1)
		h.OnDisconnect(func(s *Socket, _ Reason) { left <- s })
		// A handler that waits for the context is let go at once.
		h.Handle("wait", func(e *Event) { <-e.Socket().Context().Done() })
		c := serve(t, k, h).connect(t, nil)
		s := c.socket(h)
		if s.Context() != early || early.Err() != nil {
			t.Errorf("%v, then %v", early, s.Context())
		}
		eventually(t, "the event before to be over", func() bool { return s.inbox.waiting() == 0 })
		c.send(`{"event":"wait"}`)
		eventually(t, "the handler", func() bool { return s.inbox.waiting() == 1 })
		c.CloseNow()
		if within(t, left, "OnDisconnect") != s || early.Err() != context.Canceled {
			t.Errorf("the context: %v", early.Err())
		}
	})
}

// A context that is first asked for when the socket has gone has ended.
func TestSocketContextAfterwards(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	s := newMailbox(t, h)
	s.drop()
	if s.Context().Err() != context.Canceled {
		t.Error("it goes on")
	}
	if s.DisconnectAt(time.Now().Add(time.Hour)); scheduledTimers(h) != 0 {
		t.Error("a timer for nobody")
	}
}

// What was emitted before Disconnect arrives, what is emitted after it does not; the socket is in
// no room when it returns.
func TestDisconnect(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		h.OnConnect(func(s *Socket) { s.Join("room") })
		srv := serve(t, k, h)
		c, other := srv.connect(t, nil), srv.connect(t, nil)
		s := c.socket(h)
		other.settle()
		for i := range 100 {
			s.Emit("before", i)
		}
		s.Disconnect()
		for _, target := range []Target{s.alone(), h.To(s.ID()), h.To("room"), h.Local()} {
			target.Emit("after")
		}
		if n, _ := h.To("room").Count(t.Context()); n != 1 {
			t.Errorf("%d members", n)
		}
		for i := range 100 {
			c.want(fmt.Sprintf(`{"event":"before","data":%d}`, i))
		}
		c.wantClosed(StatusNormalClosure)
		other.want(`{"event":"after"}`)
		other.want(`{"event":"after"}`)
		other.settle()
	})
}

// A socket's functions run one at a time, in order, while others' run.
func TestOneAtATime(t *testing.T) {
	noLeaks(t)
	const n = 500
	h := newHub(t, Options{})
	type state struct {
		running atomic.Int32
		next    int
	}
	enter := func(s *Socket) *state {
		st, _ := Value[*state](s, "state")
		if st.running.Add(1) != 1 {
			t.Error("two functions of one socket run at a time")
		}
		return st
	}
	h.Use(func(s *Socket) error { s.Set("state", new(state)); return nil })
	h.OnConnect(func(s *Socket) { enter(s).running.Add(-1) })
	h.OnDisconnect(func(s *Socket, _ Reason) { enter(s).running.Add(-1) })
	OnCall(h, "e", func(s *Socket, i int) (int, error) {
		st := enter(s)
		defer st.running.Add(-1)
		if i != st.next {
			t.Errorf("event %d in place of %d", i, st.next)
		}
		st.next++
		return i, nil
	})
	srv := serve(t, overTCP, h)
	clients := []*client{srv.connect(t, nil), srv.connect(t, nil), srv.connect(t, nil)}
	for i := range n {
		for _, c := range clients {
			c.send(fmt.Sprintf(`{"event":"e","data":%d,"id":%d}`, i, i))
		}
	}
	for i := range n {
		for _, c := range clients {
			c.want(fmt.Sprintf(`{"id":%d,"data":%d}`, i, i))
		}
	}
}

// A client that is disconnected with a status and a reason learns both, whatever it speaks, behind
// all that was emitted to it before; the server is told the reason that it always was.
func TestDisconnectWith(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		left := make(chan Reason, 10)
		h.OnDisconnect(func(_ *Socket, why Reason) { left <- why })
		kick := func(s *Socket) {
			s.Emit("last")
			if err := s.DisconnectWith(4001, "banned"); err != nil {
				t.Error(err)
			}
			s.Emit("too late")
			if why := within(t, left, "OnDisconnect"); why != ReasonServerDisconnect {
				t.Error(why)
			}
		}
		srv := serve(t, k, h)

		plain := srv.connect(t, nil)
		kick(plain.socket(h))
		plain.want(`{"event":"last"}`)
		if e := wantClosed(t, plain.Conn, 4001); e.Reason != "banned" {
			t.Error(e)
		}

		io := srv.socketIO(t)
		io.join("")
		s := h.LocalSockets()[0]
		kick(s)
		io.want(`42["last"]`)
		io.want(`42["disconnect_reason",{"code":4001,"reason":"banned"}]`)
		io.want(`41`)
		io.join("") // the connection goes on, unless it is ended as well
		s = h.LocalSockets()[0]
		kick(s)
		s.DisconnectClient()
		io.want(`42["last"]`)
		io.want(`42["disconnect_reason",{"code":4001,"reason":"banned"}]`)
		io.want(`41`)
		io.wantClosed(StatusNormalClosure)
	})
}

// A client of the package learns it before OnDisconnect.
func TestDisconnectWithClient(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	h.OnConnect(func(s *Socket) { s.DisconnectWith(4001, "banned") })
	srv := serve(t, overTCP, h)
	c := srv.client(t, ClientOptions{})
	heard := make(chan any, 2)
	type why struct {
		Code   StatusCode
		Reason string
	}
	On(c, "disconnect_reason", func(_ *Client, w why) error { heard <- w; return nil })
	c.OnDisconnect(func(_ *Client, r Reason) { heard <- r })
	mustConnect(t, c)
	if got := within(t, heard, "the reason"); got != (why{4001, "banned"}) {
		t.Error(got)
	}
	if got := within(t, heard, "OnDisconnect"); got != ReasonServerDisconnect {
		t.Error(got)
	}
}

// In Use the reason is what the client is refused with.
func TestDisconnectWithInUse(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	h.Use(func(s *Socket) error { return s.DisconnectWith(4003, "full") })
	h.OnConnect(func(*Socket) { t.Error("it is connected") })
	srv := serve(t, overTCP, h)
	if e := wantClosed(t, srv.conn(t), 4003); e.Reason != "full" {
		t.Error(e)
	}
	io := srv.socketIO(t)
	io.send("40")
	io.want(`44{"message":"full","data":{"code":4003,"reason":"full"}}`)

	h.Of("/silent").Use(func(s *Socket) error { return s.DisconnectWith(4004, "") })
	io.send("40/silent")
	io.want(`44/silent,{"message":"server namespace disconnect","data":{"code":4004,"reason":""}}`)
}

// A code that may not stand in a close frame is refused, and nothing happens. A reason that is too
// long, or no UTF-8, is cut and mended for every client alike.
func TestDisconnectWithUnfit(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	srv := serve(t, overPipe, h)
	plain := srv.connect(t, nil)
	s := plain.socket(h)
	for _, code := range []StatusCode{0, 999, StatusNoStatusReceived, StatusAbnormalClosure, StatusTLSHandshake, 2000, 5000} {
		if err := errors.Join(s.DisconnectWith(code, ""), Target{ns: h.Namespace}.DisconnectWith(t.Context(), code, "")); !errors.Is(err, errCloseCode) {
			t.Errorf("%d: %v", code, err)
		}
	}
	plain.settle() // still there
	io := srv.socketIO(t)
	io.join("")
	long := strings.Repeat("€", 50)
	if err := h.Local().DisconnectWith(t.Context(), StatusPolicyViolation, "\xff"+long); err != nil {
		t.Fatal(err)
	}
	cut := "\uFFFD" + strings.Repeat("€", 40) // 123 bytes
	if e := wantClosed(t, plain.Conn, StatusPolicyViolation); e.Reason != cut {
		t.Error(e)
	}
	io.want(`42["disconnect_reason",{"code":1008,"reason":"` + cut + `"}]`)
	io.want("41")
}

// A target's sockets on other nodes learn it, too.
func TestClusterDisconnectWith(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		all := newTestCluster(t, k, 2, new(MemoryBus), Options{})
		var clients []*client
		for _, h := range all {
			c := h.connect(t, nil)
			c.socket(h.Hub).Join("room")
			clients = append(clients, c)
		}
		if err := all[0].To("room").DisconnectWith(t.Context(), 4001, "banned"); err != nil {
			t.Fatal(err)
		}
		for _, c := range clients {
			if e := wantClosed(t, c.Conn, 4001); e.Reason != "banned" {
				t.Error(e)
			}
		}
		again := all[1].connect(t, nil)
		if err := all[0].To(again.sid).Disconnect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if e := wantClosed(t, again.Conn, StatusNormalClosure); e.Reason != string(ReasonServerDisconnect) {
			t.Error(e)
		}
	})
}
