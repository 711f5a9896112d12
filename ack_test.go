package atrium

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestCall(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		c, s := connected(t, h, serve(t, k, h))
		id := 0
		// ask has the client answer with the fields, and compares.
		ask := func(fields, wantErr string, do func() (string, error)) {
			t.Helper()
			done := begin(func() (string, error) { return do() })
			c.want(asking(id))
			c.send(strings.Replace(fmt.Sprintf(`{"id":%d,%s}`, id, fields), ",}", "}", 1))
			id++
			o := within(t, done, "the answer")
			if o.err == nil && wantErr != "" || o.err != nil && o.err.Error() != wantErr {
				t.Errorf("%s: %s, %v; want the error %q", fields, o.v, o.err, wantErr)
			}
			if e, ok := errors.AsType[*Error](o.err); o.err != nil && (!ok || e.Status != 0) {
				t.Errorf("%s: the error is a %T", fields, o.err)
			}
			checkNoCalls(t, s)
		}
		askInt := func(fields string, want int, wantErr string) {
			t.Helper()
			ask(fields, wantErr, func() (string, error) {
				v, err := Call[int](t.Context(), s, "q")
				if err == nil && v != want {
					t.Errorf("%s: %d, want %d", fields, v, want)
				}
				return fmt.Sprint(v), err
			})
		}
		askInt(`"data":5`, 5, "")
		askInt(` "args" : [ 6 , "more", [7] ] `, 6, "")
		askInt(`"args":[8]`, 8, "")
		askInt(`"args":[]`, 0, "")
		askInt(``, 0, "")
		askInt(`"data":null`, 0, "")
		askInt(`"data":"five"`, 0, "data: expected an integer, got string")
		askInt(`"error":{"message":"not now"}`, 0, "not now")
		askInt(`"error":{"message":""}`, 0, "")

		message := func() (string, error) {
			m, err := Call[testMessage](t.Context(), s, "q")
			if err == nil && m.Text != "hello" {
				t.Errorf("got %v", m)
			}
			return m.Text, err
		}
		ask(`"data":{"Text":"hello"}`, "", message)
		ask(`"data":{"Room":"r"}`, "Text: expected some", message)
		ask(`"data":{"Text":7}`, "Text: expected a string, got number", message)
		ask(``, "Text: expected some", message)
		ask(`"data":[]`, "data: expected an object, got array", message)

		// An error's data comes as it was sent; raw data is kept, whatever is received after it.
		done := beginCall[json.RawMessage](t.Context(), s)
		c.want(asking(id))
		c.send(fmt.Sprintf(`{"id":%d,"error":{"message":"no","data":{"a": 1}}}`, id))
		o := within(t, done, "the answer")
		if e, ok := errors.AsType[*Error](o.err); !ok || fmt.Sprintf("%s", e.Data) != `{"a": 1}` {
			t.Errorf("got %v", o.err)
		}
		id++
		done = beginCall[json.RawMessage](t.Context(), s)
		c.want(asking(id))
		c.send(fmt.Sprintf(`{"id":%d,"data":"kept"}`, id))
		o = within(t, done, "the answer")
		c.settle()
		if string(o.v) != `"kept"` || o.err != nil {
			t.Errorf("got %s, %v", o.v, o.err)
		}
		checkNoCalls(t, s)
	})
}

func TestCallRoom(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		srv := serve(t, k, h)
		a, sa := connected(t, h, srv)
		b, sb := connected(t, h, srv)
		c, sc := connected(t, h, srv)
		d, sd := connected(t, h, srv)
		done := begin(func() ([]Reply, error) {
			return h.To("room", sa.ID()).Except(sd.ID()).Call(t.Context(), "q")
		})
		a.want(asking(0))
		b.want(asking(0))
		c.want(asking(0))
		d.settle() // it is not asked
		a.send(`{"id":0,"args":[1,2]}`)
		b.send(`{"id":0,"error":{"message":"no"}}`)
		c.CloseNow()
		o := within(t, done, "the answers")
		if o.err != nil || len(o.v) != 3 {
			t.Fatalf("got %v, %v", o.v, o.err)
		}
		for _, r := range o.v {
			var ok bool
			switch r.SocketID {
			case sa.ID():
				ok = string(r.Data) == "1" && r.Err == nil
			case sb.ID():
				e, is := errors.AsType[*Error](r.Err)
				ok = r.Data == nil && is && e.Message == "no"
			case sc.ID():
				ok = r.Data == nil && errors.Is(r.Err, ErrDisconnected)
			}
			if !ok {
				t.Errorf("got %s, %v", r.Data, r.Err)
			}
		}
		for _, nobody := range []Target{h.To(), h.To("nowhere"), sc.Volatile()} {
			if replies, err := nobody.Call(t.Context(), "q"); len(replies) != 0 || err != nil {
				t.Errorf("nobody answers %v, %v", replies, err)
			}
		}
		checkNoCalls(t, sa, sb, sc, sd)
	})
}

func TestCallContext(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		c, s := connected(t, h, serve(t, k, h))

		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := Call[int](ctx, s, "q")
		if !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the deadline: %v", err)
		}
		c.want(asking(0))

		ctx, cancel = context.WithCancel(t.Context())
		done := beginCall[int](ctx, s)
		c.want(asking(1))
		cancel()
		if err := within(t, done, "the end").err; !errors.Is(err, context.Canceled) || errors.Is(err, ErrTimeout) {
			t.Errorf("after the cancel: %v", err)
		}
		// It is asked even so: the context bounds the wait.
		replies, err := h.To("room").Call(ctx, "q")
		if err != nil || len(replies) != 1 || !errors.Is(replies[0].Err, context.Canceled) {
			t.Errorf("with a cancelled context: %v, %v", replies, err)
		}
		c.want(asking(2))
		checkNoCalls(t, s)
		// What comes late changes nothing, and is no error.
		for id := range 3 {
			c.send(fmt.Sprintf(`{"id":%d,"data":1}`, id))
		}
		c.settle()
		checkNoCalls(t, s)
	})
}

func TestCallTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{Timeouts: Timeouts{Call: 3 * time.Second, PingInterval: 24 * time.Hour}})
		join := func() (*client, *Socket) {
			near, far := net.Pipe()
			s := h.newPlain(newConn(far, connConfig{readLimit: 1 << 16, maxQueued: 1 << 20}), &Handshake{}, context.Background())
			h.quota.acquire("")
			h.add(s.session, "")
			s.session.start()
			c := &client{newConn(near, connConfig{client: true, readLimit: 1 << 16, maxQueued: 1 << 20}), t, ""}
			t.Cleanup(func() { c.CloseNow() })
			var hello any
			c.expect("connect", &hello)
			c.settle()
			return c, s
		}
		a, sa := join()
		b, sb := join()
		took := func(start time.Time, want time.Duration) {
			t.Helper()
			if d := time.Since(start); d < want || d > want+time.Second {
				t.Errorf("it took %v, want %v", d, want)
			}
		}

		start := time.Now()
		_, err := Call[int](context.Background(), sa, "q")
		if !errors.Is(err, ErrTimeout) {
			t.Errorf("got %v", err)
		}
		took(start, 3*time.Second)
		a.want(asking(0))

		start = time.Now()
		done := begin(func() ([]Reply, error) { return h.Call(context.Background(), "q") })
		a.want(asking(1))
		b.want(asking(1))
		a.send(`{"id":1,"data":true}`)
		o := <-done
		took(start, 3*time.Second)
		if o.err != nil || len(o.v) != 2 {
			t.Fatalf("got %v, %v", o.v, o.err)
		}
		for _, r := range o.v {
			if r.SocketID == sa.ID() && (string(r.Data) != "true" || r.Err != nil) ||
				r.SocketID == sb.ID() && (r.Data != nil || !errors.Is(r.Err, ErrTimeout)) {
				t.Errorf("got %v", r)
			}
		}

		// A context's deadline counts instead, be it sooner or later; a cancellable one without
		// does not.
		for i, limit := range []time.Duration{time.Second, time.Hour} {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			start = time.Now()
			_, err := Call[int](ctx, sa, "q")
			if cancel(); !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			took(start, limit)
			a.want(asking(2 + i))
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		start = time.Now()
		if _, err := Call[int](ctx, sa, "q"); !errors.Is(err, ErrTimeout) {
			t.Errorf("got %v", err)
		}
		took(start, 3*time.Second)
		a.want(asking(4))
		a.settle()
		b.settle()
		checkNoCalls(t, sa, sb)
	})
}

func TestCallDisconnected(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		inUse := make(chan error, 10)
		h.Use(func(s *Socket) error {
			_, err := Call[int](s.Context(), s, "q")
			inUse <- err
			return nil
		})
		srv := serve(t, k, h)
		for name, end := range map[string]func(*client, *Socket){
			"cut":               func(c *client, _ *Socket) { c.CloseNow() },
			"closed":            func(c *client, _ *Socket) { c.Close(StatusNormalClosure, "") },
			"Disconnect":        func(_ *client, s *Socket) { s.Disconnect() },
			"Target.Disconnect": func(_ *client, s *Socket) { h.To(s.ID()).Disconnect(t.Context()) },
		} {
			c, s := connected(t, h, srv)
			if err := within(t, inUse, "Use"); !errors.Is(err, ErrDisconnected) {
				t.Errorf("inside Use: %v", err) // nobody can be asked who is not connected yet
			}
			var first int
			for i := range 3 {
				done := beginCall[int](t.Context(), s)
				var m struct{ ID int }
				if err := json.Unmarshal([]byte(c.next()), &m); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					first = m.ID
				}
				if i < 2 {
					c.send(fmt.Sprintf(`{"id":%d,"data":%d}`, m.ID, i))
					if o := within(t, done, "the answer"); o.v != i || o.err != nil || m.ID != first+i {
						t.Errorf("%s: %d, %v", name, o.v, o.err)
					}
					continue
				}
				end(c, s)
				if err := within(t, done, "the end").err; !errors.Is(err, ErrDisconnected) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if _, err := Call[int](t.Context(), s, "q"); !errors.Is(err, ErrDisconnected) {
				t.Errorf("%s, and asked again: %v", name, err)
			}
			checkNoCalls(t, s)
			c.CloseNow()
		}
	})
}

func TestAckIgnored(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		srv := serve(t, k, h)
		a, sa := connected(t, h, srv)
		b, sb := connected(t, h, srv)
		never := func(c *client, id int64) {
			t.Helper()
			c.send(fmt.Sprintf(`{"id":%d,"data":"bad"}`, id))
			c.want(fmt.Sprintf(`{"event":"error","data":{"message":"id: expected the id of a call, %d is none"}}`, id))
		}
		never(a, 0)
		done := beginCall[int](t.Context(), sa)
		a.want(asking(0))
		never(a, 1)
		never(b, maxID)
		// Another socket's answer, and one that is malformed, answer nothing.
		b.send(`{"id":0,"data":666}`)
		b.settle()
		a.send(`{"id":0,"data":1,"error":{"message":"both"}}`)
		a.want(`{"event":"error","data":{"message":"data and error: expected only one of them"}}`)
		select {
		case o := <-done:
			t.Errorf("answered by another: %d, %v", o.v, o.err)
		default:
		}
		for i := range 3 {
			a.send(fmt.Sprintf(`{"id":0,"data":%d}`, 10+i))
		}
		if o := within(t, done, "the answer"); o.v != 10 || o.err != nil {
			t.Errorf("got %d, %v", o.v, o.err)
		}
		a.settle()

		// A second answer does not stand for that of another member of the room.
		both := begin(func() ([]Reply, error) { return h.To("room").Call(t.Context(), "q") })
		a.want(asking(1))
		b.want(asking(1))
		a.send(`{"id":1,"data":"a"}`)
		a.send(`{"id":1,"data":"again"}`)
		a.settle()
		select {
		case o := <-both:
			t.Errorf("complete without the second: %v, %v", o.v, o.err)
		default:
		}
		b.send(`{"id":1,"data":"b"}`)
		for _, r := range within(t, both, "the answers").v {
			if want := map[string]string{a.sid: `"a"`, b.sid: `"b"`}[r.SocketID]; string(r.Data) != want || r.Err != nil {
				t.Errorf("got %s, %v, want %s", r.Data, r.Err, want)
			}
		}
		checkNoCalls(t, sa, sb)
	})
}

func TestCallInsideHandler(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{Limits: Limits{InboxEvents: 2}})
		h.Handle("ask", func(e *Event) {
			v, err := Call[int](e.Socket().Context(), e.Socket(), "q")
			if err != nil {
				e.ReplyError(err)
				return
			}
			e.Reply(v + 1)
		})
		h.Handle("more", func(*Event) {})
		c, s := connected(t, h, serve(t, k, h))
		// The answer stands behind more events than the inbox takes while nothing is asked.
		c.send(`{"event":"ask","id":1}`)
		c.send(`{"event":"more","id":2}`)
		c.send(`{"event":"more","id":3}`)
		c.send(`{"id":0,"data":41}`)
		c.want(asking(0))
		c.want(`{"id":1,"data":42}`)
		c.want(`{"id":2}`)
		c.want(`{"id":3}`)
		checkNoCalls(t, s)

		// A handler that waits for an answer does not outlive its client.
		c.send(`{"event":"ask"}`)
		c.want(asking(1))
		c.CloseNow()
	})
}

// TestCallConcurrent has many ask many, of whom some leave: each call ends, with the answer to its
// own question.
func TestCallConcurrent(t *testing.T) {
	noLeaks(t)
	const clients, callers, calls = 6, 6, 60
	h := newHub(t, Options{Timeouts: Timeouts{Call: math.MaxInt64}})
	srv := serve(t, overTCP, h)
	var (
		answering, calling sync.WaitGroup
		all                []*client
		sockets            []*Socket
	)
	for i := range clients {
		c, s := connected(t, h, srv)
		all, sockets = append(all, c), append(sockets, s)
		answering.Go(func() {
			for n := 0; ; n++ {
				_, p, err := c.Read(context.Background())
				if err != nil {
					return
				}
				var m struct {
					ID   int
					Data json.RawMessage
				}
				if err := json.Unmarshal(p, &m); err != nil {
					t.Error(err)
				}
				if i < clients/2 && n == 50*(i+1) {
					c.CloseNow()
				}
				c.Write(context.Background(), MessageText, fmt.Appendf(nil, `{"id":%d,"data":%s}`, m.ID, m.Data))
			}
		})
	}
	for caller := range callers {
		calling.Go(func() {
			for i := range calls {
				want := caller*calls + i
				s := sockets[i%clients]
				if v, err := Call[int](context.Background(), s, "echo", want); err != nil && !errors.Is(err, ErrDisconnected) || err == nil && v != want {
					t.Errorf("got %d, %v, want %d", v, err, want)
				}
				replies, err := h.To("room").Call(context.Background(), "echo", want)
				if err != nil || len(replies) < clients/2 {
					t.Errorf("%d replies, %v", len(replies), err)
				}
				for _, r := range replies {
					if r.Err != nil && !errors.Is(r.Err, ErrDisconnected) || r.Err == nil && string(r.Data) != fmt.Sprint(want) {
						t.Errorf("got %s, %v, want %d", r.Data, r.Err, want)
					}
				}
			}
		})
	}
	calling.Wait()
	checkNoCalls(t, sockets...)
	for _, c := range all {
		c.CloseNow()
	}
	answering.Wait()
}
