package atrium

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
)

func TestEmitOrder(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		const n = 2000
		h := newHub(t, Options{})
		h.Handle("go", func(e *Event) {
			s := e.Socket()
			for i := range n {
				var err error
				switch i % 8 {
				case 0:
					err = s.Emit("n", i)
				case 1:
					err = h.To("room").Emit("n", i)
				case 2:
					err = h.Emit("n", i)
				case 3:
					err = h.To(s.ID()).Emit("n", i)
				case 4:
					err = h.To("room", "other", s.ID()).Emit("n", i)
				case 5:
					err = h.Except("other").Emit("n", i)
				case 6:
					err = h.To("room").Except("other").Emit("n", i, strings.Repeat("x", i))
				case 7:
					h.To(s.ID()).Leave(t.Context(), "room")
					if err := h.Except("other").Join(t.Context(), "room"); err != nil {
						t.Error(err)
					}
					err = h.To("room", "other").Local().Emit("n", i)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
		h.OnConnect(func(s *Socket) {
			if err := s.Join("room"); err != nil {
				t.Error(err)
			}
		})
		srv := serve(t, k, h)
		a, b := srv.connect(t, nil), srv.connect(t, nil)
		b.settle()
		a.send(`{"event":"go"}`)
		number := func(c *client) int {
			var m struct {
				Data json.Number
				Args []any
			}
			if err := json.Unmarshal([]byte(c.next()), &m); err != nil {
				t.Fatal(err)
			}
			if len(m.Args) > 0 {
				m.Data = json.Number(fmt.Sprint(m.Args[0]))
			}
			i, err := m.Data.Int64()
			if err != nil {
				t.Fatal(err)
			}
			return int(i)
		}
		for want := range n {
			if got := number(a); got != want {
				t.Fatalf("got %d, want %d", got, want)
			}
		}
		for want := range n {
			if direct := want%8 == 0 || want%8 == 3; !direct {
				if got := number(b); got != want {
					t.Fatalf("the other got %d, want %d", got, want)
				}
			}
		}
	})
}

func TestEmitEncodesOnce(t *testing.T) {
	noLeaks(t)
	h, boxes := newMailboxes(t, 50)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for name, send := range map[string]func(arg any) error{
		"everyone":  func(arg any) error { return h.Emit("x", arg) },
		"room":      func(arg any) error { return h.To("room").Emit("x", arg) },
		"rooms":     func(arg any) error { return h.To("room", "twin").Emit("x", arg) },
		"volatile":  func(arg any) error { return h.To("room").Volatile().Emit("x", arg) },
		"broadcast": func(arg any) error { return boxes[0].Broadcast().Emit("x", arg) },
		"call": func(arg any) error {
			_, err := h.To("room").Call(ended, "x", arg)
			return err
		},
	} {
		times := 0
		if err := send(counted{&times}); err != nil || times != 1 {
			t.Errorf("%s: encoded %d times, %v", name, times, err)
		}
		// All outboxes hold the same bytes, not equal ones.
		frames := make(map[*byte]int)
		for _, box := range boxes {
			o := &box.session.conn.Load().out
			o.mu.Lock()
			for _, frame := range o.frames.items[o.frames.head:] {
				frames[&frame[0]]++
			}
			o.mu.Unlock()
			o.abandon()
		}
		for _, n := range frames {
			if n < len(boxes)-1 {
				t.Errorf("%s: a frame in only %d outboxes", name, n)
			}
		}
		if len(frames) != 1 {
			t.Errorf("%s: %d frames", name, len(frames))
		}
	}
}

func TestEmitCost(t *testing.T) {
	noLeaks(t)
	payload := any(strings.Repeat("x", 10<<10))
	cost := func(members int) (allocs, bytes float64) {
		h, boxes := newMailboxes(t, members)
		emit := func() {
			if err := h.To("room").Emit("x", payload); err != nil {
				t.Error(err)
			}
			for _, box := range boxes {
				box.session.conn.Load().out.abandon()
			}
		}
		emit() // the queues grow
		const runs = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		allocs = testing.AllocsPerRun(runs, emit)
		runtime.ReadMemStats(&after)
		return allocs, float64(after.TotalAlloc-before.TotalAlloc) / (runs + 1)
	}
	allocs1, bytes1 := cost(1)
	allocs200, bytes200 := cost(200)
	t.Logf("1 member: %.0f allocations, %.0f bytes; 200: %.0f, %.0f", allocs1, bytes1, allocs200, bytes200)
	// The pools are emptied by the garbage collector, and at random by the race detector.
	if allocs200 > allocs1+10 {
		t.Errorf("%.0f allocations for 200 members, %.0f for one", allocs200, allocs1)
	}
	if bytes200 > bytes1+4*10<<10 {
		t.Errorf("%.0f bytes allocated for 200 members, %.0f for one", bytes200, bytes1)
	}
}

func TestEmitErrors(t *testing.T) {
	noLeaks(t)
	h, boxes := newMailboxes(t, 2)
	s, gone := boxes[0], boxes[1]
	gone.drop()
	targets := map[string]Target{
		"everyone":  h.Except(),
		"nobody":    h.To(),
		"room":      h.To("room"),
		"no room":   h.To("no such room"),
		"socket":    s.alone(),
		"gone":      gone.alone(),
		"volatile":  s.Volatile(),
		"broadcast": s.Broadcast(),
	}
	anyError := errors.New("any")
	for _, test := range []struct {
		event string
		arg   any
		want  error
	}{
		{"connect", 1, ErrReserved},
		{"connect_error", 1, ErrReserved},
		{"disconnect", 1, ErrReserved},
		{"disconnecting", 1, ErrReserved},
		{"newListener", 1, ErrReserved},
		{"removeListener", 1, ErrReserved},
		{"", 1, anyError},
		{strings.Repeat("x", 257), 1, anyError},
		{"\xff", 1, anyError},
		{"x", make(chan int), anyError},
		{"x", func() {}, anyError},
		{"x", math.NaN(), anyError},
	} {
		for name, target := range targets {
			_, callErr := target.Call(t.Context(), test.event, 0, test.arg)
			for _, err := range []error{target.Emit(test.event, 0, test.arg), callErr} {
				if err == nil || test.want != anyError && !errors.Is(err, test.want) {
					t.Errorf("%s, %.20q, %T: %v", name, test.event, test.arg, err)
				}
			}
		}
	}
	if _, err := Call[int](t.Context(), gone, "disconnect"); !errors.Is(err, ErrReserved) {
		t.Errorf("Call[int]: %v", err)
	}
	if got := s.take(); len(got) != 0 {
		t.Errorf("with an error came %q", got)
	}
	for name, target := range targets {
		if err := target.Emit(strings.Repeat("x", 256), nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTargetsDoNotChange(t *testing.T) {
	noLeaks(t)
	h, boxes := newMailboxes(t, 3)
	a, b, c := boxes[0], boxes[1], boxes[2]
	base := h.To(a.id).To(b.id).Except(c.id)
	both, less := base.To(c.id, "x"), base.Except(a.id, "x")
	_, _ = base.To("twin", "y"), base.Except(b.id, "y")
	for _, test := range []struct {
		name   string
		target Target
		want   int
	}{
		{"base", base, 2},
		{"both", both, 2},
		{"less", less, 1},
		{"volatile, then a room", a.Volatile().To("room"), 2},
		{"one less itself", a.Volatile().Except("room"), 0},
		{"no rooms", a.To(), 0},
		{"no rooms more", h.To("room").To(), 3},
	} {
		if n, err := test.target.Count(t.Context()); n != test.want || err != nil {
			t.Errorf("%s: %d sockets, %v, want %d", test.name, n, err, test.want)
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := base.Count(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Count: %v", err)
	}
	if _, err := base.Sockets(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Sockets: %v", err)
	}
	base.Disconnect(t.Context())
	if n, _ := h.Count(t.Context()); n != 1 {
		t.Errorf("after Disconnect %d sockets are left", n)
	}
}
