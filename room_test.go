package atrium

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// modelMember is what TestRoomsModel believes of one socket.
type modelMember struct {
	mailbox
	live  bool
	user  string
	rooms map[string]bool
}

func (m *modelMember) inAny(names []string) bool {
	return m.live && slices.ContainsFunc(names, func(name string) bool { return name == m.id || m.rooms[name] })
}

// is reports whether the socket is of one of the users.
func (m *modelMember) is(users []string) bool {
	return m.live && m.user != "" && slices.Contains(users, m.user)
}

type roomsModel struct {
	t    *testing.T
	h    *Hub
	rng  *rand.Rand
	all  []*modelMember
	step int
}

var modelRooms = []string{"a", "b", "c", "d", "e", "ü f"}

func (m *roomsModel) live() (live []*modelMember) {
	for _, s := range m.all {
		if s.live {
			live = append(live, s)
		}
	}
	return live
}

func (m *roomsModel) someRooms(most int) (names []string) {
	for range m.rng.IntN(most + 1) {
		names = append(names, modelRooms[m.rng.IntN(len(modelRooms))])
	}
	return names
}

// someNames are rooms and ids, of the living and the dead.
func (m *roomsModel) someNames(most int) []string {
	names := m.someRooms(most)
	for i := range names {
		if m.rng.IntN(3) == 0 {
			names[i] = m.all[m.rng.IntN(len(m.all))].id
		}
	}
	return names
}

// enter adds a socket of no user, or of one whose id is the name of a room.
func (m *roomsModel) enter() {
	users := append(modelRooms[:3:3], "")
	user := users[m.rng.IntN(len(users))]
	m.all = append(m.all, &modelMember{newMailboxOf(m.t, m.h, user), true, user, map[string]bool{}})
}

func (m *roomsModel) change() {
	s := m.all[m.rng.IntN(len(m.all))]
	switch op := m.rng.IntN(20); {
	case op < 9:
		names := m.someRooms(3)
		if err := s.Join(names...); err != nil {
			m.t.Fatalf("step %d: %v", m.step, err)
		}
		for _, name := range names {
			if s.live {
				s.rooms[name] = true
			}
		}
	case op < 16:
		names := m.someNames(3)
		s.Leave(names...)
		for _, name := range names {
			if s.live {
				delete(s.rooms, name)
			}
		}
	case op < 17 && s.live:
		s.drop()
		s.live = false
	case len(m.live()) < 2*fewMembers: // so that rooms get an index, or need none
		m.enter()
	}
}

// emit emits to a random target and checks who got it.
func (m *roomsModel) emit() {
	var (
		target Target
		what   string
		to     = func(*modelMember) bool { return true }
		sender = m.all[m.rng.IntN(len(m.all))]
	)
	names := m.someNames(3)
	toNames := func(s *modelMember) bool { return s.inAny(names) }
	others := func(s *modelMember) bool { return s != sender }
	switch m.rng.IntN(8) {
	case 0:
		target, what = m.h.Except(), "everyone"
	case 1:
		target, what, to = m.h.To(names...), fmt.Sprintf("To%q", names), toNames
	case 2:
		target, what = sender.To(names...), fmt.Sprintf("%s.To%q", sender.id, names)
		to = func(s *modelMember) bool { return others(s) && toNames(s) }
	case 3:
		target, what, to = sender.Broadcast(), sender.id+".Broadcast", others
	case 4:
		more := m.someNames(2)
		target, what = m.h.To(names...).To(more...), fmt.Sprintf("To%q.To%q", names, more)
		to = func(s *modelMember) bool { return s.inAny(names) || s.inAny(more) }
	case 6:
		target, what = m.h.ToUser(names...), fmt.Sprintf("ToUser%q", names)
		to = func(s *modelMember) bool { return s.is(names) }
	case 7:
		more := m.someNames(2)
		target, what = sender.ToUser(names...).To(more...), fmt.Sprintf("%s.ToUser%q.To%q", sender.id, names, more)
		to = func(s *modelMember) bool { return others(s) && (s.is(names) || s.inAny(more)) }
	case 5:
		target, what = sender.alone(), sender.id
		to = func(s *modelMember) bool { return s == sender }
	}
	if m.rng.IntN(4) == 0 {
		except := m.someNames(2)
		target, what = target.ExceptUser(except...), what+fmt.Sprintf(".ExceptUser%q", except)
		before := to
		to = func(s *modelMember) bool { return before(s) && !s.is(except) }
	}
	if m.rng.IntN(2) == 0 {
		except := m.someNames(2)
		target, what = target.Except(except...), what+fmt.Sprintf(".Except%q", except)
		before := to
		to = func(s *modelMember) bool { return before(s) && !s.inAny(except) }
	}
	if err := target.Emit("step", m.step); err != nil {
		m.t.Fatal(err)
	}
	want := []string{fmt.Sprintf(`{"event":"step","data":%d}`, m.step)}
	var ids []string
	for _, s := range m.all {
		reached := s.live && to(s)
		if reached {
			ids = append(ids, s.id)
		}
		if got := s.take(); reached && !slices.Equal(got, want) || !reached && len(got) > 0 {
			m.t.Fatalf("step %d, %s: %s got %q, should be reached: %t", m.step, what, s.id, got, reached)
		}
	}
	m.checkTarget(what, target, ids)
}

// checkTarget checks that the target is of these sockets, whatever their order.
func (m *roomsModel) checkTarget(what string, target Target, ids []string) {
	if n, err := target.Count(context.Background()); n != len(ids) || err != nil {
		m.t.Fatalf("step %d, %s: Count is %d, %v, want %d", m.step, what, n, err, len(ids))
	}
	infos, err := target.Sockets(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	var got []string
	for _, info := range infos {
		got = append(got, info.ID)
		i := slices.IndexFunc(m.all, func(s *modelMember) bool { return s.id == info.ID })
		if want := slices.Sorted(maps.Keys(m.all[i].rooms)); !slices.Equal(info.Rooms, want) {
			m.t.Fatalf("step %d, %s: Sockets has %s in %q, want %q", m.step, what, info.ID, info.Rooms, want)
		}
	}
	if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(ids))) {
		m.t.Fatalf("step %d, %s: Sockets has %q, want %q", m.step, what, got, ids)
	}
}

func (m *roomsModel) check() {
	var rooms []RoomInfo
	for _, name := range modelRooms {
		var ids []string
		for _, s := range m.all {
			if s.live && s.rooms[name] {
				ids = append(ids, s.id)
			}
		}
		if len(ids) > 0 {
			rooms = append(rooms, RoomInfo{name, len(ids)})
		}
		m.checkTarget(name, m.h.To(name), ids)
	}
	slices.SortFunc(rooms, func(a, b RoomInfo) int { return cmp.Compare(a.Name, b.Name) })
	if got := m.h.LocalRooms(); !slices.Equal(got, rooms) {
		m.t.Fatalf("step %d: Rooms: %v, want %v", m.step, got, rooms)
	}
	for _, s := range m.all {
		if got, want := s.Rooms(), slices.Sorted(maps.Keys(s.rooms)); !slices.Equal(got, want) {
			m.t.Fatalf("step %d: %s is in %q, want %q", m.step, s.id, got, want)
		}
		for _, name := range modelRooms {
			if s.In(name) != s.rooms[name] {
				m.t.Fatalf("step %d: %s.In(%q) is %t", m.step, s.id, name, s.In(name))
			}
		}
	}
}

func TestRoomsModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			noLeaks(t)
			m := &roomsModel{t: t, h: newHub(t, Options{}), rng: rand.New(rand.NewPCG(seed, 1))}
			t.Cleanup(func() {
				for _, s := range m.live() {
					s.drop()
				}
			})
			for range 3 {
				m.enter()
			}
			for m.step = range 1000 {
				if m.rng.IntN(2) == 0 {
					m.change()
				} else {
					m.emit()
				}
				m.check()
			}
		})
	}
}

func TestRoomsConcurrent(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	const sockets, workers, steps = 24, 8, 600
	var all []mailbox
	for range sockets {
		all = append(all, newMailbox(t, h))
	}
	t.Cleanup(func() {
		for _, s := range all[sockets/2:] {
			s.drop()
		}
	})
	var dropped [sockets / 2]sync.Once
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 2))
			for range steps {
				i := rng.IntN(sockets)
				s, a, b := all[i], modelRooms[rng.IntN(6)], modelRooms[rng.IntN(6)]
				switch op := rng.IntN(100); {
				case op < 35:
					if err := s.Join(a, b); err != nil {
						t.Error(err)
					}
				case op < 70:
					s.Leave(a, b)
				case op < 80:
					s.To(a, b).Emit("x")
				case op < 85:
					h.Except(a).Emit("x")
				case op < 90:
					h.To(a).Leave(t.Context(), b)
				case op < 95:
					if err := h.To(a).Join(t.Context(), b); err != nil {
						t.Error(err)
					}
				case op < 99:
					h.LocalRooms()
					h.Sockets(t.Context())
				case i < sockets/2:
					dropped[i].Do(s.drop)
				}
			}
		})
	}
	wg.Wait()
	for i := range dropped {
		dropped[i].Do(all[i].drop)
	}
	// The first half has gone; each of the others is a member of exactly the rooms that it says it
	// is in.
	members := make(map[string]int)
	for i, s := range all {
		s.take()
		for _, name := range s.Rooms() {
			if i >= sockets/2 {
				members[name]++
			}
		}
	}
	for _, name := range modelRooms {
		h.To(name).Emit("final", name)
	}
	for i, s := range all {
		var want []string
		for _, name := range modelRooms {
			if i >= sockets/2 && s.In(name) {
				want = append(want, fmt.Sprintf(`{"event":"final","data":%q}`, name))
			}
		}
		if got := s.take(); !slices.Equal(got, want) {
			t.Errorf("socket %d got %q, want %q", i, got, want)
		}
	}
	got := make(map[string]int)
	for _, r := range h.LocalRooms() {
		got[r.Name] = r.Sockets
	}
	if !maps.Equal(got, members) {
		t.Errorf("Rooms: %v, want %v", got, members)
	}
	for _, s := range all[sockets/2:] {
		s.Leave(modelRooms...)
	}
	if len(h.rooms) != 0 {
		t.Errorf("%d rooms without members", len(h.rooms))
	}
}

func TestLeaveIsFinal(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	s, other := newMailbox(t, h), newMailbox(t, h)
	t.Cleanup(s.drop)
	t.Cleanup(other.drop)
	if err := other.Join("r", "q"); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	emitted := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				h.To("r").Emit("x")
				h.To("q", "r").Except("nobody").Emit("x")
				select {
				case emitted <- struct{}{}: // in lockstep, or the queues grow
				case <-stop:
					return
				}
			}
		})
	}
	reached := 0
	for range 300 {
		if err := s.Join("r"); err != nil {
			t.Fatal(err)
		}
		<-emitted
		s.Leave("r")
		reached += len(s.take())
		for range 6 {
			<-emitted
		}
		if got := s.take(); len(got) != 0 {
			t.Errorf("after Leave came %q", got)
			break
		}
		other.take()
	}
	close(stop)
	wg.Wait()
	if reached == 0 {
		t.Error("nothing was ever received")
	}
}

func TestJoinRefuses(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{Limits: Limits{Rooms: 3}})
	s, other := newMailbox(t, h), newMailbox(t, h)
	t.Cleanup(s.drop)
	long := strings.Repeat("x", 256)
	for _, test := range []struct {
		names []string
		want  error
	}{
		{[]string{"new", ""}, ErrRoomName},
		{[]string{"new", long + "x"}, ErrRoomName},
		{[]string{"new", "\xff"}, ErrRoomName},
		{[]string{"new", other.id}, ErrRoomName},
		{[]string{"new", "1", "2", "3"}, ErrTooManyRooms},
	} {
		if err := s.Join(test.names...); !errors.Is(err, test.want) {
			t.Errorf("Join %.30q: %v, want %v", test.names, err, test.want)
		}
		if err := h.To(s.id).Join(t.Context(), test.names...); !errors.Is(err, test.want) {
			t.Errorf("Target.Join %.30q: %v, want %v", test.names, err, test.want)
		}
		if len(s.Rooms()) != 0 || len(h.LocalRooms()) != 0 {
			t.Errorf("Join %.30q: the socket is in %q, the hub has %v", test.names, s.Rooms(), h.LocalRooms())
		}
	}
	// What is named twice or is there already counts once, and the socket's own id is no room.
	for range 2 {
		if err := s.Join(long, "a", "a", s.id, "b"); err != nil {
			t.Error(err)
		}
	}
	if err := s.Join("c"); !errors.Is(err, ErrTooManyRooms) {
		t.Errorf("a fourth room: %v", err)
	}
	if got := s.Rooms(); !slices.Equal(got, []string{"a", "b", long}) {
		t.Errorf("Rooms: %q", got)
	}
	s.Leave("a", s.id, "never joined")
	if err := s.Join("c"); err != nil {
		t.Error(err)
	}
	// The id of one that has gone, or of a hub that is not known, is an id.
	other.drop()
	s.Leave("b")
	for _, id := range []string{other.id, newSocketID("other")} {
		if err := s.Join(id); !errors.Is(err, ErrRoomName) {
			t.Errorf("joining %s: %v", id, err)
		}
	}
}

func TestRoomsAroundAConnection(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{Limits: Limits{Rooms: 2}})
		h.Use(func(s *Socket) error {
			if err := s.Join("early", "dropped"); err != nil {
				t.Error(err)
			}
			if err := s.Join("third"); !errors.Is(err, ErrTooManyRooms) {
				t.Errorf("a third room inside Use: %v", err)
			}
			s.Leave("dropped")
			if got := h.LocalRooms(); len(got) != 0 {
				t.Errorf("inside Use there are the rooms %v", got)
			}
			return h.To("early").Emit("lost") // nobody is there yet
		})
		h.OnConnect(func(s *Socket) { h.To("early", "dropped").Emit("hello", s.Rooms()) })
		left := make(chan *Socket, 1)
		h.OnDisconnect(func(s *Socket, _ Reason) {
			if got := s.Rooms(); !slices.Equal(got, []string{"early"}) || !s.In("early") {
				t.Errorf("in OnDisconnect, Rooms: %q", got)
			}
			if got := h.LocalRooms(); len(got) != 0 {
				t.Errorf("after the disconnect there are the rooms %v", got)
			}
			left <- s
		})
		c := serve(t, k, h).connect(t, nil)
		c.want(`{"event":"hello","data":["early"]}`)
		c.CloseNow()
		s := within(t, left, "OnDisconnect")
		if err := s.Join("late"); err != nil {
			t.Error(err)
		}
		s.Leave("early")
		if got := s.Rooms(); !slices.Equal(got, []string{"early"}) || len(h.LocalRooms()) != 0 {
			t.Errorf("after all, Rooms: %q, and the hub's %v", got, h.LocalRooms())
		}
	})
}
