package atrium

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// deed is something done to a client that is in the rooms "secret" and "hall".
type deed struct {
	name  string
	do    func(h *Hub, s *Socket) error // s is the one that it had when it came
	rooms []string                      // that it is in afterwards; it begins anew if this is nil
}

var (
	both = []string{"hall", "secret"}

	// These may be done on any node.
	deedsOfTargets = []deed{
		{"To(id).Disconnect", func(h *Hub, s *Socket) error { return h.To(s.ID()).Disconnect(context.Background()) }, nil},
		{"To(id).DisconnectWith", func(h *Hub, s *Socket) error {
			return h.To(s.ID()).DisconnectWith(context.Background(), 4001, "banned")
		}, nil},
		{"To(room).Disconnect", func(h *Hub, s *Socket) error { return h.To("secret").Disconnect(context.Background()) }, nil},
		{"To(id, room).Disconnect", func(h *Hub, s *Socket) error { return h.To("elsewhere", s.ID()).Disconnect(context.Background()) }, nil},
		{"everyone.Disconnect", func(h *Hub, s *Socket) error { return h.Except().Disconnect(context.Background()) }, nil},
		{"Except(other).Disconnect", func(h *Hub, s *Socket) error { return h.Except("elsewhere").Disconnect(context.Background()) }, nil},
		{"Except(room).Disconnect", func(h *Hub, s *Socket) error { return h.Except("secret").Disconnect(context.Background()) }, both},
		{"Except(id).Disconnect", func(h *Hub, s *Socket) error { return h.Except(s.ID()).Disconnect(context.Background()) }, both},
		{"To(room).Except(room).Disconnect", func(h *Hub, s *Socket) error { return h.To("secret").Except("hall").Disconnect(context.Background()) }, both},
		{"To(other).Disconnect", func(h *Hub, s *Socket) error { return h.To("elsewhere").Disconnect(context.Background()) }, both},
		{"nobody.Disconnect", func(h *Hub, s *Socket) error { return h.To().Disconnect(context.Background()) }, both},
		{"To(id).Leave", func(h *Hub, s *Socket) error { return h.To(s.ID()).Leave(context.Background(), "secret") }, []string{"hall"}},
		{"To(room).Leave", func(h *Hub, s *Socket) error { return h.To("hall").Leave(context.Background(), "secret", "elsewhere") }, []string{"hall"}},
		{"everyone.Leave", func(h *Hub, s *Socket) error { return h.Except().Leave(context.Background(), "secret", "hall") }, []string{}},
		{"Except(room).Leave", func(h *Hub, s *Socket) error { return h.Except("hall").Leave(context.Background(), "secret") }, both},
		{"To(id).Join", func(h *Hub, s *Socket) error { return h.To(s.ID()).Join(context.Background(), "more", "hall", s.ID()) }, []string{"hall", "more", "secret"}},
		{"To(room).Join", func(h *Hub, s *Socket) error { return h.To("secret").Join(context.Background(), "more") }, []string{"hall", "more", "secret"}},
		{"Except(room).Join", func(h *Hub, s *Socket) error { return h.Except("secret").Join(context.Background(), "more") }, both},
		{"Leave and Join", func(h *Hub, s *Socket) error {
			return errors.Join(h.To(s.ID()).Leave(context.Background(), "secret", "hall"), h.To(s.ID()).Join(context.Background(), "secret"))
		}, []string{"secret"}},
		{"Join of too many", func(h *Hub, s *Socket) error {
			return wantError(ErrTooManyRooms, h.To(s.ID()).Join(context.Background(), "1", "2", "3"))
		}, both},
		{"Join of an id", func(h *Hub, s *Socket) error {
			return wantError(ErrRoomName, h.To(s.ID()).Join(context.Background(), "more", newSocketID(h.node)))
		}, both},
	}
	deedsOfSockets = []deed{
		{"Disconnect", func(h *Hub, s *Socket) error { s.Disconnect(); return nil }, nil},
		{"DisconnectWith", func(h *Hub, s *Socket) error { return s.DisconnectWith(4001, "banned") }, nil},
		{"DisconnectClient", func(h *Hub, s *Socket) error { s.DisconnectClient(); return nil }, nil},
		{"Volatile().Disconnect", func(h *Hub, s *Socket) error { return s.Volatile().Disconnect(context.Background()) }, nil},
		{"Broadcast().Disconnect", func(h *Hub, s *Socket) error { return s.Broadcast().Disconnect(context.Background()) }, both},
		{"To(room).Leave", func(h *Hub, s *Socket) error { return s.To("secret").Leave(context.Background(), "secret") }, both},
		{"Leave", func(h *Hub, s *Socket) error { s.Leave("secret", "elsewhere"); return nil }, []string{"hall"}},
		{"Join", func(h *Hub, s *Socket) error { return s.Join("more", "more", s.ID()) }, []string{"hall", "more", "secret"}},
		{"Join of too many", func(h *Hub, s *Socket) error { return wantError(ErrTooManyRooms, s.Join("1", "2", "3")) }, both},
	}
)

// wantError returns nil if the error is the one that is wanted. From another node comes only its
// text.
func wantError(want, err error) error {
	if err == nil || !errors.Is(err, want) && !strings.Contains(err.Error(), "room: expected at most 4 rooms") && !strings.Contains(err.Error(), "is the id of another socket") {
		return fmt.Errorf("%w, want %w", err, want)
	}
	return nil
}

// awayWhen are the moments at which a client's connection has broken, and it is not back.
var awayWhen = []string{"away", "while its event is handled", "in OnDisconnect", "while it is coming back", "back"}

// away brings a guest to such a moment. After resume it comes back, or is.
func (l *recoveryHub) away(t testing.TB, when string) (g *recoveryClient, resume func() *recoveryClient) {
	entered, release := make(chan bool), make(chan bool)
	l.Handle("slow", func(*Event) { close(entered); <-release })
	if when == "in OnDisconnect" {
		l.OnDisconnect(func(*Socket, Reason) { close(entered); <-release })
	}
	g = l.enter(t, "")
	if err := g.socket.Join(both...); err != nil {
		t.Fatal(err)
	}
	comeBack := func() *recoveryClient { return l.enter(t, proof(g.pid, "")) }
	switch when {
	case "away":
		l.cut(g)
		return g, comeBack
	case "back":
		l.cut(g)
		back := comeBack()
		return g, func() *recoveryClient { return back }
	case "in OnDisconnect":
		g.CloseNow()
		within(t, entered, "OnDisconnect")
		within(t, l.went, "OnDisconnect")
	default:
		g.send(`42["slow"]`)
		within(t, entered, "the event")
		g.CloseNow()
		within(t, g.socket.Context().Done(), "the end")
	}
	if when != "while it is coming back" {
		return g, func() *recoveryClient { close(release); return comeBack() }
	}
	back := &recoveryClient{ioClient: l.socketIO(t)}
	back.send("40" + proof(g.pid, ""))
	r := l.recovery
	eventually(t, "the claim", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.byPID[g.pid].claim != nil
	})
	return g, func() *recoveryClient {
		close(release)
		back.hello()
		back.socket = within(t, l.came, "OnConnect")
		return back
	}
}

// What is done to a client whose connection is broken holds when it is back, at whatever moment it
// is done: clients that were disconnected came back as if nothing had been, and those that were
// taken out of a room got its secrets.
func TestDoneToWhoIsAway(t *testing.T) {
	for _, where := range []string{"here", "on another node"} {
		for _, when := range awayWhen {
			deeds := deedsOfTargets
			if where == "here" {
				deeds = slices.Concat(deedsOfTargets, deedsOfSockets)
			}
			for _, d := range deeds {
				t.Run(where+"/"+when+"/"+d.name, func(t *testing.T) {
					noLeaks(t)
					var l *recoveryHub
					var on *Hub
					if where == "here" {
						l = newRecoveryHub(t, overPipe, Options{Limits: Limits{Rooms: 4}})
						on = l.Hub
					} else {
						l, on = newRecoveryHubs(t, overPipe, Options{Limits: Limits{Rooms: 4}})
					}
					d.check(t, l, on, when)
				})
			}
		}
	}
}

// keeps reports whether an event of that name is kept.
func (r *recovery) keeps(event string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.events.items[r.events.head:], func(e keptEvent) bool {
		return strings.Contains(string(e.form.payload), fmt.Sprintf(`[%q,`, event))
	})
}

func (d *deed) check(t *testing.T, l *recoveryHub, on *Hub, when string) {
	used := 0
	l.Use(func(s *Socket) error { used++; return nil })
	g, resume := l.away(t, when)
	if err := d.do(on, g.socket); err != nil {
		t.Fatal(err)
	}
	r := l.recovery
	if when != "back" {
		r.check(t)
		if n, _ := l.Count(t.Context()); n != 0 {
			t.Errorf("%d sockets while it is away", n)
		}
	}
	on.To("secret").Emit("secret")
	on.To("more").Emit("more")
	if when != "back" {
		on.Except("hall").Emit("outside")
	}
	on.Emit("end")
	if on != l.Hub && when != "back" && d.rooms != nil {
		eventually(t, "the events to come", func() bool {
			return r.keeps("end") && r.keeps("outside") && r.keeps("more") == slices.Contains(d.rooms, "more") &&
				(r.keeps("secret") || !slices.Contains(d.rooms, "secret"))
		})
	}
	back := resume()
	if d.rooms == nil {
		if when == "back" {
			for m := back.next(); m != "41" && !strings.HasPrefix(m, `42["disconnect_reason"`); m = back.next() {
				t.Fatalf("got %s", m)
			}
			if l.Namespace.socket(g.id) != nil {
				t.Error("it is there")
			}
			back = l.enter(t, proof(g.pid, ""))
		}
		if back.id == g.id || back.socket.Recovered() || used != 2 || len(back.missed) > 0 {
			t.Errorf("it is back as %s, which was %s; used %d times, missed %q", back.id, g.id, used, back.missed)
		}
		return
	}
	if back.id != g.id || !back.socket.Recovered() || used != 1 {
		t.Errorf("it is back as %s, which was %s; used %d times", back.id, g.id, used)
	}
	if diff := cmp.Diff(d.rooms, back.socket.Rooms()); diff != "" {
		t.Error(diff)
	}
	var want []string
	for _, room := range []string{"secret", "more"} {
		if slices.Contains(d.rooms, room) {
			want = append(want, fmt.Sprintf(`42[%q]`, room))
		}
	}
	if !slices.Contains(d.rooms, "hall") && when != "back" {
		want = append(want, `42["outside"]`)
	}
	want = append(want, `42["end"]`)
	for when == "back" && len(back.missed) < len(want) {
		back.missed = append(back.missed, back.next())
	}
	got := bare(t, back.missed)
	if on != l.Hub { // by topics of their own
		slices.Sort(got)
		slices.Sort(want)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, in := l.recovery.away[g.id]; in {
		t.Error("it is held for away")
	}
	l.recovery.check(t)
}

// A token that expires while its owner is away is no way back, and one that is renewed meanwhile
// is.
func TestDisconnectAtWhileAway(t *testing.T) {
	for _, when := range []string{"away", "while its event is handled", "in OnDisconnect"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, test := range []struct {
					name          string
					before, after time.Duration // zero is none
					stays         bool
				}{
					{"it is set while away", 0, 10 * time.Second, false},
					{"it is brought forward", time.Hour, 10 * time.Second, false},
					{"it is put off", 10 * time.Second, time.Hour, true},
					{"it is taken back", 10 * time.Second, 0, true},
				} {
					l := newRecoveryHub(t, overPipe, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
					at := func(d time.Duration) (when time.Time) {
						if d != 0 {
							when = time.Now().Add(d)
						}
						return when
					}
					l.OnConnect(func(s *Socket) {
						if !s.Recovered() {
							s.DisconnectAt(at(test.before))
						}
					})
					g, resume := l.away(t, when)
					g.socket.DisconnectAt(at(test.after))
					time.Sleep(30 * time.Second)
					r := l.recovery
					if r.check(t); (len(r.byPID) == 1) != test.stays {
						t.Errorf("%s: %d sessions are kept", test.name, len(r.byPID))
					}
					back := resume()
					if (back.id == g.id) != test.stays {
						t.Errorf("%s: it was %s, and is %s", test.name, g.id, back.id)
					}
				}
			})
		})
	}
}

// DisconnectAt of the Socket that a client had before it came back is that of the one it has.
func TestDisconnectAtOfTheSocketBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRecoveryHub(t, overPipe, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
		g := l.enter(t, "")
		g.socket.DisconnectAt(time.Now().Add(time.Hour))
		l.cut(g)
		back := l.enter(t, proof(g.pid, ""))
		g.socket.DisconnectAt(time.Now().Add(10 * time.Second))
		time.Sleep(11 * time.Second)
		back.want("41")
		if fresh := l.enter(t, proof(g.pid, "")); fresh.id == g.id {
			t.Error("it came back")
		}
	})
}

// DisconnectClient ends all that the client has, in every namespace, be it away or back in some of
// them.
func TestDisconnectClientWhileAway(t *testing.T) {
	for _, back := range []string{"nowhere", "in the main namespace", "in the other one"} {
		t.Run(back, func(t *testing.T) {
			noLeaks(t)
			l := newRecoveryHub(t, overTCP, Options{})
			admin := l.Of("/admin")
			came, went := make(chan *Socket, 10), make(chan Reason, 10)
			admin.OnConnect(func(s *Socket) { came <- s })
			admin.OnDisconnect(func(_ *Socket, why Reason) { went <- why })
			g := l.enter(t, "")
			g.send("40/admin,")
			_, pid, _ := strings.Cut(g.next(), `"pid":"`)
			pid = strings.TrimSuffix(pid, `"}`)
			other := within(t, came, "OnConnect")
			l.cut(g)
			within(t, went, "OnDisconnect")
			c := l.socketIO(t)
			switch back {
			case "in the main namespace":
				c.send("40" + proof(g.pid, ""))
				c.next()
				within(t, l.came, "OnConnect")
			case "in the other one":
				c.send("40/admin," + proof(pid, ""))
				c.next()
				within(t, came, "OnConnect")
			}
			g.socket.DisconnectClient()
			for err := error(nil); back != "nowhere" && err == nil; {
				_, _, err = c.Read(t.Context())
			}
			for _, s := range []*Socket{g.socket, other} {
				r := s.ns.recovery
				r.mu.Lock()
				if len(r.byPID) != 0 || s.ns.socket(s.id) != nil {
					t.Errorf("%s may come back to %s", s.id, s.ns.name)
				}
				r.mu.Unlock()
			}
		})
	}
}

// What is Set on a Socket whose client is away, or back as another, is there for that one, too.
func TestSetWhileAway(t *testing.T) {
	for _, when := range awayWhen {
		t.Run(when, func(t *testing.T) {
			noLeaks(t)
			l := newRecoveryHub(t, overPipe, Options{})
			g, resume := l.away(t, when)
			g.socket.Set("token", "new")
			if err := g.socket.SetPublic("name", "Ada"); err != nil {
				t.Error(err)
			}
			back := resume()
			token, _ := Value[string](back.socket, "token")
			name, _ := Value[string](back.socket, "name")
			if token != "new" || name != "Ada" {
				t.Errorf("the values are %q and %q", token, name)
			}
			back.socket.Set("token", "newer")
			if token, _ := Value[string](g.socket, "token"); token != "newer" {
				t.Errorf("the old socket has %q", token)
			}
		})
	}
}

// A client gets what it had not got yet of rooms that it has left since, and nothing that excepted
// them. Not so many are remembered, and a client that has left more begins anew if it misses an
// event from before.
func TestRecoveryOfRoomsThatWereLeft(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{})
	for _, test := range []struct {
		rooms int
		stays bool
	}{{1, true}, {maxLapsed, true}, {maxLapsed + 1, false}} {
		g := l.enter(t, "")
		l.Emit("first")
		first := g.next()
		var want []string
		for i := range test.rooms {
			room := fmt.Sprint("room ", i)
			g.socket.Join(room)
			l.To(room).Emit("in", i)
			l.Except(room).Emit("not for it")
			g.socket.Leave(room)
			l.To(room).Emit("not for it")
			want = append(want, fmt.Sprintf(`42["in",%d]`, i))
		}
		l.cut(g)
		back := l.enter(t, proof(g.pid, offsetOf(t, first)))
		if (back.id == g.id) != test.stays {
			t.Errorf("%d rooms: it was %s, and is %s", test.rooms, g.id, back.id)
		}
		if test.stays {
			wantMissed(t, back, want...)
		}
		l.recovery.check(t)
		l.cut(back)
	}
}

// What is kept of one who is away stays within the bound, whatever rooms it is put into.
func TestRecoveryBytesOfWhoIsAway(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{Recovery: Recovery{MaxBytes: 20 << 10}})
	l.enter(t, "") // stays
	g := l.enter(t, "")
	l.cut(g)
	r := l.recovery
	for i := range 200 {
		g.socket.Join(fmt.Sprint(i, strings.Repeat("x", 200)))
		r.check(t)
		l.Emit("n")
		if i%3 == 0 {
			g.socket.Leave(fmt.Sprint(i, strings.Repeat("x", 200)))
			r.check(t)
		}
	}
	if back := l.enter(t, proof(g.pid, "")); back.id == g.id {
		t.Error("it came back though it took more than there is room for")
	}
}
