package atrium

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// departures notes when clients leave, in their order.
type departures struct {
	mu   sync.Mutex
	ids  []string
	when []time.Duration // since began
}

func departuresOf(h *Hub) *departures {
	d := new(departures)
	began := time.Now()
	h.OnDisconnect(func(s *Socket, _ Reason) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.ids = append(d.ids, s.ID())
		d.when = append(d.when, time.Since(began))
	})
	return d
}

// shuttingDown begins a Shutdown with a time limit; zero means none.
func (h *Hub) shuttingDown(t *testing.T, limit time.Duration) <-chan outcome[struct{}] {
	return begin(func() (struct{}, error) {
		ctx, cancel := context.WithCancel(context.Background())
		if limit > 0 {
			ctx, cancel = context.WithTimeout(ctx, limit)
		}
		defer cancel()
		return struct{}{}, h.Shutdown(ctx)
	})
}

// Clients go at the rate of Options.DrainRate, in even intervals; faster if ctx would end before.
func TestDrainRate(t *testing.T) {
	rows := []struct {
		name    string
		rate    int
		clients int
		limit   time.Duration // of Shutdown; 0: none
		every   time.Duration // one is to go
	}{
		{"by the rate alone", 20, 100, 0, 50 * time.Millisecond},
		{"with time to spare", 20, 100, time.Minute, 50 * time.Millisecond},
		{"in time", 20, 101, 5 * time.Second, 30 * time.Millisecond},
		{"the default", 0, 100, 0, time.Millisecond},
		{"several in a turn", 4000, 100, 0, time.Millisecond / 4},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Options{DrainRate: row.rate})
				srv := serve(t, overPipe, h)
				for range row.clients {
					srv.connect(t, nil).listen()
				}
				synctest.Wait()
				left := departuresOf(h)
				if err := (<-h.shuttingDown(t, row.limit)).err; err != nil {
					t.Error(err)
				}
				if len(left.when) != row.clients {
					t.Fatalf("%d have gone, want %d", len(left.when), row.clients)
				}
				for i, at := range left.when {
					want := time.Duration(i) * row.every
					if at > want+time.Millisecond || at < want-max(time.Millisecond, want/50) {
						t.Fatalf("number %d has gone after %v, want %v", i, at, want)
					}
				}
			})
		})
	}
}

// Those that nothing is done for go first.
func TestDrainIdleFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{DrainRate: 10})
		h.Handle("work", func(*Event) { <-time.After(100 * time.Millisecond) })
		srv := serve(t, overPipe, h)
		var idle, busy []string
		var slow []*client
		for i := range 20 {
			c := srv.connect(t, nil)
			switch i % 4 {
			case 0:
				c.send(`{"event":"work"}`)
				busy = append(busy, c.sid)
			case 1: // reads nothing
				for range 3 {
					h.Namespace.socket(c.sid).Emit("bye", text(100_000, i))
				}
				busy, slow = append(busy, c.sid), append(slow, c)
				continue
			default:
				idle = append(idle, c.sid)
			}
			c.listen()
		}
		synctest.Wait()
		left := departuresOf(h)
		down := h.shuttingDown(t, 0)
		<-time.After(950 * time.Millisecond)
		left.mu.Lock()
		first := slices.Sorted(slices.Values(left.ids))
		left.mu.Unlock()
		slices.Sort(idle)
		if !slices.Equal(first, idle) {
			t.Errorf("first went %q, want %q; the busy are %q", first, idle, busy)
		}
		for _, c := range slow {
			c.listen()
		}
		if err := (<-down).err; err != nil {
			t.Error(err)
		}
	})
}

// What a client had sent is handled and acknowledged before it is disconnected, by an Ack as well;
// what it sends afterwards is not read.
func TestDrainAnswers(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		begun, gate, acks := make(chan struct{}, 10), make(chan struct{}), make(chan *Ack, 1)
		OnCall(h, "work", func(s *Socket, n int) (int, error) { begun <- struct{}{}; <-gate; return n, nil })
		OnAck(h, "later", func(_ *Socket, _ any, a *Ack) error { acks <- a; return nil })
		left := leavings(h)
		c := serve(t, k, h).connect(t, nil)
		s := c.socket(h)
		for i := range 3 {
			c.send(fmt.Sprintf(`{"event":"work","data":%d,"id":%d}`, i, i))
		}
		c.send(`{"event":"later","id":7}`)
		c.send(`{"event":"work","data":3,"id":3}`)
		within(t, begun, "the handler")
		eventually(t, "the events to be received", func() bool { return s.inbox.waiting() == 5 })
		down := h.shuttingDown(t, 0)
		eventually(t, "the client to be let go", s.session.reading.draining.Load)
		c.send(`{"event":"work","data":4,"id":4}`)
		eventually(t, "the reader waits", s.session.reading.paused)
		s.Emit("last")
		close(gate)
		c.want(`{"event":"last"}`)
		for i := range 3 {
			c.want(fmt.Sprintf(`{"id":%d,"data":%d}`, i, i))
		}
		c.want(`{"id":3,"data":3}`)
		eventually(t, "the handlers to return", s.inbox.idle)
		select {
		case why := <-left:
			t.Fatalf("disconnected before the last acknowledgement: %s", why)
		default:
		}
		within(t, acks, "the Ack").Reply("done")
		c.want(`{"id":7,"data":"done"}`)
		c.wantClosed(StatusServiceRestart)
		wantReason(t, left, ReasonShutdown)
		if err := within(t, down, "Shutdown").err; err != nil {
			t.Error(err)
		}
	})
}

// A handler may Call its client while that is to go: the answer is read, and the events before it
// are handled, too.
func TestDrainCallOfAHandler(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		h := newHub(t, Options{})
		OnCall(h, "work", func(s *Socket, _ any) (string, error) { return Call[string](t.Context(), s, "sure?") })
		OnCall(h, "more", func(*Socket, any) (string, error) { return "more", nil })
		c := serve(t, k, h).connect(t, nil)
		c.send(`{"event":"work","id":1}`)
		c.want(`{"event":"sure?","id":0}`)
		s := h.Namespace.socket(c.sid)
		down := h.shuttingDown(t, 0)
		eventually(t, "the client to be let go", s.session.reading.draining.Load)
		c.send(`{"event":"more","id":2}`)
		c.send(`{"id":0,"data":"yes"}`)
		c.want(`{"id":1,"data":"yes"}`)
		c.want(`{"id":2,"data":"more"}`)
		c.wantClosed(StatusServiceRestart)
		if err := within(t, down, "Shutdown").err; err != nil {
			t.Error(err)
		}
	})
}

// Socket.IO's clients are told nothing that they would not come back after: no DISCONNECT packet,
// in none of their namespaces.
func TestDrainSocketIO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newEcho(t, Options{})
		srv := serve(t, overPipe, h)
		c := srv.socketIO(t)
		c.join("")
		c.join("/custom")
		before := srv.socketIO(t) // that has not connected to a namespace yet
		down := h.shuttingDown(t, 0)
		for _, c := range []*Conn{c.Conn, before.Conn} {
			if e := wantClosed(t, c, StatusServiceRestart); e.Reason != "server shutting down" {
				t.Errorf("reason %q", e.Reason)
			}
		}
		if err := (<-down).err; err != nil {
			t.Error(err)
		}
	})
}

// A client that polls gets the acknowledgement of what it had posted, what is queued, and the close
// packet, in a pending GET or the next. The connection of that response ends, so that the client
// comes to the next process by another.
func TestDrainPolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newEcho(t, Options{DrainRate: 1})
		OnCall(h, "work", func(*Socket, any) (string, error) { <-time.After(time.Second); return "done", nil })
		srv := serve(t, overPipe, h)
		e, waits := srv.joined(t), srv.joined(t)
		connections := 0
		waits.http = &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			connections++
			return overPipe.dial(srv.listener)
		}}}
		e.post(`421["work"]`).want(t, 200, "ok")
		pending := waits.getting(h)
		h.Emit("bye")
		(<-pending).want(t, 200, `42["bye"]`)
		pending = waits.getting(h)
		down := h.shuttingDown(t, 0)
		(<-pending).want(t, 200, "1")
		if connections != 1 {
			t.Errorf("%d connections were made", connections)
		}
		if waits.get(); connections != 2 {
			t.Error("the connection of the last response goes on")
		}
		waits.post(`421["work"]`).want(t, 200, "ok") // it might have crossed the close packet
		waits.get().want(t, 200, "1")
		e.get().want(t, 200, `42["bye"]`)
		e.get().want(t, 200, `431["done"]`)
		e.get().want(t, 200, "1")
		if err := (<-down).err; err != nil {
			t.Error(err)
		}
	})
}

// From the first moment new clients are refused, and those who wait for their turn notice nothing.
func TestDrainRefusesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{DrainRate: 1})
		OnCall(h, "echo", func(_ *Socket, v any) (any, error) { return v, nil })
		srv := serve(t, overPipe, h)
		a, b := srv.connect(t, nil), srv.connect(t, nil)
		down := h.shuttingDown(t, 0)
		synctest.Wait()
		r := request(t, srv.raw(t), handshakeHead+"\r\n")
		if r.StatusCode != 503 || r.Header.Get("Retry-After") != "1" || !r.Close {
			t.Errorf("a late client got %s, %v", r.Status, r.Header)
		}
		refused := srv.engine(t).get()
		if refused.status != 503 || refused.header.Get("Retry-After") != "1" {
			t.Errorf("one that polls got %v", refused)
		}
		stays, leaves := a, b
		if h.Namespace.socket(a.sid) == nil {
			stays, leaves = b, a
		}
		leaves.wantClosed(StatusServiceRestart)
		stays.send(`{"event":"echo","data":"x","id":1}`)
		stays.want(`{"id":1,"data":"x"}`)
		stays.wantClosed(StatusServiceRestart)
		if err := (<-down).err; err != nil {
			t.Error(err)
		}
	})
}

// The end of ctx cuts all that are left, whether it is the first Shutdown's or another's, and
// handlers that run do not keep a client beyond 80 % of the time.
func TestDrainEnds(t *testing.T) {
	rows := []struct {
		name    string
		limits  []time.Duration // of Shutdowns; 0: none
		closing time.Duration   // when the client is told
	}{
		{"at 80 % a handler is not waited for", []time.Duration{10 * time.Second}, 8 * time.Second},
		{"a second Shutdown with less time", []time.Duration{0, 5 * time.Second}, 4 * time.Second},
		{"a second Shutdown without any", []time.Duration{time.Minute, 1}, 0},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Options{})
				gate := make(chan struct{})
				h.Handle("block", func(*Event) { <-gate })
				c := serve(t, overPipe, h).connect(t, nil)
				c.send(`{"event":"block"}`)
				synctest.Wait()
				s := h.Namespace.socket(c.sid)
				var downs []<-chan outcome[struct{}]
				began := time.Now()
				for _, limit := range row.limits {
					downs = append(downs, h.shuttingDown(t, limit))
				}
				<-s.Context().Done()
				if took := time.Since(began).Truncate(time.Millisecond); took != row.closing {
					t.Errorf("it has left after %v, want %v", took, row.closing)
				}
				err := (<-downs[len(downs)-1]).err
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `event "block" of socket `+c.sid) {
					t.Errorf("Shutdown: %v", err)
				}
				if took := time.Since(began).Truncate(time.Millisecond); took > row.limits[len(row.limits)-1] {
					t.Errorf("Shutdown took %v", took)
				}
				close(gate)
				for _, down := range downs[:len(downs)-1] {
					if err := (<-down).err; err != nil {
						t.Errorf("the first Shutdown: %v", err)
					}
				}
			})
		})
	}
}

// Clients that send without a pause, whose handlers take longer than their events to come, do not
// prevent their end, nor that of others: all are gone, and every event that a handler began with is
// acknowledged.
func TestDrainUnderOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{Limits: Limits{InboxEvents: 8}, DrainRate: 100})
		var mu sync.Mutex
		handled := map[string]int{}
		OnCall(h, "work", func(s *Socket, n int) (int, error) {
			<-time.After(100 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			handled[s.ID()]++
			return n, nil
		})
		srv := serve(t, overPipe, h)
		const clients = 200
		var all sync.WaitGroup
		acknowledged := make([]int, clients)
		ids := make([]string, clients)
		for i := range clients {
			c := srv.connect(t, nil)
			ids[i] = c.sid
			c.out.bound(1000) // what has waited there is all read in the end
			heard := c.listen()
			all.Go(func() {
				for n := 0; c.Write(context.Background(), MessageText, fmt.Appendf(nil, `{"event":"work","data":%d,"id":%d}`, n, n)) == nil; n++ {
				}
			})
			all.Go(func() {
				for range heard {
					acknowledged[i]++
				}
			})
		}
		<-time.After(time.Second)
		began := time.Now()
		if err := (<-h.shuttingDown(t, 10*time.Second)).err; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("Shutdown took %v", took)
		}
		all.Wait()
		for i, id := range ids {
			if acknowledged[i] != handled[id] || handled[id] == 0 {
				t.Errorf("%d of %d events are acknowledged", acknowledged[i], handled[id])
			}
		}
	})
}
