package bustest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/atriumtest"
)

// RunCluster runs the same random traffic on one hub and on three that a Bus connects, and compares
// what each member has received: joins and leaves by sockets and by targets, then events to
// everyone, rooms, several rooms, single sockets and all of these with exceptions, with and without
// a sender. Then it tests that what a goroutine emits to a target arrives before what it asks of
// the target afterwards. It opens no files.
//
// join is as for [Run]. There should be at least three members for each room, and three rooms.
func RunCluster(t *testing.T, members, rooms int, join func(t testing.TB) atrium.Bus) {
	seed := rand.Uint64()
	t.Logf("seed %#x", seed)
	alone := newCluster(t, members, atrium.New(atrium.Options{}))
	want := alone.play(seed, rooms, nil)
	alone.end()

	hubs := make([]*atrium.Hub, 3)
	for i := range hubs {
		hubs[i] = atrium.New(atrium.Options{Bus: join(t)})
	}
	await(t, "the nodes to know each other", func() bool {
		return !slices.ContainsFunc(hubs, func(h *atrium.Hub) bool { return len(h.Nodes().List()) != len(hubs)-1 })
	})
	c := newCluster(t, members, hubs...)
	got := c.play(seed, rooms, want)
	for i := range members {
		compare(t, i, want[i], got[i])
	}
	for _, h := range hubs {
		if s := h.Nodes().Stats(); s.Failed+s.Dropped+s.Malformed+s.Repeated != 0 {
			t.Errorf("%+v", s)
		}
	}
	c.order()
	c.end()
}

// compare reports what a member has received and should not have, and what it is missing. Events of
// one publisher and one shape must be in order; others may overtake each other.
func compare(t *testing.T, member int, want, got []heard) {
	count := make(map[heard]int)
	for _, h := range want {
		count[h]++
	}
	last := make(map[string]int)
	for _, h := range got {
		count[h]--
		by := fmt.Sprintf("%d to %s", h.Publisher, h.Shape)
		if last[by] > h.Number {
			t.Errorf("member %d: number %d of publisher %s came after number %d", member, h.Number, by, last[by])
		}
		last[by] = h.Number
	}
	for h, n := range count {
		if n != 0 {
			t.Errorf("member %d: %+v was heard %d times less than it should", member, h, n)
		}
	}
}

// heard is an event that a member has received. The numbers of a publisher increase.
type heard struct {
	Publisher, Number int
	Shape             string // whom it was for
}

// Rooms tests that events for a room are sent to the hubs with members in it only: it measures how
// many bytes the broker has sent. join is as for [Run].
func Rooms(t *testing.T, join func(t testing.TB) atrium.Bus, sent func() int) {
	hubs := make([]*atrium.Hub, 4)
	for i := range hubs {
		hubs[i] = atrium.New(atrium.Options{Bus: join(t)})
	}
	c := newCluster(t, len(hubs), hubs...)
	for _, m := range c.members[1:3] {
		if err := m.socket().Join("room"); err != nil {
			t.Error(err)
		}
	}
	const events, size = 1000, 1000
	text := strings.Repeat("x", size)
	for i, test := range []struct {
		room    string
		emitter int
		copies  int // how often the broker must send each
	}{
		{"room", 0, 2},
		{"room", 1, 2}, // also back to the publisher
		{"empty room", 0, 0},
	} {
		before := sent()
		for n := range events {
			if err := hubs[test.emitter].To(test.room).Emit("e", heard{i, n + 1, text}); err != nil {
				t.Error(err)
			}
		}
		if err := hubs[test.emitter].Emit("end"); err != nil { // by the same topics, so that it arrives last
			t.Error(err)
		}
		for j, m := range c.members {
			await(t, fmt.Sprintf("member %d to hear the end", j), func() bool { return m.ends.Load() > int32(i) })
			if len(m.socket().Rooms()) > 0 {
				await(t, fmt.Sprintf("member %d to hear the room", j), func() bool { return test.copies == 0 || m.latest(i) == events })
			}
		}
		if n := sent() - before; n < test.copies*events*size || n > (test.copies*2+1)*events*size/2 {
			t.Errorf("the broker has sent %d bytes for %d events of %d bytes to %q, which should have gone to %d hubs", n, events, size, test.room, test.copies)
		}
	}
	c.end()
}

// cluster are hubs and their members, each connected to one hub.
type cluster struct {
	t       *testing.T
	hubs    []*atrium.Hub
	servers []*atriumtest.Server
	members []*member
}

// member is a client and what it has received.
type member struct {
	conn   *atrium.Conn
	server atomic.Pointer[atrium.Socket]

	mu    sync.Mutex // guards:
	heard []heard
	last  map[int]int  // the last number of each publisher
	ends  atomic.Int32 // how often it has received "end"
}

func newCluster(t *testing.T, members int, hubs ...*atrium.Hub) *cluster {
	c := &cluster{t: t, hubs: hubs, members: make([]*member, members)}
	t.Cleanup(func() {
		if t.Failed() { // or the member would go on during other tests
			c.end()
		}
	})
	for i := range c.members {
		c.members[i] = &member{last: make(map[int]int)}
	}
	for _, h := range hubs {
		h.OnConnect(func(s *atrium.Socket) { s.Set("member", s.Handshake().URL().Query().Get("member")) })
		atrium.On(h, "here", func(s *atrium.Socket, _ any) error {
			name, _ := atrium.Value[string](s, "member")
			i, err := strconv.Atoi(name)
			if err != nil {
				return err
			}
			c.members[i].server.Store(s)
			return s.Emit("here")
		})
		c.servers = append(c.servers, atriumtest.NewServer(h))
	}
	var connecting sync.WaitGroup
	for part := range 8 {
		connecting.Go(func() {
			for i := part; i < members; i += 8 {
				c.connect(i)
			}
		})
	}
	connecting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return c
}

// connect connects a member to its hub, and returns when the hub has its socket.
func (c *cluster) connect(i int) {
	m := c.members[i]
	ctx, cancel := context.WithTimeout(c.t.Context(), Patience)
	defer cancel()
	options := atrium.DialOptions{DialContext: c.servers[i%len(c.servers)].DialContext}
	var err error
	if m.conn, _, err = atrium.Dial(ctx, "ws://localhost/?member="+strconv.Itoa(i), options); err != nil {
		c.t.Error(err)
		return
	}
	if err := m.conn.Write(ctx, atrium.MessageText, []byte(`{"event":"here"}`)); err != nil {
		c.t.Error(err)
	}
	for range 2 { // "connect" and "here"
		if _, _, err := m.conn.Read(ctx); err != nil {
			c.t.Error(err)
			return
		}
	}
	go m.listen(c.t)
}

func (m *member) listen(t *testing.T) {
	for {
		_, p, err := m.conn.Read(context.Background())
		if err != nil {
			return
		}
		var event struct {
			Event string
			ID    *int64
			Data  heard
		}
		if err := json.Unmarshal(p, &event); err != nil {
			t.Errorf("%s: %v", p, err)
		}
		if event.ID != nil {
			if err := m.answer(*event.ID); err != nil {
				t.Error(err)
			}
			continue
		}
		if event.Event == "end" {
			m.ends.Add(1)
			continue
		}
		m.mu.Lock()
		m.heard = append(m.heard, event.Data)
		m.last[event.Data.Publisher] = event.Data.Number
		m.mu.Unlock()
	}
}

func (m *member) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.heard)
}

// latest is the number of the last event of a publisher.
func (m *member) latest(publisher int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last[publisher]
}

// socket returns the socket of the member.
func (m *member) socket() *atrium.Socket { return m.server.Load() }

// hub returns the n-th of three, or the only one.
func (c *cluster) hub(n int) *atrium.Hub { return c.hubs[n%len(c.hubs)] }

// play runs the traffic, and returns what each member has received. It waits for what is wanted, if
// known.
func (c *cluster) play(seed uint64, rooms int, want [][]heard) [][]heard {
	room := func(n int) string { return fmt.Sprintf("room %d", n) }
	for round := range 3 {
		random := rand.New(rand.NewPCG(seed, uint64(round)))
		c.move(random, rooms, room)
		var publishing sync.WaitGroup
		for publisher := range 3 {
			random := rand.New(rand.NewPCG(random.Uint64(), 0))
			publishing.Go(func() { c.publish(random, publisher, round, rooms, room) })
		}
		publishing.Wait()
		// A round ends when all have received what a single hub would send, so that members that
		// move miss nothing.
		c.finish(round+1, want)
	}
	list := make([][]heard, len(c.members))
	for i, m := range c.members {
		list[i] = m.heard
	}
	return list
}

// move makes members join and leave rooms, and returns when they have.
func (c *cluster) move(random *rand.Rand, rooms int, room func(int) string) {
	for _, m := range c.members {
		if random.IntN(3) == 0 {
			m.socket().Leave(m.socket().Rooms()...)
		}
		for range 1 + random.IntN(2) {
			if err := m.socket().Join(room(random.IntN(rooms))); err != nil {
				c.t.Error(err)
			}
		}
	}
	for range 10 {
		from, to := room(random.IntN(rooms)), room(random.IntN(rooms))
		h := c.hub(random.IntN(3))
		if err := h.To(from).Join(context.Background(), to); err != nil {
			c.t.Error(err)
		}
		if err := h.To(from).Leave(context.Background(), from); err != nil {
			c.t.Error(err)
		}
	}
}

// publish emits the events of one publisher.
func (c *cluster) publish(random *rand.Rand, publisher, round, rooms int, room func(int) string) {
	h := c.hub(publisher)
	for n := range 150 {
		some := func() []string {
			first := random.IntN(rooms)
			names := []string{room(first)}
			for i := range 1 + random.IntN(2) {
				names = append(names, room((first+1+i)%rooms))
			}
			return names
		}
		someone := func() int { return random.IntN(len(c.members)) }
		var to atrium.Target
		shape := ""
		switch random.IntN(8) {
		case 0:
			if random.IntN(6) > 0 {
				continue // there are many of them
			}
			to, shape = h.Except(), "everyone"
		case 1, 2, 3:
			name := room(random.IntN(rooms))
			to, shape = h.To(name), name
		case 4:
			name := room(random.IntN(rooms))
			to, shape = h.To(name).Except(some()...), name
		case 5:
			to, shape = h.To(some()...), "rooms"
		case 6:
			i := someone()
			to, shape = h.To(c.members[i].socket().ID()), fmt.Sprint("member ", i)
		case 7:
			// Only a socket of this hub can be a sender that is excepted.
			i := someone()
			i -= i % 3
			i += publisher
			name := room(random.IntN(rooms))
			if i < len(c.members) {
				to, shape = c.members[i].socket().To(name), name
			} else {
				continue
			}
		}
		if err := to.Emit("e", heard{publisher, round*1000 + n, shape}); err != nil {
			c.t.Error(err)
		}
	}
}

// finish waits until all events have been received: as many as are wanted, then an end from each
// hub.
func (c *cluster) finish(round int, want [][]heard) {
	for i := range want {
		n := 0
		for _, h := range want[i] {
			if h.Number < round*1000 {
				n++
			}
		}
		m := c.members[i]
		await(c.t, fmt.Sprintf("member %d to hear %d events", i, n), func() bool { return m.count() >= n })
	}
	for _, h := range c.hubs {
		if err := h.Emit("end"); err != nil {
			c.t.Error(err)
		}
	}
	ends := int32(round * len(c.hubs))
	for i, m := range c.members {
		await(c.t, fmt.Sprintf("member %d to hear the end", i), func() bool { return m.ends.Load() == ends })
	}
}

// end shuts all hubs down.
func (c *cluster) end() {
	ctx, cancel := context.WithTimeout(c.t.Context(), Patience)
	defer cancel()
	for i, h := range c.hubs {
		if err := h.Shutdown(ctx); err != nil {
			c.t.Error(err)
		}
		c.servers[i].Close()
	}
	for _, m := range c.members {
		if m.conn != nil {
			m.conn.CloseNow()
		}
	}
}
