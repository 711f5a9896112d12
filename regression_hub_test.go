package atrium

import (
	"context"
	"math"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Bugs of the hub that were found once; each test is named after its bug.

// BUG 1. inbox.add appends behind items[head:] and the room before head is only reused when the inbox runs empty.
// A client that keeps at least one event waiting, which the pause rule makes easy (the reader resumes at half), makes
// the slice grow for ever: 80 bytes an event.
type idleOwner struct{ gate chan struct{} }

func (o idleOwner) handle(incoming) { <-o.gate }

func TestBugInboxGrowsWhileNeverEmpty(t *testing.T) {
	o := idleOwner{make(chan struct{})}
	b := &inbox{owner: o, reading: new(reading), maxCount: 4, maxBytes: 1 << 20}
	b.push(incoming{kind: incomingEvent})
	b.push(incoming{kind: incomingEvent})
	for range 10_000 {
		b.push(incoming{kind: incomingEvent})
		o.gate <- struct{}{}
	}
	b.mu.Lock()
	got := cap(b.items)
	b.mu.Unlock()
	o.gate <- struct{}{}
	o.gate <- struct{}{}
	if got > 64 {
		t.Errorf("an inbox bounded to 4 events keeps a slice for %d", got)
	}
}

// BUG 2. runtime.Goexit in a handler (t.FailNow in a test's handler is one) kills the whole program:
// inbox.run's deferred Unlock runs while the mutex is not held: "fatal error: sync: unlock of unlocked mutex".
func TestBugGoexitInHandler(t *testing.T) {
	if os.Getenv("GOEXIT") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=TestBugGoexitInHandler")
		cmd.Env = append(os.Environ(), "GOEXIT=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%.300s", err, out)
		}
		return
	}
	h := New(Options{})
	h.Handle("exit", func(*Event) { runtime.Goexit() })
	srv := serve(t, overPipe, h)
	a, b := srv.connect(t, nil), srv.connect(t, nil)
	b.settle()
	a.send(`{"event":"exit"}`)
	a.want(`{"event":"error","data":{"event":"exit","message":"internal error"}}`)
	a.wantClosed(StatusInternalError)
	b.settle()
	h.Shutdown(t.Context())
}

// BUG 3. A time that is more than 292 years away overflows: time.Until saturates at the largest Duration, and
// nanotime()+that is negative, so the socket is disconnected at once. 9999-12-31 as "never" is customary.
func TestBugDisconnectAtFarFuture(t *testing.T) { // not in a bubble: nanotime is negative there, and hides it
	h := newHub(t, Options{})
	h.OnConnect(func(s *Socket) { s.DisconnectAt(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)) })
	c := serve(t, overTCP, h).connect(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // the wheel's tick is up to 391 ms
	defer cancel()
	if _, _, err := c.Read(ctx); err != ctx.Err() {
		t.Error(err)
	}
}

// BUG 3b. The same with a CallTimeout of math.MaxInt64, "for ever": the call times out at once.
func TestBugEndlessCallTimeout(t *testing.T) {
	h := newHub(t, Options{CallTimeout: math.MaxInt64})
	done := make(chan error, 1)
	h.Handle("ask", func(e *Event) {
		go func() {
			_, err := Call[int](context.Background(), e.Socket(), "q")
			done <- err
		}()
	})
	c := serve(t, overTCP, h).connect(t, nil)
	c.send(`{"event":"ask"}`)
	c.want(`{"event":"q","id":0}`)
	select {
	case err := <-done:
		t.Error(err)
	case <-time.After(2 * time.Second):
		c.send(`{"id":0,"data":5}`)
		<-done
	}
}

// BUG 4. Errors about malformed messages are sent by the reader at once, also before the client is accepted: then the
// first message of the hub is not {"event":"connect"}, as DESIGN promises.
func TestBugErrorBeforeConnectMessage(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		h := newHub(t, Options{})
		gate := make(chan struct{})
		h.Use(func(s *Socket) error { <-gate; return nil })
		srv := serve(t, k, h)
		c := &client{srv.conn(t, "Sec-WebSocket-Protocol: atrium"), t, ""}
		c.send(`{"event":"connect"}`)
		c.send(`nonsense`)
		got := make(chan string, 1)
		go func() { got <- c.next() }()
		select {
		case m := <-got:
			close(gate)
			t.Errorf("before connect came %s", m)
			return
		case <-time.After(100 * time.Millisecond):
		}
		close(gate)
		if m := <-got; !strings.HasPrefix(m, `{"event":"connect"`) {
			t.Errorf("before connect came %s", m)
		}
	})
}

// BUG 5. Shutdown with a context that has ended, of a hub without clients, fails by chance: select takes either case.
func TestBugShutdownByChance(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 100 {
		if err := New(Options{}).Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// BUG 6. A session that ends before its serve begins (Shutdown between h.add and serve) leaves its timer on the wheel:
// end stops the timer, and serve then schedules it. It goes by itself after up to PingInterval, holding the Socket.
func TestBugTimerAfterEnd(t *testing.T) {
	h := New(Options{})
	near, far := net.Pipe()
	defer near.Close()
	s := h.newPlain(newConn(far, connConfig{readLimit: 1 << 16, maxQueued: 1 << 20}), &Handshake{}, context.Background())
	h.quota.take(nil)
	h.add(s.session, "")
	s.session.end(ReasonShutdown, StatusGoingAway, "")
	s.session.start()
	if n := scheduledTimers(h); n != 0 {
		t.Errorf("%d timers on the wheel", n)
	}
}

// BUG 7. A Target of one socket (s.Volatile()) still counts and lists that socket after it has left.
func TestBugOneSocketTargetAfterLeave(t *testing.T) {
	h := newHub(t, Options{})
	left := make(chan *Socket, 1)
	h.OnDisconnect(func(s *Socket, _ Reason) { left <- s })
	c := serve(t, overPipe, h).connect(t, nil)
	c.Close(StatusNormalClosure, "")
	s := <-left
	if n, err := s.Volatile().Count(t.Context()); n != 0 || err != nil {
		t.Errorf("Count: %d, %v", n, err)
	}
}

// BUG 8. To on a Target of one socket is ignored: s.Volatile().To("room") reaches s, not the room, as it would in Socket.IO (and
// as s.To("room").Volatile() does).
func TestBugVolatileThenTo(t *testing.T) {
	h := newHub(t, Options{})
	h.Handle("say", func(e *Event) { e.Socket().Volatile().To("room").Emit("said") })
	h.Handle("join", func(e *Event) { e.Socket().Join("room") })
	srv := serve(t, overPipe, h)
	a, b := srv.connect(t, nil), srv.connect(t, nil)
	b.send(`{"event":"join","id":1}`)
	b.want(`{"id":1}`)
	a.send(`{"event":"say","id":1}`)
	a.want(`{"id":1}`)
	b.want(`{"event":"said"}`)
}

// BUG 9. MaxQueued 1: half of it is 0, which nothing is below: Flush waits for ever on an empty queue.
func TestBugFlushWithTinyBound(t *testing.T) {
	h := newHub(t, Options{MaxQueued: 1})
	h.Handle("flush", func(e *Event) {
		ctx, cancel := context.WithTimeout(e.Socket().Context(), time.Second)
		defer cancel()
		e.Reply(e.Socket().Flush(ctx) == nil)
	})
	c := serve(t, overPipe, h).connect(t, nil)
	c.send(`{"event":"flush","id":1}`)
	c.want(`{"id":1,"data":true}`)
}

// A pong that came later than PingInterval, though well within PingTimeout, put the next ping off until the time-out.
func TestBugPingAfterALateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{PingInterval: 2 * time.Second, PingTimeout: 20 * time.Second})
		p := serve(t, overPipe, h).peer(t).accepted()
		p.want(OpPing, "")
		pinged := time.Now()
		<-time.After(3 * time.Second)
		p.send(p.frame(OpPong, ""))
		p.want(OpPing, "")
		wantAfter(t, h, "the next ping", pinged, 4*time.Second)
	})
}
