package atrium

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// lab is a Bus between nodes whose messages get lost, come twice, and do not come at all where the
// test has cut the way.
type lab struct {
	MemoryBus

	mu      sync.Mutex // guards:
	rng     *rand.Rand
	wild    bool // messages of presence get lost and come twice
	islands map[int]int
	largest int // messages of presence that have more bytes are refused; 0: none are
}

// labBus is a node's end of it.
type labBus struct {
	*lab
	node int
}

func (b labBus) Publish(ctx context.Context, topic string, msg []byte) error {
	b.mu.Lock()
	largest := b.largest
	b.mu.Unlock()
	if largest != 0 && len(msg) > largest && clusterKind(msg[1]) >= clusterPresence {
		return fmt.Errorf("%d bytes are too many", len(msg))
	}
	return b.MemoryBus.Publish(ctx, topic, append([]byte{byte(b.node)}, msg...))
}

func (b labBus) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	return b.MemoryBus.Subscribe(ctx, topic, func(msg []byte) {
		for range b.copies(int(msg[0]), clusterKind(msg[2])) {
			deliver(msg[1:])
		}
	})
}

// copies returns how often a message arrives.
func (b labBus) copies(from int, kind clusterKind) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.islands[from] != b.islands[b.node]:
		return 0
	case !b.wild || kind < clusterPresence && kind != clusterAnswer:
		return 1
	}
	return []int{0, 1, 1, 1, 2}[b.rng.IntN(5)]
}

// move puts a node onto an island, from which messages go to the nodes of that island alone.
func (l *lab) move(node, island int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.islands[node] = island
}

func (l *lab) setWild(wild bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wild = wild
}

// presenceNode is a hub of a presenceModel.
type presenceNode struct {
	*Hub
	srv   *server
	index int
	dead  bool

	mu    sync.Mutex                     // guards:
	told  map[string]map[string]struct{} // by OnPresence
	wrong []string
}

// presenceClient is a client of a presenceModel.
type presenceClient struct {
	node *presenceNode
	*client
	socket  *Socket
	present map[string]*presenceEntry // by room; nil: it is a member and not present

	mu    sync.Mutex // guards:
	rooms map[string]*watcher
}

// presenceModel is what a test believes of nodes, and of the clients that are on them.
type presenceModel struct {
	t       *testing.T
	rng     *rand.Rand
	lab     *lab
	options Options
	nodes   []*presenceNode
	clients []*presenceClient
	last    int // the number of nodes that there have been
}

var (
	modelPresenceRooms = []string{"a", "b"}
	modelPresenceKeys  = []string{"Ada", "Bob", "Carol", "Dan", "Eve"}
)

func newPresenceModel(t *testing.T, seed uint64, nodes int, options Options) *presenceModel {
	m := &presenceModel{t: t, rng: rand.New(rand.NewPCG(seed, 3)), options: options}
	m.lab = &lab{rng: rand.New(rand.NewPCG(seed, 4)), islands: make(map[int]int)}
	for range nodes {
		m.startNode()
	}
	<-time.After(3 * time.Second)
	return m
}

func (m *presenceModel) startNode() *presenceNode {
	o := m.options
	o.Bus = labBus{m.lab, m.last}
	n := &presenceNode{Hub: newHub(m.t, o), index: m.last, told: make(map[string]map[string]struct{})}
	m.last++
	n.srv = serve(m.t, overPipe, n.Hub)
	n.OnPresence(func(room string, joined, left []Present) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.told[room] == nil {
			n.told[room] = make(map[string]struct{})
		}
		for _, p := range left {
			if _, in := n.told[room][p.Key]; !in {
				n.wrong = append(n.wrong, "left twice: "+p.Key)
			}
			delete(n.told[room], p.Key)
		}
		for _, p := range joined {
			if _, in := n.told[room][p.Key]; in {
				n.wrong = append(n.wrong, "joined twice: "+p.Key)
			}
			n.told[room][p.Key] = struct{}{}
		}
	})
	m.nodes = append(m.nodes, n)
	return n
}

// enter has a client connect to a node.
func (m *presenceModel) enter(n *presenceNode) *presenceClient {
	c := &presenceClient{node: n, client: n.srv.connect(m.t, nil), present: make(map[string]*presenceEntry), rooms: make(map[string]*watcher)}
	c.socket = c.client.socket(n.Hub)
	heard := c.listen()
	go func() {
		for text := range heard {
			var e struct{ Data struct{ Room string } }
			json.Unmarshal([]byte(*text), &e)
			c.mu.Lock()
			w := c.rooms[e.Data.Room]
			c.mu.Unlock()
			if w != nil {
				w.receive(e.Data.Room, *text)
			}
		}
	}()
	m.clients = append(m.clients, c)
	return c
}

func (c *presenceClient) join(t *testing.T, room string) {
	c.mu.Lock()
	if c.rooms[room] == nil {
		c.rooms[room] = new(watcher)
	}
	c.mu.Unlock()
	if err := c.socket.Join(room); err != nil {
		t.Fatal(err)
	}
}

func (c *presenceClient) leave(room string) {
	c.socket.Leave(room)
	synctest.Wait()
	c.mu.Lock()
	delete(c.rooms, room)
	c.mu.Unlock()
	delete(c.present, room)
}

// step does something at random.
func (m *presenceModel) step() {
	room := modelPresenceRooms[m.rng.IntN(len(modelPresenceRooms))]
	if len(m.clients) < 3 || m.rng.IntN(8) == 0 && len(m.clients) < 15 {
		c := m.enter(m.nodes[m.rng.IntN(len(m.nodes))])
		c.join(m.t, room)
		return
	}
	c := m.clients[m.rng.IntN(len(m.clients))]
	c.mu.Lock()
	in := c.rooms[room] != nil
	c.mu.Unlock()
	switch n := m.rng.IntN(20); {
	case !in:
		c.join(m.t, room)
	case n < 2:
		c.leave(room)
	case n < 4:
		c.socket.Absent(room)
		delete(c.present, room)
	case n < 5:
		m.drop(c)
	default:
		e := &presenceEntry{modelPresenceKeys[m.rng.IntN(len(modelPresenceKeys))], fmt.Append(nil, m.rng.IntN(3))}
		mustPresent(m.t, c.socket, room, e.key, json.RawMessage(e.info))
		c.present[room] = e
	}
}

func (m *presenceModel) drop(c *presenceClient) {
	c.CloseNow()
	m.clients = slices.DeleteFunc(m.clients, func(other *presenceClient) bool { return c == other })
}

// kill kills a node: nobody hears of it any more, nor of its clients.
func (m *presenceModel) kill(n *presenceNode) {
	m.lab.move(n.index, -1-n.index)
	n.dead = true
	m.nodes = slices.DeleteFunc(m.nodes, func(other *presenceNode) bool { return n == other })
	m.clients = slices.DeleteFunc(m.clients, func(c *presenceClient) bool { return c.node == n })
}

// upset does something to a node or to the ways between them.
func (m *presenceModel) upset() {
	n := m.nodes[m.rng.IntN(len(m.nodes))]
	switch m.rng.IntN(5) {
	case 0:
		m.kill(n)
		m.startNode()
	case 1, 2:
		m.lab.move(n.index, 1+m.rng.IntN(2))
	case 3:
		for _, n := range m.nodes {
			m.lab.move(n.index, 0)
		}
	}
}

// truth returns who is in a room, as describe writes it.
func (m *presenceModel) truth(room string) string {
	keys := make(map[string][]string)
	for _, c := range m.clients {
		if e := c.present[room]; e != nil {
			keys[e.key] = append(keys[e.key], string(e.info))
		}
	}
	return describeMap(keys)
}

func describeMap(keys map[string][]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		slices.Sort(keys[key])
		parts = append(parts, key+"["+strings.Join(keys[key], " ")+"]")
	}
	return strings.Join(parts, " ")
}

// check compares what all nodes and clients have with the truth, when all is quiet.
func (m *presenceModel) check(phase int) {
	m.t.Helper()
	synctest.Wait()
	for _, room := range modelPresenceRooms {
		want := m.truth(room)
		for _, n := range m.nodes {
			n.mu.Lock()
			if len(n.wrong) > 0 {
				m.t.Errorf("phase %d: OnPresence of node %d: %q", phase, n.index, n.wrong)
			}
			told := strings.Join(slices.Sorted(maps.Keys(n.told[room])), " ")
			n.mu.Unlock()
			if n.room(room) == nil {
				if told != "" || n.Presence(room) != nil {
					m.t.Errorf("phase %d: node %d, without members of %s, has %q and %q", phase, n.index, room, told, describe(n.Presence(room)))
				}
				continue
			}
			list := n.Presence(room)
			var keys []string
			for _, p := range list {
				keys = append(keys, p.Key)
			}
			if got := describe(list); got != want || told != strings.Join(keys, " ") {
				m.t.Errorf("phase %d: room %s of node %d: %s, told %s\nwant %s", phase, room, n.index, got, told, want)
			}
		}
		for i, c := range m.clients {
			c.mu.Lock()
			w := c.rooms[room]
			c.mu.Unlock()
			if w == nil {
				continue
			}
			w.mu.Lock()
			if got := describeMap(w.list); got != want || len(w.wrong) > 0 {
				m.t.Errorf("phase %d: room %s of client %d, on node %d: %s, %q\nwant %s", phase, room, i, c.node.index, got, w.wrong, want)
			}
			w.mu.Unlock()
		}
	}
	if m.t.Failed() {
		m.t.FailNow()
	}
}

// Whatever happens to sockets, nodes and messages, when it has been quiet for a while all nodes and
// all clients have the same list, the right one.
func TestPresenceModel(t *testing.T) {
	for _, seed := range faultRounds(t) {
		bubble(t, func(t *testing.T) {
			m := newPresenceModel(t, seed, 3, Options{Limits: Limits{PresencePerSecond: 1000}, Timeouts: Timeouts{PingInterval: time.Hour}})
			for phase := range 12 {
				m.lab.setWild(phase%3 == 1)
				for range 40 {
					m.step()
					if phase%3 == 2 && m.rng.IntN(12) == 0 {
						m.upset()
					}
					<-time.After(time.Duration(m.rng.IntN(400)) * time.Millisecond)
				}
				m.lab.setWild(false)
				for _, n := range m.nodes {
					m.lab.move(n.index, 0)
				}
				<-time.After(15 * time.Second)
				m.check(phase)
			}
		})
	}
}

// The people of a node that was killed are gone within 6 seconds, everywhere, as one change; those
// of one that says goodbye after the grace, unless they are elsewhere by then.
func TestPresenceOfLostNode(t *testing.T) {
	for _, killed := range []bool{true, false} {
		t.Run(fmt.Sprintf("killed %t", killed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newPresenceModel(t, 1, 3, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
				present := func(node int, key string) *presenceClient {
					c := m.enter(m.nodes[node])
					c.join(t, "a")
					mustPresent(t, c.socket, "a", key, 1)
					return c
				}
				see := []*presenceClient{present(0, "me"), present(1, "you")}
				present(2, "Ada")
				present(2, "Bob")
				present(2, "me")
				<-time.After(time.Second)
				synctest.Wait()
				for _, c := range see {
					if got := describeMap(c.rooms["a"].list); got != "Ada[1] Bob[1] me[1 1] you[1]" {
						t.Fatal(got)
					}
					c.rooms["a"].heard(t)
				}
				limit := 6 * time.Second
				if lost := m.nodes[2]; killed {
					m.kill(lost)
				} else {
					limit = 2*time.Second + 2*presenceTick
					if err := lost.Shutdown(t.Context()); err != nil {
						t.Fatal(err)
					}
					<-time.After(time.Second)
					present(1, "Bob")
				}
				<-time.After(limit)
				for _, c := range see {
					want := []string{"~me", "-Ada", "-Bob"}
					if !killed {
						want = []string{"~me", "-Ada"}
					}
					c.rooms["a"].want(t, "what the others see", want...)
				}
			})
		})
	}
}

// A user whose page is loaded anew on another node was never away.
func TestPresenceMovesToAnotherNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newPresenceModel(t, 1, 3, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
		var all []*presenceClient
		for _, n := range m.nodes {
			c := m.enter(n)
			c.join(t, "a")
			mustPresent(t, c.socket, "a", fmt.Sprint("user", n.index), 1)
			all = append(all, c)
		}
		<-time.After(time.Second)
		all[0].rooms["a"].heard(t)
		all[1].CloseNow()
		<-time.After(time.Second)
		again := m.enter(m.nodes[2])
		again.join(t, "a")
		mustPresent(t, again.socket, "a", "user1", 1)
		<-time.After(5 * time.Second)
		all[0].rooms["a"].want(t, "another page")
		again.rooms["a"].want(t, "the new page", "state", "=user0 =user1 =user2")

		// A node that loses its last member of a room forgets who is there.
		all[0].leave("a")
		<-time.After(15 * time.Second)
		if got := m.nodes[0].Presence("a"); got != nil || m.nodes[0].presences.find(m.nodes[0].Namespace, "a") != nil {
			t.Errorf("%v is kept", got)
		}
		all[0].join(t, "a")
		<-time.After(time.Second)
		all[0].rooms["a"].want(t, "back in the room", "state", "=user1 =user2")
	})
}

// A node with too many sockets in a room for a list tells the others how many there are, and who
// they are when there are less again.
func TestPresenceCountsOnNodes(t *testing.T) {
	for name, limits := range tooManyFor(10) {
		t.Run(name, func(t *testing.T) { testPresenceCountsOnNodes(t, limits) })
	}
}

func testPresenceCountsOnNodes(t *testing.T, limits Limits) {
	bubble(t, func(t *testing.T) {
		m := newPresenceModel(t, 1, 2, Options{Limits: limits, Timeouts: Timeouts{PingInterval: time.Hour}})
		see := m.enter(m.nodes[0])
		see.join(t, "a")
		var all []*presenceClient
		for i := range 11 {
			c := m.enter(m.nodes[1])
			c.join(t, "a")
			mustPresent(t, c.socket, "a", fmt.Sprintf("user%02d", i), longInfo(i))
			all = append(all, c)
		}
		<-time.After(3 * time.Second)
		if told := see.rooms["a"].heard(t); told[len(told)-1] != "count 11" {
			t.Fatalf("too many: %q", told)
		}
		if p := m.nodes[0].presences.find(m.nodes[0].Namespace, "a"); len(p.state.keys) != 0 || m.nodes[0].PresenceCount("a") != 11 {
			t.Errorf("%d keys are kept, %d counted", len(p.state.keys), m.nodes[0].PresenceCount("a"))
		}
		for _, c := range all[:2] {
			c.socket.Absent("a")
		}
		<-time.After(5 * time.Second)
		told := see.rooms["a"].heard(t)
		var want []string
		for i := 2; i < 11; i++ {
			want = append(want, fmt.Sprintf("=user%02d", i))
		}
		if diff := cmp.Diff([]string{"state", strings.Join(want, " ")}, told); diff != "" {
			t.Error(diff)
		}
	})
}

// Updates that were missed are asked for, and what comes ahead of them waits.
func TestPresenceUpdatesInAnyOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		p := h.presences.open(h.Namespace, "r", func([]Present, []Present) {})
		p.shared.blocks = make(map[string]*presenceBlock)
		set := func(version uint64, socket string) presenceUpdate {
			return presenceUpdate{Version: version, Set: []presenceSocket{{socket, socket, json.RawMessage("1")}}}
		}
		want := func(list string) {
			t.Helper()
			if got := describe(p.state.list(nanotime())); got != list {
				t.Errorf("got %s, want %s", got, list)
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.update("other", set(6, "f"), 1)
		p.update("other", set(5, "e"), 1)
		want("")
		whole := set(4, "d")
		whole.Whole, whole.Count = true, 1
		p.update("other", whole, 1)
		want("d[1] e[1] f[1]")
		p.update("other", set(5, "again"), 1)
		p.update("other", set(8, "h"), 1)
		want("d[1] e[1] f[1]")
		p.update("other", set(7, "g"), 1)
		want("d[1] e[1] f[1] g[1] h[1]")
		reload := set(9, "again")
		reload.Set[0].Key, reload.Gone = "h", []string{"h"}
		p.update("other", reload, 1)
		want("d[1] e[1] f[1] g[1] h[1]") // one, not two for a grace
		p.forget("other", nanotime())
		want("")
	})
}

// Rooms of which no node knows cost a cluster little: their questions are gathered, and they get no
// presence. Those of which one knows are found.
func TestPresenceOfRoomsWithoutAny(t *testing.T) {
	bubble(t, func(t *testing.T) {
		m := newPresenceModel(t, 1, 2, Options{Limits: Limits{Rooms: 2000}, Timeouts: Timeouts{PingInterval: time.Hour}})
		c, other := m.enter(m.nodes[0]), m.enter(m.nodes[1])
		other.join(t, "a")
		mustPresent(t, other.socket, "a", "Ada", 1)
		<-time.After(time.Second)
		n := m.nodes[0].Namespace
		join := func(what string, leaves bool, most uint64) {
			t.Helper()
			before := asked(n.hub)
			for i := range 1000 {
				room := fmt.Sprint("chat-", i)
				if err := c.socket.Join(room); err != nil {
					t.Fatal(err)
				}
				if leaves {
					c.socket.Leave(room)
				}
			}
			<-time.After(time.Second)
			if got, presences := asked(n.hub)-before, len(n.presenceRooms()); got > most || presences > 0 {
				t.Errorf("1000 rooms %s: %d questions to all nodes, of at most %d, and %d presences", what, got, most, presences)
			}
		}
		join("joined and left", true, 1)
		join("joined", false, 5)
		c.join(t, "a")
		<-time.After(time.Second)
		c.rooms["a"].want(t, "a room of which the other node knows", "state", "=Ada")
	})
}

// asked returns how many questions a node has asked.
func asked(h *Hub) uint64 {
	h.cluster.mu.Lock()
	defer h.cluster.mu.Unlock()
	return h.cluster.requests.last
}

// Nodes that have lost each other find the same lists again within some seconds, however many rooms
// there are and however long their names, by messages that every broker takes.
func TestPresenceOfManyRooms(t *testing.T) {
	const rooms = 5*maxPresenceDigest - 1
	bubble(t, func(t *testing.T) {
		m := newPresenceModel(t, 1, 2, Options{Limits: Limits{Rooms: rooms, PresencePerSecond: rooms}, Timeouts: Timeouts{PingInterval: time.Hour}})
		m.lab.mu.Lock()
		m.lab.largest = sureToFit
		m.lab.mu.Unlock()
		pad := strings.Repeat("x", maxRoomName-len("0000"))
		name := func(i int) string { return fmt.Sprintf("%04d%s", i, pad) }
		for node := range 2 {
			c := m.enter(m.nodes[node])
			for i := range rooms {
				c.join(t, name(i))
				mustPresent(t, c.socket, name(i), fmt.Sprint("user", node), 1)
			}
		}
		differ := func() (n int) {
			synctest.Wait()
			for _, h := range m.nodes {
				for i := range rooms {
					if describe(h.Presence(name(i))) != "user0[1] user1[1]" {
						n++
					}
				}
			}
			return n
		}
		<-time.After(3 * time.Second)
		if n := differ(); n != 0 {
			t.Fatalf("%d lists of %d are wrong at first", n, 2*rooms)
		}
		m.lab.move(0, 1)
		<-time.After(7 * time.Second)
		if n := differ(); n != 2*rooms {
			t.Fatalf("%d lists of %d are wrong while the nodes do not hear each other", n, 2*rooms)
		}
		m.lab.move(0, 0)
		<-time.After(2*rooms/maxPresenceDigest*nodeHeartbeat + 2*time.Second) // it may be the turn of others first
		if n := differ(); n != 0 {
			t.Errorf("%d lists of %d are wrong after that", n, 2*rooms)
		}
	})
}
