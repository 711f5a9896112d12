package atrium

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type sum struct{ A, B int }

func (s sum) Validate() error {
	if s.A < 0 {
		return Errorf("A: expected no negative number")
	}
	return nil
}

// The same generic functions at both ends: events, answers, errors, bytes, in order.
func TestClient(t *testing.T) {
	noLeaks(t)
	overClientKinds(t, func(t *testing.T, k kind) {
		h := newHub(t, Options{})
		sockets := newChannel[*Socket]()
		h.Use(func(s *Socket) error {
			var auth struct{ Token string }
			if err := s.Handshake().Bind(&auth); err != nil {
				return err
			}
			s.Set("token", auth.Token)
			return s.Join("lobby")
		})
		h.OnConnect(func(s *Socket) {
			s.Emit("welcome", "first of all")
			sockets <- s
		})
		OnCall(h, "add", func(_ *Socket, s sum) (int, error) { return s.A + s.B, nil })
		On(h, "fail", func(*Socket, any) error { return &Error{Message: "no", Data: map[string]int{"code": 7}} })
		OnCall(h, "reverse", func(_ *Socket, b []byte) (Binary, error) { slices.Reverse(b); return b, nil })
		numbers := newChannel[int]()
		On(h, "number", func(_ *Socket, n int) error { numbers <- n; return nil })

		c := serve(t, k, h).client(t, ClientOptions{Auth: map[string]string{"token": "secret"}})
		welcome := newChannel[string]()
		On(c, "welcome", func(_ *Client, text string) error { welcome <- text; return nil })
		OnCall(c, "sum", func(_ *Client, s sum) (int, error) { return s.A + s.B, nil })
		On(c, "refuse", func(*Client, any) error { return Errorf("not today") })
		OnCall(c, "nested", func(c *Client, s sum) (int, error) { return Call[int](context.Background(), c, "add", s) })
		picture := newChannel[[]byte]()
		c.Handle("picture", func(e *Event) {
			if e.Socket() != nil {
				t.Error("a Client's event has a Socket")
			}
			var name string
			var b []byte
			if err := e.Bind(&name, &b); err != nil {
				t.Error(err)
			}
			picture <- b
		})
		if c.State() != StateClosed || c.ID() != "" {
			t.Errorf("before Connect: %v, id %q", c.State(), c.ID())
		}
		if err := c.Emit("number", 0); err != nil { // it waits
			t.Error(err)
		}
		mustConnect(t, c)
		s := within(t, sockets, "OnConnect")
		if c.State() != StateOpen || c.ID() != s.ID() || c.Recovered() {
			t.Errorf("connected: %v, id %q of %q, recovered %v", c.State(), c.ID(), s.ID(), c.Recovered())
		}
		if token, _ := Value[string](s, "token"); token != "secret" {
			t.Errorf("auth: token %q", token)
		}
		if got := within(t, welcome, "what OnConnect emits"); got != "first of all" {
			t.Errorf("got %q", got)
		}

		if got := ask[int](t, c, "add", sum{1, 2}); got != 3 {
			t.Errorf("add: got %d", got)
		}
		if got := ask[[]byte](t, c, "reverse", Binary{1, 2, 3}); !slices.Equal(got, []byte{3, 2, 1}) {
			t.Errorf("reverse: got %v", got)
		}
		if got := ask[int](t, s, "sum", sum{3, 4}); got != 7 {
			t.Errorf("sum: got %d", got)
		}
		if got := ask[int](t, s, "nested", sum{5, 6}); got != 11 {
			t.Errorf("nested: got %d", got)
		}
		h.To("lobby").Emit("picture", "a.png", Binary{0, 255, 1})
		if got := within(t, picture, "picture"); !slices.Equal(got, []byte{0, 255, 1}) {
			t.Errorf("picture: got %v", got)
		}

		// What is wrong is told in the same words at both ends.
		for _, wrong := range []struct {
			of    Caller
			event string
			arg   any
			want  Error
		}{
			{c, "add", sum{A: -1}, Error{Message: "A: expected no negative number"}},
			{c, "add", "three", Error{Message: "data: expected an object, got string"}},
			{c, "fail", nil, Error{Message: "no", Data: json.RawMessage(`{"code":7}`)}},
			{c, "unknown", nil, Error{Message: `event: "unknown" is not one that this server knows`}},
			{s, "sum", sum{A: -1}, Error{Message: "A: expected no negative number"}},
			{s, "refuse", nil, Error{Message: "not today"}},
			{s, "unknown", nil, Error{Message: `event: "unknown" is not one that this client knows`}},
		} {
			_, err := Call[any](context.Background(), wrong.of, wrong.event, wrong.arg)
			got, ok := errors.AsType[*Error](err)
			if !ok {
				t.Errorf("%s: got %v, want an *Error", wrong.event, err)
			} else if diff := cmp.Diff(wrong.want, *got); diff != "" {
				t.Errorf("%s: %s", wrong.event, diff)
			}
		}
		if _, err := Call[string](context.Background(), c, "add", sum{1, 2}); err == nil || err.Error() != "data: expected a string, got number" {
			t.Errorf("an answer of the wrong type: got %v", err)
		}

		for n := 1; n < 100; n++ {
			if err := c.Emit("number", n); err != nil {
				t.Fatal(err)
			}
		}
		for want := range 100 {
			if got := within(t, numbers, "a number"); got != want {
				t.Fatalf("got number %d, want %d", got, want)
			}
		}
	})
}
