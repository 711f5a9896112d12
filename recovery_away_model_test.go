package atrium

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// awayModel is what TestAwayModel believes of clients that come and go.
type awayModel struct {
	t     *testing.T
	l     *recoveryHub
	hubs  []*Hub
	rng   *rand.Rand
	all   []*modelGuest
	event int
}

// modelGuest is one of them.
type modelGuest struct {
	*recoveryClient
	first  *Socket // that it had when it was new; nil while a hub has it that it has not been on
	away   bool
	rooms  map[string]bool
	mail   []string // what it has to get yet
	offset string   // of the last that it got
}

func (g *modelGuest) inAny(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return name == g.id || g.rooms[name] })
}

func (m *awayModel) same(g *modelGuest, want, got []string) {
	m.t.Helper()
	if !slices.Equal(got, want) {
		m.t.Fatalf("event %d, %s: got %q, want %q", m.event, g.id, got, want)
	}
}

// enter lets a new client in.
func (m *awayModel) enter() {
	g := m.l.enter(m.t, "")
	m.all = append(m.all, &modelGuest{recoveryClient: g, first: g.socket, rooms: make(map[string]bool)})
}

// read has the client read some of what it has to get.
func (m *awayModel) read(g *modelGuest, n int) {
	for _, want := range g.mail[:n] {
		got := g.next()
		m.same(g, []string{want}, bare(m.t, []string{got}))
		g.offset = offsetOf(m.t, got)
	}
	g.mail = g.mail[n:]
}

// comeBack has the client come back, who must find all as the model has it.
func (m *awayModel) comeBack(g *modelGuest) {
	back := m.l.enter(m.t, proof(g.pid, g.offset))
	if back.id != g.id || !back.socket.Recovered() {
		m.t.Fatalf("event %d: %s is back as %s", m.event, g.id, back.id)
	}
	m.same(g, g.mail, bare(m.t, back.missed))
	if n := len(back.missed); n > 0 {
		g.offset = offsetOf(m.t, back.missed[n-1])
	}
	g.recoveryClient, g.away, g.mail = back, false, nil
	if g.first == nil {
		g.first = back.socket
	}
	m.same(g, slices.Sorted(maps.Keys(g.rooms)), back.socket.Rooms())
}

// forget checks that clients that were disconnected begin anew.
func (m *awayModel) forget(gone []*modelGuest) {
	for _, g := range gone {
		if !g.away {
			m.read(g, len(g.mail))
			g.want("41")
			within(m.t, m.l.went, "OnDisconnect")
			g.CloseNow()
		}
		if back := m.l.enter(m.t, proof(g.pid, g.offset)); back.id == g.id || len(back.missed) > 0 {
			m.t.Fatalf("event %d: %s was disconnected, and is back with %q", m.event, g.id, back.missed)
		} else {
			*g = modelGuest{recoveryClient: back, first: back.socket, rooms: make(map[string]bool)}
		}
	}
}

func (m *awayModel) someRooms(most int) (names []string) {
	for range m.rng.IntN(most + 1) {
		names = append(names, modelRooms[m.rng.IntN(len(modelRooms))])
	}
	return names
}

func (m *awayModel) someNames(most int) []string {
	names := m.someRooms(most)
	for i := range names {
		if m.rng.IntN(4) == 0 {
			names[i] = m.all[m.rng.IntN(len(m.all))].id
		}
	}
	return names
}

// target is a random one on any node, and who belongs to it.
func (m *awayModel) target() (target Target, on *Hub, whom []*modelGuest) {
	on = m.hubs[m.rng.IntN(len(m.hubs))]
	target = Target{ns: on.Namespace}
	in := func(*modelGuest) bool { return true }
	if m.rng.IntN(4) > 0 {
		names := m.someNames(3)
		target, in = target.To(names...), func(g *modelGuest) bool { return g.inAny(names) }
	}
	except := m.someNames(2)
	target = target.Except(except...)
	for _, g := range m.all {
		if in(g) && !g.inAny(except) {
			whom = append(whom, g)
		}
	}
	return target, on, whom
}

func (m *awayModel) emit() {
	target, on, whom := m.target()
	m.event++
	if err := target.Emit("n", m.event); err != nil {
		m.t.Fatal(err)
	}
	for _, g := range whom {
		g.mail = append(g.mail, fmt.Sprintf(`42["n",%d]`, m.event))
	}
	if on != m.l.Hub { // what is done next may be done by another topic
		if err := target.Leave(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
	}
}

// act does something to a target, or to one by the Socket that it had first.
func (m *awayModel) act() {
	target, _, whom := m.target()
	ctx := m.t.Context()
	join := func(rooms ...string) error { return target.Join(ctx, rooms...) }
	leave := func(rooms ...string) error { return target.Leave(ctx, rooms...) }
	disconnect := func() error { return target.Disconnect(ctx) }
	if g := m.all[m.rng.IntN(len(m.all))]; g.first != nil && m.rng.IntN(3) == 0 {
		whom = []*modelGuest{g}
		join = g.first.Join
		leave = func(rooms ...string) error { g.first.Leave(rooms...); return nil }
		disconnect = func() error { g.first.Disconnect(); return nil }
	}
	rooms := m.someRooms(3)
	var err error
	switch op := m.rng.IntN(20); {
	case op < 10:
		err = join(rooms...)
		for _, g := range whom {
			for _, name := range rooms {
				g.rooms[name] = true
			}
		}
	case op < 19:
		err = leave(rooms...)
		for _, g := range whom {
			for _, name := range rooms {
				delete(g.rooms, name)
			}
		}
	default:
		err = disconnect()
		m.forget(whom)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *awayModel) step() {
	g := m.all[m.rng.IntN(len(m.all))]
	switch op := m.rng.IntN(20); {
	case op < 8:
		m.emit()
	case op < 14:
		m.act()
	case op < 16 && !g.away:
		m.read(g, m.rng.IntN(len(g.mail)+1))
	case op < 18 && !g.away:
		m.l.cut(g.recoveryClient)
		g.away = true
	case g.away:
		m.comeBack(g)
	}
	m.l.recovery.check(m.t)
	live := 0
	for _, g := range m.all {
		if !g.away {
			live++
			m.same(g, slices.Sorted(maps.Keys(g.rooms)), g.socket.Rooms())
		}
	}
	if n, err := m.hubs[0].Count(m.t.Context()); n != live || err != nil {
		m.t.Fatalf("event %d: %d are there, want %d; %v", m.event, n, live, err)
	}
}

// Whatever is done to clients that come and go, on their own node and on another, they are where an
// obvious map has them, and get each event that is for them once, in order.
func TestAwayModel(t *testing.T) {
	for _, nodes := range []int{1, 2} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%d nodes, seed %d", nodes, seed), func(t *testing.T) {
				noLeaks(t)
				m := &awayModel{t: t, rng: rand.New(rand.NewPCG(seed, uint64(nodes)))}
				if nodes == 1 {
					m.l = newRecoveryHub(t, overPipe, Options{})
					m.hubs = []*Hub{m.l.Hub}
				} else {
					var other *Hub
					m.l, other = newRecoveryHubs(t, overPipe, Options{})
					m.hubs = []*Hub{m.l.Hub, other}
				}
				for range 5 {
					m.enter()
				}
				for range 600 {
					m.step()
				}
				for _, g := range m.all {
					if g.away {
						m.comeBack(g)
					}
					m.read(g, len(g.mail))
				}
			})
		}
	}
}
