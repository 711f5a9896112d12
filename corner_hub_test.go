package atrium

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Row 67: whatever a client sends as a text, it gets an answer or none, and is heard afterwards;
// what is not UTF-8 costs it the connection. Nobody else notices, and nothing panics.
func TestAnyEnvelope(t *testing.T) {
	seeds := []string{
		`{"event":"say","data":{"a":[1,-2.5e3,true,null,"\u00e9\n"]},"id":7}`,
		`{"event":"say","args":[1,"two",{}],"id":9007199254740991}`,
		`{"id":7,"error":{"message":"no","data":[]}}`,
		`{"id":0,"data":1}`,
	}
	const alphabet = "{}[]\":,\\u0019e+-.tfn \x00\x1f\x7f\u20ac"
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		logger, log := newLog()
		h := newHub(t, Options{Logger: logger})
		h.Handle("say", func(e *Event) {
			var v any
			if err := e.Bind(&v); err == nil {
				e.Args()
			}
		})
		srv := serve(t, k, h)
		c, bystander := srv.connect(t, nil), srv.connect(t, nil)
		for i := range 300 {
			r := rand.New(rand.NewPCG(uint64(i), 67))
			text := []byte(seeds[r.IntN(len(seeds))])
			for range r.IntN(4) {
				at, some := r.IntN(len(text)+1), alphabet[r.IntN(len(alphabet)):]
				switch r.IntN(3) {
				case 0:
					text = text[:at] // cut
				case 1:
					text = slices.Insert(text, at, []byte(some[:min(2, len(some))])...)
				case 2:
					text = slices.Concat(text[at:], text[:at]) // turned
				}
			}
			c.send(strings.ToValidUTF8(string(text), "\uFFFD"))
			c.send(`{"event":"settle","id":999}`)
			for m := c.next(); m != settled; m = c.next() {
				if !strings.HasPrefix(m, `{"event":"error"`) && !strings.HasPrefix(m, `{"id":`) {
					t.Fatalf("%q was answered with %s", text, m)
				}
			}
		}
		if got := log.String(); got != "" {
			t.Errorf("log: %s", got)
		}
		c.send("{\"event\":\"\xff\"}")
		c.wantClosed(StatusInvalidPayload)
		bystander.settle()
	})
}

// Row 68: an argument may be nested 128 levels deep, and a list may be as long as a message may be
// large.
func TestEnvelopeBounds(t *testing.T) {
	nested := func(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{Limits: Limits{MessageBytes: 100_000}})
		h.Handle("count", func(e *Event) { e.Reply(len(e.Args())) })
		srv := serve(t, k, h)
		c := srv.connect(t, nil)
		c.send(`{"event":"count","id":1,"data":` + nested(maxDepth) + `}`)
		c.want(`{"id":1,"data":1}`)
		for _, levels := range []int{maxDepth + 1, 20_000} {
			c.send(`{"event":"count","id":1,"data":` + nested(levels) + `}`)
			c.want(fmt.Sprintf(`{"id":1,"error":{"message":"invalid JSON at byte %d: expected at most 128 levels of nesting"}}`, len(`{"event":"count","id":1,"data":`)+maxDepth))
		}
		const head = `{"event":"count","id":1,"args":[`
		most := (100_000 - len(head) - len("0]}")) / len("0,")
		c.send(head + strings.Repeat("0,", most) + "0]}")
		c.want(fmt.Sprintf(`{"id":1,"data":%d}`, most+1))
		c.send(head + strings.Repeat("0,", most+1) + "0]}")
		c.wantClosed(StatusMessageTooBig)
	})
}

// Row 70: ids are the client's own affair. Two events with the same one are two answers with it,
// and an id that the hub uses for a question of its own is another's.
func TestDuplicateIDs(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		OnCall(h, "double", func(_ *Socket, n int) (int, error) { return 2 * n, nil })
		c, s := connected(t, h, serve(t, k, h))
		done := beginCall[string](t.Context(), s)
		c.want(asking(0))
		for n := range 3 {
			c.send(fmt.Sprintf(`{"event":"double","data":%d,"id":0}`, n))
		}
		for n := range 3 {
			c.want(fmt.Sprintf(`{"id":0,"data":%d}`, 2*n))
		}
		c.send(`{"event":"double","data":1,"id":9007199254740991}`)
		c.want(`{"id":9007199254740991,"data":2}`)
		c.send(`{"id":0,"data":"mine"}`)
		if o := within(t, done, "the answer"); o.v != "mine" || o.err != nil {
			t.Errorf("got %q, %v", o.v, o.err)
		}
		checkNoCalls(t, s)
	})
}

// Row 73: the last member leaves while others join. Whoever is in the room afterwards is reached
// through it, and when all have left there is none.
func TestLastMemberRaces(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		srv := serve(t, k, h)
		const sockets = 4
		var clients []*client
		var all []*Socket
		for range sockets {
			c, s := connected(t, h, srv)
			s.Leave("room")
			clients, all = append(clients, c), append(all, s)
		}
		for round := range 10 {
			var race sync.WaitGroup
			for i, s := range all {
				race.Go(func() {
					for range 50 {
						if err := s.Join("room"); err != nil {
							t.Error(err)
						}
						if i%2 == 0 { // through the hub, too
							h.To(s.ID()).Leave(t.Context(), "room")
						} else {
							s.Leave("room")
						}
					}
					if i >= sockets/2 {
						s.Join("room")
					}
				})
			}
			race.Wait()
			h.To("room").Emit("e", round)
			for i, c := range clients {
				if i >= sockets/2 {
					c.want(fmt.Sprintf(`{"event":"e","data":%d}`, round))
				}
				all[i].Leave("room")
			}
			if rooms := h.LocalRooms(); len(rooms) > 0 {
				t.Fatalf("left over: %v", rooms)
			}
		}
		for _, c := range clients {
			c.settle() // nothing more has come
		}
	})
}

// Row 74: handlers emit to everyone and to the room that they are leaving, join, disconnect others,
// and ask; all of them at once.
func TestEmitInsideHandlers(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		h.OnConnect(func(s *Socket) { s.Join("room"); h.To("room").Emit("joined") })
		h.OnDisconnect(func(s *Socket, _ Reason) { h.To("room").Emit("left"); s.Broadcast().Emit("left") })
		OnCall(h, "everything", func(s *Socket, _ any) (int, error) {
			s.Leave("room")
			err := errors.Join(h.To("room").Emit("said"), h.Emit("said"), s.Emit("said"), s.Join("room"), h.To("room").Join(t.Context(), "other"))
			h.To("room").Leave(t.Context(), "other")
			n, countErr := h.To("room").Count(s.Context())
			return n, errors.Join(err, countErr)
		})
		h.Handle("out", func(e *Event) { h.To("room").Disconnect(t.Context()) })
		srv := serve(t, k, h)
		const clients, times = 4, 10
		var heard []<-chan *string
		var all []*client
		for range clients {
			c := srv.connect(t, nil)
			all, heard = append(all, c), append(heard, c.listen())
		}
		for range times {
			for _, c := range all {
				c.send(`{"event":"everything","id":1}`)
			}
		}
		for _, c := range heard {
			for answers := 0; answers < times; {
				m := within(t, c, "an answer")
				if m == nil {
					t.Fatal("the connection has ended")
				}
				if strings.HasPrefix(*m, `{"id":1,"data":`) {
					answers++
				} else if !strings.HasPrefix(*m, `{"event":`) || strings.Contains(*m, "error") {
					t.Errorf("got %s", *m)
				}
			}
		}
		all[0].send(`{"event":"out"}`)
		for _, c := range heard {
			for m := within(t, c, "the end"); m != nil; m = within(t, c, "the end") {
			}
		}
	})
}

// Row 74: who leaves while broadcasts are under way gets nothing after Leave has returned, and the
// others get all of it, in order.
func TestLeaveDuringBroadcast(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		srv := serve(t, k, h)
		stayer, _ := connected(t, h, srv)
		leaver, s := connected(t, h, srv)
		const rounds, emits = 10, 20
		for round := range rounds {
			if err := s.Join("room"); err != nil {
				t.Fatal(err)
			}
			var emitting sync.WaitGroup
			emitting.Go(func() {
				for i := range emits {
					h.To("room").Emit("e", round, i)
				}
			})
			s.Leave("room")
			s.Emit("left", round)
			emitting.Wait()
			for i := range emits {
				stayer.want(fmt.Sprintf(`{"event":"e","args":[%d,%d]}`, round, i))
			}
			h.Emit("after", round)
			i := 0
			m := leaver.next()
			for ; m == fmt.Sprintf(`{"event":"e","args":[%d,%d]}`, round, i); i++ {
				m = leaver.next()
			}
			if m != fmt.Sprintf(`{"event":"left","data":%d}`, round) {
				t.Fatalf("got %s after %d messages of round %d", m, i, round)
			}
			leaver.want(fmt.Sprintf(`{"event":"after","data":%d}`, round))
			stayer.want(fmt.Sprintf(`{"event":"after","data":%d}`, round))
		}
	})
}

// Row 80: the rooms of one client are bounded, by a thousand unless an option says otherwise, and
// the bound is told.
func TestManyRooms(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		OnCall(h, "join", func(s *Socket, n int) (joined int, err error) {
			for i := range n {
				if err = s.Join(fmt.Sprint("room ", i)); err == nil {
					joined++
				} else if !errors.Is(err, ErrTooManyRooms) {
					t.Error(err)
				}
			}
			s.Set("joined", joined)
			return joined, err
		})
		c, s := connected(t, h, serve(t, k, h))
		c.send(`{"event":"join","data":10000,"id":1}`)
		c.want(`{"id":1,"error":{"message":"room: expected at most 1000 rooms, this would be number 1001"}}`)
		if joined, _ := Value[int](s, "joined"); joined != 999 || len(s.Rooms()) != 1000 || len(h.LocalRooms()) != 1000 {
			t.Errorf("joined %d, in %d of %d", joined, len(s.Rooms()), len(h.LocalRooms())) // it was in one before
		}
		c.CloseNow()
		eventually(t, "the rooms to go", func() bool { return len(h.LocalRooms()) == 0 })
	})
}
