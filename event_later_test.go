package atrium

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A handler that takes the acknowledgement along holds up nothing: events behind it are handled,
// and answered, first.
func TestLaterAck(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		acks := make(chan *Ack, 10)
		h.Handle("raw", func(e *Event) { acks <- e.Later() })
		OnAck(h, "typed", func(s *Socket, n int, ack *Ack) error {
			if n < 0 {
				return Errorf("data: expected at least 0")
			}
			acks <- ack
			return nil
		})
		c := serve(t, k, h).connect(t, nil)
		for i, event := range []string{"raw", "typed"} {
			c.send(fmt.Sprintf(`{"event":%q,"data":5,"id":%d}`, event, i))
			c.settle() // handled, and not answered
			ack := within(t, acks, event)
			if err := ack.Reply(math.NaN()); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", event)) {
				t.Error(err)
			}
			if err := ack.Reply("done", i); err != nil {
				t.Error(err)
			}
			c.want(fmt.Sprintf(`{"id":%d,"args":["done",%d]}`, i, i))
			if err := ack.Reply("again"); err != ErrNoAck {
				t.Error(err)
			}
			ack.ReplyError(Errorf("again"))
			c.settle() // nothing more has come
		}
		// Errors, of the handler and later.
		c.send(`{"event":"typed","data":-1,"id":7}`)
		c.want(`{"id":7,"error":{"message":"data: expected at least 0"}}`)
		c.send(`{"event":"typed","data":"x","id":7}`)
		c.want(`{"id":7,"error":{"message":"data: expected an integer, got string"}}`)
		c.send(`{"event":"typed","data":1,"id":8}`)
		within(t, acks, "typed").ReplyError(&Error{Message: "too late", Data: 3})
		c.want(`{"id":8,"error":{"message":"too late","data":3}}`)
		// Nobody asked: there is nothing to give, but errors are told as ever.
		c.send(`{"event":"typed","data":1}`)
		ack := within(t, acks, "typed")
		if err := ack.Reply(1); err != ErrNoAck {
			t.Error(err)
		}
		ack.ReplyError(errors.New("hidden"))
		c.want(`{"event":"error","data":{"event":"typed","message":"internal error"}}`)
	})
}

// The Ack and its Event are one acknowledgement, whoever gives it.
func TestLaterAckOnce(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	h.Handle("after", func(e *Event) {
		ack := e.Later()
		if e.Later() != ack {
			t.Error("there are two")
		}
		if err := e.Reply("now"); err != nil {
			t.Error(err)
		}
		if err := ack.Reply("later"); err != ErrNoAck {
			t.Error(err)
		}
	})
	h.Handle("before", func(e *Event) {
		e.Reply("now")
		if err := e.Later().Reply("later"); err != ErrNoAck {
			t.Error(err)
		}
	})
	h.Handle("many", func(e *Event) {
		ack := e.Later()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { ack.Reply("one") })
		}
		all.Wait()
	})
	c := serve(t, overPipe, h).connect(t, nil)
	for _, event := range []string{"after", "before", "many"} {
		c.send(fmt.Sprintf(`{"event":%q,"id":1}`, event))
		if got := c.next(); got != `{"id":1,"data":"now"}` && got != `{"id":1,"data":"one"}` {
			t.Errorf("%s: %s", event, got)
		}
		c.settle()
	}
}

// What is given when the client has gone is dropped; who comes back gets no answer that it did not
// ask for.
func TestLaterAckAfterDisconnect(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{})
	acks := make(chan *Ack, 1)
	l.Handle("slow", func(e *Event) { acks <- e.Later() })
	g := l.enter(t, "")
	g.send(`421["slow"]`)
	ack := within(t, acks, "the handler")
	l.cut(g)
	back := l.enter(t, proof(g.pid, ""))
	if back.id != g.id {
		t.Fatal("it is another socket")
	}
	if err := ack.Reply("done"); err != nil {
		t.Error(err)
	}
	back.send(`422["unknown"]`)
	back.want(`432[{"error":{"message":"event: \"unknown\" is not one that this server knows"}}]`)
}

// A client answers later as well.
func TestClientLaterAck(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	came := make(chan *Socket, 1)
	h.OnConnect(func(s *Socket) { came <- s })
	srv := serve(t, overTCP, h)
	c := srv.client(t, ClientOptions{})
	acks := make(chan *Ack, 1)
	OnAck(c, "slow", func(_ *Client, n int, ack *Ack) error { acks <- ack; return nil })
	OnCall(c, "fast", func(_ *Client, n int) (int, error) { return n, nil })
	mustConnect(t, c)
	s := within(t, came, "OnConnect")
	slow := begin(func() (string, error) { return Call[string](t.Context(), s, "slow", 1) })
	ack := within(t, acks, "the handler")
	if n, err := Call[int](t.Context(), s, "fast", 2); n != 2 || err != nil {
		t.Error(n, err)
	}
	if err := ack.Reply("done"); err != nil {
		t.Error(err)
	}
	if r := within(t, slow, "the answer"); r.v != "done" || r.err != nil {
		t.Error(r)
	}
}

// All values of an answer can be read, at both ends and from other nodes.
func TestCallValues(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		ctx := t.Context()
		all := newTestCluster(t, k, 2, new(MemoryBus), Options{})
		h := all[0]
		came := make(chan *Socket, 1)
		h.OnConnect(func(s *Socket) { came <- s })
		io := h.socketIO(t)
		io.join("")
		s := within(t, came, "OnConnect")
		for _, test := range []struct {
			answer string // values
			want   []string
			data   string
		}{
			{``, []string{}, ``},
			{`1`, []string{`1`}, `1`},
			{`null`, []string{`null`}, `null`},
			{`"a,b",{"c":[1,2]},null`, []string{`"a,b"`, `{"c":[1,2]}`, `null`}, `"a,b"`},
			{`[],[]`, []string{`[]`, `[]`}, `[]`},
		} {
			answer := func() {
				t.Helper()
				m := io.next()
				id, ok := strings.CutSuffix(m, `["q"]`)
				if !ok {
					t.Fatal(m)
				}
				io.send(strings.Replace(id, "42", "43", 1) + "[" + test.answer + "]")
			}
			values := begin(func() ([]json.RawMessage, error) { return CallValues(ctx, s, "q") })
			answer()
			got := within(t, values, "the answer")
			if diff := cmp.Diff(test.want, texts(got.v)); diff != "" || got.err != nil {
				t.Error(test.answer, diff, got.err)
			}
			for _, asker := range all {
				replies := begin(func() ([]Reply, error) { return asker.To(s.ID()).Call(ctx, "q") })
				answer()
				got := within(t, replies, "the replies")
				want := []Reply{{SocketID: s.ID(), Values: json.RawMessage("[" + test.answer + "]")}}
				if test.data != "" {
					want[0].Data = json.RawMessage(test.data)
				}
				if diff := cmp.Diff(want, got.v); diff != "" || got.err != nil {
					t.Error(test.answer, diff, got.err)
				}
			}
		}
		fails := begin(func() ([]json.RawMessage, error) { return CallValues(ctx, s, "q") })
		m := io.next()
		io.send("43" + strings.TrimSuffix(m[2:], `["q"]`) + `[{"error":{"message":"no"}}]`)
		got := within(t, fails, "the answer")
		if e, ok := errors.AsType[*Error](got.err); !ok || e.Message != "no" || got.v != nil {
			t.Error(got)
		}
		io.CloseNow()
	})
}

func texts(values []json.RawMessage) []string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = string(v)
	}
	return list
}

// A client, too, reads all values.
func TestClientCallValues(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	h.Handle("q", func(e *Event) { e.Reply(1, "two", []int{3}) })
	srv := serve(t, overTCP, h)
	c := srv.client(t, ClientOptions{})
	mustConnect(t, c)
	values, err := CallValues(t.Context(), c, "q")
	if diff := cmp.Diff([]string{`1`, `"two"`, `[3]`}, texts(values)); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if n, err := Call[int](t.Context(), c, "q"); n != 1 || err != nil {
		t.Error(n, err)
	}
}
