package atrium

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What the hub once got wrong and must not get wrong again. Each test is named after what it
// guards.

// gatedOwner handles a thing when it is let.
type gatedOwner struct {
	gate chan struct{}
}

func (o gatedOwner) handle(incoming, handling) { <-o.gate }
func (o gatedOwner) emptied()                  {}

// An inbox that never runs empty, as that of a client which the reader resumes at half, does not
// grow.
func TestInboxNeverEmptyDoesNotGrow(t *testing.T) {
	o := gatedOwner{gate: make(chan struct{})}
	b := &queue[incoming]{handler: o, reading: new(reading), maxCount: 4, maxBytes: 1 << 20}
	b.push(incoming{kind: incomingEvent})
	b.push(incoming{kind: incomingEvent})
	for range 10_000 {
		b.push(incoming{kind: incomingEvent})
		o.gate <- struct{}{}
	}
	b.mu.Lock()
	got := cap(b.items.items)
	b.mu.Unlock()
	o.gate <- struct{}{}
	o.gate <- struct{}{}
	if got > 64 {
		t.Errorf("an inbox bounded to 4 events keeps a slice for %d", got)
	}
}

// runtime.Goexit in a handler, which t.FailNow is, costs that client and not the program. It runs
// in a process of its own, because the alternative ends the process.
func TestGoexitInHandler(t *testing.T) {
	if os.Getenv("GOEXIT") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestGoexitInHandler$")
		cmd.Env = append(os.Environ(), "GOEXIT=1", "GORACE=atexit_sleep_ms=0")
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
	b.CloseNow()
	h.Shutdown(t.Context())
}

// fineClock makes the hub's clock tick every 20 ms.
var fineClock = Options{Timeouts: Timeouts{Message: 320 * time.Millisecond}}

// passTicks returns when the hub's clock has ticked twice since the call, so that what was due
// before has happened: a client is disconnected that was to be at the next tick, and then another.
func passTicks(t *testing.T, h *Hub, srv *server) {
	t.Helper()
	for range 2 {
		c := srv.connect(t, nil)
		c.socket(h).DisconnectAt(time.Now().Add(time.Millisecond))
		if _, _, err := c.Read(limited(t)); !errors.Is(err, ErrClosed) {
			t.Fatalf("Read: %v, want %v", err, ErrClosed)
		}
	}
}

// A time that is more than 292 years away, as 9999-12-31 for "never", does not overflow into the
// past.
func TestDisconnectAtFarFuture(t *testing.T) { // not in a bubble: nanotime is negative there, and hides it
	h := newHub(t, fineClock)
	srv := serve(t, overTCP, h)
	c := srv.connect(t, nil)
	c.socket(h).DisconnectAt(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC))
	passTicks(t, h, srv)
	c.settle()
}

// Nor does a Timeouts.Call of math.MaxInt64, for ever.
func TestEndlessCallTimeout(t *testing.T) {
	options := fineClock
	options.Timeouts.Call = math.MaxInt64
	h := newHub(t, options)
	done := make(chan error, 1)
	h.Handle("ask", func(e *Event) {
		go func() {
			_, err := Call[int](context.Background(), e.Socket(), "q")
			done <- err
		}()
	})
	srv := serve(t, overTCP, h)
	c := srv.connect(t, nil)
	c.send(`{"event":"ask"}`)
	c.want(`{"event":"q","id":0}`)
	passTicks(t, h, srv)
	c.send(`{"id":0,"data":5}`)
	if err := within(t, done, "the answer"); err != nil {
		t.Error(err)
	}
}

// The hub's first message is {"event":"connect"}, also to a client that has pipelined something
// malformed behind its own.
func TestConnectPrecedesErrors(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		h := newHub(t, Options{})
		gate := make(chan struct{})
		h.Use(func(s *Socket) error { <-gate; return nil })
		open := sync.OnceFunc(func() { close(gate) })
		t.Cleanup(open)
		p := serve(t, k, h).peer(t, "Sec-WebSocket-Protocol: atrium")
		p.send(p.frame(opText, `{"event":"connect"}`), p.frame(opText, "nonsense"), p.frame(opPing, "all is read"))
		p.want(opPong, "all is read")
		open()
		p.accepted()
		if _, m := p.next(); !strings.HasPrefix(m, `{"event":"error"`) {
			t.Errorf("behind connect came %s", m)
		}
	})
}

// Shutdown of a hub without clients succeeds, even with a context that has ended: it is not for
// select to choose.
func TestShutdownOfNobody(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 100 {
		if err := New(Options{}).Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// A session that ends before it starts, as by a Shutdown between the two, leaves no timer on the
// wheel, which would hold the Socket for a PingInterval.
func TestEndBeforeStartLeavesNoTimer(t *testing.T) {
	h := New(Options{})
	near, far := net.Pipe()
	defer near.Close()
	s := h.newPlain(newConn(far, connConfig{readLimit: 1 << 16, maxQueued: 1 << 20}), &Handshake{}, context.Background())
	h.quota.acquire("")
	h.add(s.session, "")
	s.session.end(ReasonShutdown, StatusGoingAway, "")
	s.session.start()
	if n := scheduledTimers(h); n != 0 {
		t.Errorf("%d timers on the wheel", n)
	}
}

// A Target of one socket, such as s.Volatile(), is a target of nobody when that has left.
func TestOneSocketTargetAfterLeave(t *testing.T) {
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

// s.Volatile().To("room") is s.To("room").Volatile(): the room without s.
func TestVolatileThenTo(t *testing.T) {
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

// Flush of an empty queue returns also with a limit of 1, half of which is 0, which nothing is
// below.
func TestFlushWithTinyBound(t *testing.T) {
	h := newHub(t, Options{Limits: Limits{QueuedBytes: 1}})
	h.Handle("flush", func(e *Event) {
		ctx, cancel := context.WithTimeout(e.Socket().Context(), 10*time.Second)
		defer cancel()
		e.Reply(e.Socket().Flush(ctx) == nil)
	})
	c := serve(t, overPipe, h).connect(t, nil)
	c.send(`{"event":"flush","id":1}`)
	c.want(`{"id":1,"data":true}`)
}

// A pong that comes later than PingInterval, though within Timeouts.Ping, does not put off the next
// ping.
func TestPingAfterALateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{Timeouts: Timeouts{PingInterval: 2 * time.Second, Ping: 20 * time.Second}})
		p := serve(t, overPipe, h).peer(t).accepted()
		p.want(opPing, "")
		pinged := time.Now()
		<-time.After(3 * time.Second)
		p.send(p.frame(opPong, ""))
		p.want(opPing, "")
		wantAfter(t, h, "the next ping", pinged, 4*time.Second)
	})
}

// A client that is disconnected from all its namespaces at once may still send to each of them
// before it knows.
func TestDisconnectedFromManyMayCross(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	h.OfFunc(func(string) bool { return true })
	c := serve(t, overTCP, h).socketIO(t)
	c.join("")
	name := func(i int) string { return fmt.Sprintf("/n%d", i) }
	const many = maxSockets / 2
	for i := range many {
		id := c.join(name(i))
		h.mu.Lock()
		n := h.namespaces[name(i)]
		h.mu.Unlock()
		n.socket(id).Disconnect()
		c.want("41" + name(i) + ",")
	}
	for i := range many {
		c.send("42" + name(i) + `,["crossing"]`)
	}
	c.send(`420["unknown"]`)
	c.want(`430[{"error":{"message":"event: \"unknown\" is not one that this server knows"}}]`)
}

// The time-out of a ping that waits in the queue for the end of a long frame begins anew while the
// network takes bytes before it: a client that reads slowly but steadily, a megabyte at 16 KB a
// second, is not disconnected.
func TestPingTimeoutWaitsForWhatPrecedesThePing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{Timeouts: Timeouts{Ping: 4 * time.Second}})
		left := leavings(h)
		p := serve(t, overPipe, h).peer(t).accepted()
		text := strings.Repeat("x", 1<<20)
		if err := h.Emit("long", text); err != nil {
			t.Fatal(err)
		}
		p.nc.SetReadDeadline(time.Time{})
		for range len(text) / writeChunk {
			<-time.After(time.Second)
			if _, err := io.CopyN(io.Discard, p.in, writeChunk); err != nil {
				t.Fatalf("%v; the client was disconnected: %v", err, <-left)
			}
		}
		if rest, err := p.in.ReadString('}'); err != nil || !strings.HasSuffix(rest, `x"}`) {
			t.Fatalf("%.100q, %v", rest, err)
		}
		p.want(opPing, "") // it leaves now, and is not answered
		p.wantClose(StatusPolicyViolation, "ping timeout")
		wantReason(t, left, ReasonPingTimeout)
	})
}

// A reader that has handled an event, and a control frame that came with it, does not wait on the
// stack that the event has made larger, 4 KB instead of 2, for as long as only pongs come.
func TestReaderLeavesTheLargeStackAfterAControlFrame(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	p := serve(t, overTCP, h).peer(t).accepted()
	for range 20 {
		p.send([]byte(string(p.frame(opText, `{"event":"unknown"}`)) + string(p.frame(opPing, "behind it"))))
		for range 2 {
			p.next()
		}
		waitingReader(t)
	}
}
