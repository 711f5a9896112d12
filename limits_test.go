package atrium

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A client that sends too many events is told the bound once, in the acknowledgement if it asked
// for one, and goes with status 1008; what came before is handled, and nothing after.
func TestTooManyEventsEndTheConnection(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		for _, row := range []struct{ name, event, says string }{
			{"with an acknowledgement", `{"event":"e","id":7}`,
				`{"id":7,"error":{"message":"too many events: expected at most 1 a second"}}`},
			{"without", `{"event":"e"}`,
				`{"event":"error","data":{"event":"e","message":"too many events: expected at most 1 a second"}}`},
			{"of unreadable events", `{"event":7}`,
				`{"event":"error","data":{"message":"too many events: expected at most 1 a second"}}`},
		} {
			t.Run(row.name, func(t *testing.T) {
				noLeaks(t)
				logger, out := newLog()
				h := newHub(t, Options{Limits: Limits{EventsPerSecond: 1, EventBurst: 5}, Logger: logger})
				left := leavings(h)
				h.Handle("e", func(e *Event) { e.Socket().Emit("handled") })
				c := serve(t, k, h).connect(t, nil)
				for range 5 {
					c.send(`{"event":"e"}`)
				}
				for range 5 {
					c.want(`{"event":"handled"}`)
				}
				for range 3 {
					c.send(row.event)
				}
				c.want(row.says)
				if e := wantClosed(t, c.Conn, StatusPolicyViolation); e.Reason != "too many events: expected at most 1 a second" {
					t.Errorf("the reason is %q", e.Reason)
				}
				wantReason(t, left, ReasonForcedServerClose)
				h.checkNobody(t)
				if got := out.String(); strings.Count(got, "atrium: a client sent too many events") != 1 || !strings.Contains(got, "Limits.EventsPerSecond") {
					t.Errorf("the log says %q", got)
				}
			})
		}
	})
}

// The bound holds for all of a Socket.IO client's sockets together, over each transport.
func TestTooManyEventsOverAllNamespaces(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{Limits: Limits{EventsPerSecond: 1, EventBurst: 4}})
	h.Of("/other")
	overTransports(t, h, func(t *testing.T, open func() talker) {
		c := open()
		c.say("40")
		wantHears(t, c, welcome(""))
		c.say("40/other,")
		wantHears(t, c, welcome("/other,"))
		c.say(`421["e"]`, `42/other,2["e"]`, `42/other,3["e"]`, `424["e"]`)
		for range 4 {
			if m := c.hear(); !strings.Contains(m, "is not one that this server knows") {
				t.Errorf("got %s", m)
			}
		}
		c.say(`42/other,5["e"]`)
		wantHears(t, c, `43/other,5[{"error":{"message":"too many events: expected at most 1 a second"}}]`, "closed")
		h.awaitCountedOut(t)
	})
}

// A client within the bound is left alone for as long as it likes; its acknowledgements do not
// count, and after a pause it has its burst again.
func TestEventsWithinTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{Limits: Limits{EventsPerSecond: 10, EventBurst: 20}})
		srv := serve(t, overPipe, h)
		c, s := connected(t, h, srv) // that was one event
		<-time.After(2 * time.Second)
		synctest.Wait()
		for range 3 {
			for range 20 {
				c.settle()
			}
			<-time.After(2 * time.Second)
		}
		for range 100 {
			<-time.After(100 * time.Millisecond)
			c.settle()
		}
		for id := range 100 {
			answer := beginCall[int](t.Context(), s)
			c.want(asking(id))
			c.send(fmt.Sprintf(`{"id":%d,"data":1}`, id))
			if o := within(t, answer, "the answer"); o.err != nil {
				t.Fatal(o.err)
			}
		}
		for range 10 {
			c.settle() // of the last second's
		}
	})
}

// One Call more than may wait fails at once, in a broadcast for that socket alone, and tells
// errors.Is why; an answer makes room.
func TestTooManyCalls(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{Limits: Limits{Calls: 3}, Timeouts: Timeouts{Call: time.Hour}})
		srv := serve(t, k, h)
		c, s := connected(t, h, srv)
		other, so := connected(t, h, srv)
		ctx, cancel := context.WithCancel(t.Context())
		var waiting []<-chan outcome[int]
		for id := range 3 {
			waiting = append(waiting, beginCall[int](ctx, s))
			c.want(asking(id))
		}
		if _, err := Call[int](t.Context(), s, "q"); !errors.Is(err, ErrTooManyCalls) {
			t.Errorf("one more: %v", err)
		}
		everyone := begin(func() ([]Reply, error) { return h.To("room").Call(t.Context(), "q") })
		other.want(asking(4))
		other.send(`{"id":4,"data":5}`)
		o := within(t, everyone, "the replies")
		if o.err != nil || len(o.v) != 2 {
			t.Fatalf("got %v, %v", o.v, o.err)
		}
		for _, r := range o.v {
			if r.SocketID == s.ID() && r.Err != ErrTooManyCalls || r.SocketID == so.ID() && (r.Err != nil || string(r.Data) != "5") {
				t.Errorf("got %+v", r)
			}
		}
		c.send(`{"id":1,"data":6}`)
		if o := within(t, waiting[1], "the answer"); o.v != 6 || o.err != nil {
			t.Errorf("got %+v", o)
		}
		again := beginCall[int](ctx, s)
		c.want(asking(5)) // and of those that were refused it has heard nothing
		cancel()
		for _, w := range []<-chan outcome[int]{waiting[0], waiting[2], again} {
			if o := within(t, w, "the end of ctx"); !errors.Is(o.err, context.Canceled) {
				t.Errorf("got %+v", o)
			}
		}
		checkNoCalls(t, s, so)
	})
}

// Another node's socket that has too many calls to answer says so.
func TestTooManyCallsOfAnotherNode(t *testing.T) {
	noLeaks(t)
	all := newTestCluster(t, overPipe, 2, new(MemoryBus), Options{Limits: Limits{Calls: 1}, Timeouts: Timeouts{Call: time.Hour}})
	c, s := connected(t, all[0].Hub, all[0].server)
	ctx, cancel := context.WithCancel(t.Context())
	first := beginCall[int](ctx, s)
	c.next()
	replies, err := all[1].Call(t.Context(), "q")
	if err != nil || len(replies) != 1 || replies[0].Err != ErrTooManyCalls {
		t.Errorf("got %v, %v", replies, err)
	}
	cancel()
	within(t, first, "the end of ctx")
}

// Handlers that take acknowledgements along hold at most as many as Limits.Calls for a client,
// whatever it sends. Each that is given, in whatever way, makes room.
func TestTooManyAcksOwed(t *testing.T) {
	noLeaks(t)
	logger, out := newLog()
	h := newHub(t, Options{Limits: Limits{Calls: 2}, Logger: logger})
	acks := make(chan *Ack, 10)
	OnAck(h, "later", func(_ *Socket, _ any, ack *Ack) error { acks <- ack; return nil })
	OnAck(h, "failing", func(*Socket, any, *Ack) error { return Errorf("failed") })
	h.Handle("both", func(e *Event) { e.Later(); e.Reply("now") })
	h.Handle("done", func(e *Event) { e.Reply("now"); e.Later() })
	c := serve(t, overTCP, h).connect(t, nil)
	const full = "too many events wait for their acknowledgements: expected at most 2"
	for round := range 3 {
		for range 5 {
			c.send(`{"event":"failing","id":1}`)
			c.want(`{"id":1,"error":{"message":"failed"}}`)
			for _, event := range []string{"both", "done"} {
				c.send(fmt.Sprintf(`{"event":%q,"id":2}`, event))
				c.want(`{"id":2,"data":"now"}`)
			}
		}
		c.send(`{"event":"later","id":3}`)
		c.send(`{"event":"later"}`) // nobody asked, but the Ack is held
		first, second := within(t, acks, "an Ack"), within(t, acks, "an Ack")
		c.send(`{"event":"later","id":4}`)
		c.want(`{"id":4,"error":{"message":"` + full + `"}}`)
		c.send(`{"event":"done"}`)
		c.want(`{"event":"error","data":{"event":"done","message":"` + full + `"}}`)
		if err := second.Reply(1); err != ErrNoAck {
			t.Error(err)
		}
		if round == 0 {
			first.ReplyError(Errorf("no"))
			c.want(`{"id":3,"error":{"message":"no"}}`)
		} else {
			first.Reply(5)
			first.Reply(6)
			c.want(`{"id":3,"data":5}`)
		}
		second.ReplyError(Errorf("once more")) // must not count twice
		c.want(`{"event":"error","data":{"event":"later","message":"once more"}}`)
	}
	if got := out.String(); !strings.Contains(got, "atrium: refused an event over Limits.Calls") {
		t.Errorf("the log says %q", got)
	}
}

// An Ack that the application has lost does not count for ever.
func TestLostAcksAreNotOwed(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{Limits: Limits{Calls: 1}})
	h.Handle("lost", func(e *Event) { e.Later() })
	c := serve(t, overTCP, h).connect(t, nil)
	s := h.Namespace.socket(c.sid)
	c.send(`{"event":"lost","id":1}`)
	c.send(`{"event":"x","id":2}`)
	c.want(`{"id":2,"error":{"message":"too many events wait for their acknowledgements: expected at most 1"}}`)
	eventually(t, "the Ack to be collected", func() bool {
		runtime.GC()
		return s.calls.owed.Load() == 0
	})
	c.settle()
}
