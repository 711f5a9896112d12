package atrium

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What is emitted on one node reaches whom it is for on all of them, once, whatever they speak.
func TestClusterEmit(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		all := newTestCluster(t, k, 3, new(MemoryBus), Options{})
		a, b, c := all[0], all[1], all[2]
		type member struct {
			*client
			s *Socket
		}
		member1 := func(i int, rooms ...string) member {
			m := member{client: all[i].connect(t, nil)}
			m.s = m.socket(all[i].Hub)
			if err := m.s.Join(rooms...); err != nil {
				t.Fatal(err)
			}
			return m
		}
		m0, m1, m2 := member1(0, "red", "blue"), member1(1, "red", "blue"), member1(2, "blue")
		for _, test := range []struct {
			name string
			to   Target
			want []member
		}{
			{"everyone", Target{ns: a.Namespace}, []member{m0, m1, m2}},
			{"a room", b.To("red"), []member{m0, m1}},
			{"a room of others", c.To("red"), []member{m0, m1}},
			{"rooms, each member once", c.To("red", "blue"), []member{m0, m1, m2}},
			{"nobody", a.To(), nil},
			{"no such room", a.To("green"), nil},
			{"all but a room", a.Except("red"), []member{m2}},
			{"a room but another", b.To("blue").Except("red"), []member{m2}},
			{"all but a socket of another node", a.Except(m2.sid), []member{m0, m1}},
			{"all but the sender", m1.s.Broadcast(), []member{m0, m2}},
			{"a room but the sender", m0.s.To("red"), []member{m1}},
			{"one of another node", a.To(m1.sid), []member{m1}},
			{"one of this node", a.To(m0.sid), []member{m0}},
			{"two by their ids", a.To(m0.sid, m2.sid), []member{m0, m2}},
			{"this node only", a.To("blue").Local(), []member{m0}},
			{"what may be lost", b.To("blue").Volatile(), []member{m0, m1, m2}},
		} {
			if err := test.to.Emit("test", test.name); err != nil {
				t.Fatal(err)
			}
			for _, m := range test.want {
				m.want(fmt.Sprintf(`{"event":"test","data":%q}`, test.name))
			}
		}
		// Nobody has heard more, as what comes last proves: nothing overtakes what goes by one
		// topic.
		for _, h := range all {
			h.Emit("end")
		}
		for _, m := range []member{m0, m1, m2} {
			for range all {
				m.want(`{"event":"end"}`)
			}
		}
		if s := a.Nodes().Stats(); s.Nodes != 2 || s.Failed+s.Dropped+s.Malformed+s.Repeated != 0 || s.Published == 0 || s.Received == 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Several arguments, attachments and namespaces pass between nodes; who speaks what is no concern
// of the sender's node.
func TestClusterForms(t *testing.T) {
	noLeaks(t)
	all := newTestCluster(t, overTCP, 2, new(MemoryBus), Options{Compression: Compression{Level: 1}})
	admin := [2]*Namespace{all[0].Of("/admin"), all[1].Of("/admin")}
	io, plain := all[1].socketIO(t), all[1].connect(t, nil)
	io.join("/admin")
	io.join("")
	if err := admin[0].Emit("photo", Binary{1, 2}, map[string]any{"n": 1}, Binary{3}); err != nil {
		t.Fatal(err)
	}
	io.want(`452-/admin,["photo",{"_placeholder":true,"num":0},{"n":1},{"_placeholder":true,"num":1}]`)
	for _, want := range [][]byte{{1, 2}, {3}} {
		if op, p, err := io.Read(t.Context()); op != MessageBinary || !bytes.Equal(p, want) || err != nil {
			t.Errorf("%v %v %v, want %v", op, p, err, want)
		}
	}
	all[0].Compress(true).Emit("many", "a", nil, []int{1})
	io.want(`42["many","a",null,[1]]`)
	plain.want(`{"event":"many","args":["a",null,[1]]}`)
	all[0].Emit("none")
	io.want(`42["none"]`)
	plain.want(`{"event":"none"}`)
}

// Questions are answered by all nodes.
func TestClusterQuestions(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		ctx := t.Context()
		all := newTestCluster(t, k, 3, new(MemoryBus), Options{})
		var clients []*client
		var ids []string
		for _, h := range all {
			for range 2 {
				c := h.connect(t, nil)
				c.socket(h.Hub).Join("room")
				clients, ids = append(clients, c), append(ids, c.sid)
			}
		}
		slices.Sort(ids)
		h := all[1]
		if n, err := h.To("room").Count(ctx); n != 6 || err != nil {
			t.Error(n, err)
		}
		if n, err := h.To("room").Local().Count(ctx); n != 2 || err != nil {
			t.Error(n, err)
		}
		infos, err := h.Sockets(ctx)
		var got []string
		for _, info := range infos {
			got = append(got, info.ID)
			if !slices.Equal(info.Rooms, []string{"room"}) {
				t.Errorf("%+v", info)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(ids, got); diff != "" || err != nil {
			t.Error(diff, err)
		}
		if err := h.To(clients[0].sid, clients[5].sid).Join(ctx, "pair"); err != nil {
			t.Error(err)
		}
		rooms, err := h.Rooms(ctx)
		if diff := cmp.Diff([]RoomInfo{{"pair", 2}, {"room", 6}}, rooms); diff != "" || err != nil {
			t.Error(diff, err)
		}
		h.To("pair").Emit("hello")
		clients[0].want(`{"event":"hello"}`)
		clients[5].want(`{"event":"hello"}`)

		// A Call: each answers in its way, one not at all.
		type result struct {
			replies []Reply
			err     error
		}
		results := make(chan result)
		ask := func(ctx context.Context, to Target) {
			replies, err := to.Call(ctx, "q", 1)
			results <- result{replies, err}
		}
		limited, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		go ask(limited, h.To("room"))
		want := make(map[string]string)
		for i, c := range clients {
			var q struct{ ID int64 }
			if err := json.Unmarshal([]byte(c.next()), &q); err != nil {
				t.Fatal(err)
			}
			switch i {
			case 0:
				c.send(fmt.Sprintf(`{"id":%d,"error":{"message":"no","data":[7]}}`, q.ID))
				want[c.sid] = " no [7]"
			case 1:
				want[c.sid] = " timed out"
			case 5:
				c.CloseNow()
				want[c.sid] = " gone"
			default:
				c.send(fmt.Sprintf(`{"id":%d,"data":%d}`, q.ID, i))
				want[c.sid] = fmt.Sprint(i)
			}
		}
		r := within(t, results, "the replies")
		if r.err != nil {
			t.Error(r.err)
		}
		heard := make(map[string]string)
		for _, r := range r.replies {
			text := string(r.Data)
			if told, ok := errors.AsType[*Error](r.Err); ok {
				text += fmt.Sprintf(" %s %s", told.Message, told.Data)
			} else if errors.Is(r.Err, ErrTimeout) {
				text += " timed out"
			} else if errors.Is(r.Err, ErrDisconnected) {
				text += " gone"
			}
			heard[r.SocketID] = text
		}
		if diff := cmp.Diff(want, heard); diff != "" || len(r.replies) != len(want) {
			t.Error(diff)
		}

		// One socket of another node is asked alone.
		go ask(ctx, h.To(clients[0].sid))
		var q struct{ ID int64 }
		if err := json.Unmarshal([]byte(clients[0].next()), &q); err != nil {
			t.Fatal(err)
		}
		clients[0].send(fmt.Sprintf(`{"id":%d,"data":"here"}`, q.ID))
		if r := within(t, results, "the reply"); len(r.replies) != 1 || string(r.replies[0].Data) != `"here"` || r.err != nil {
			t.Error(r)
		}

		if err := h.To("pair").Leave(ctx, "pair"); err != nil {
			t.Error(err)
		}
		if n, err := h.To("pair").Count(ctx); n != 0 || err != nil {
			t.Error(n, err)
		}
		if err := h.To("room").Join(ctx, strings.Repeat("x", 300)); !errors.Is(err, ErrRoomName) {
			t.Error(err)
		}
		if err := h.To(clients[0].sid).Join(ctx, clients[2].sid); err == nil || !strings.Contains(err.Error(), "another socket") {
			t.Error(err)
		}
		if err := h.To(clients[0].sid).Disconnect(ctx); err != nil {
			t.Error(err)
		}
		clients[0].wantClosed(StatusNormalClosure)
	})
}

// Answers of any size come in parts.
func TestClusterAnswerParts(t *testing.T) {
	noLeaks(t)
	all := newTestCluster(t, overTCP, 2, new(MemoryBus), Options{})
	big := strings.Repeat("x", maxAnswerPart/3)
	for range 5 {
		c := all[0].connect(t, nil)
		go func() {
			for {
				_, p, err := c.Read(context.Background())
				if err != nil {
					return
				}
				var q struct{ ID int64 }
				if json.Unmarshal(p, &q) == nil {
					c.Write(context.Background(), MessageText, fmt.Appendf(nil, `{"id":%d,"data":%q}`, q.ID, big))
				}
			}
		}()
	}
	before := all[0].cluster.counts.published.Load()
	replies, err := all[1].Call(t.Context(), "q")
	if len(replies) != 5 || err != nil {
		t.Fatal(len(replies), err)
	}
	for _, r := range replies {
		if len(r.Data) != len(big)+2 || r.Err != nil {
			t.Error(len(r.Data), r.Err)
		}
	}
	if parts := all[0].cluster.counts.published.Load() - before; parts < 3 {
		t.Errorf("%d messages", parts)
	}
}

// A socket of one node cannot get another node's socket's mail by joining a room of its name.
func TestClusterEavesdropping(t *testing.T) {
	noLeaks(t)
	all := newTestCluster(t, overTCP, 2, new(MemoryBus), Options{})
	victim, spy := all[0].connect(t, nil), all[1].connect(t, nil)
	if err := spy.socket(all[1].Hub).Join(victim.sid); !errors.Is(err, ErrRoomName) {
		t.Error(err)
	}
}

// Nodes send each other events for the application.
func TestNodes(t *testing.T) {
	noLeaks(t)
	logger, log := newLog()
	all := newTestCluster(t, overTCP, 3, new(MemoryBus), Options{Logger: logger})
	type heard struct {
		at   int
		from string
		v    int
	}
	events := make(chan heard, 10)
	for i, h := range all {
		On(h.Nodes(), "reload", func(node string, v int) error {
			events <- heard{i, node, v}
			if v == 3 {
				panic("over")
			}
			return errors.New("refused")
		})
	}
	for v := 1; v <= 4; v++ {
		if err := all[0].Nodes().Emit("reload", v); err != nil {
			t.Fatal(err)
		}
	}
	all[0].Nodes().Emit("unheard of")
	var got [3][]int
	for range 8 {
		e := within(t, events, "an event")
		if e.from != all[0].Nodes().Self() {
			t.Errorf("from %q", e.from)
		}
		got[e.at] = append(got[e.at], e.v)
	}
	if diff := cmp.Diff([3][]int{nil, {1, 2, 3, 4}, {1, 2, 3, 4}}, got); diff != "" {
		t.Error(diff)
	}
	if err := all[0].Nodes().Emit("connect"); !errors.Is(err, ErrReserved) {
		t.Error(err)
	}
	eventually(t, "the log to say what went wrong", func() bool {
		return strings.Count(log.String(), "panic=over") == 2 && strings.Contains(log.String(), "refused")
	})
	lone := newHub(t, Options{})
	if lone.Nodes().Emit("reload", 1) != nil || lone.Nodes().List() != nil || lone.Nodes().Stats() != (ClusterStats{}) {
		t.Error("a hub without a bus has other nodes")
	}
}

// A topic is subscribed to while it has local members, and a while longer; with recovery, for as
// long as one of them may come back. Nothing stays behind.
func TestClusterTopics(t *testing.T) {
	for _, test := range []struct {
		stays, linger time.Duration
	}{{0, minLinger}, {time.Minute, time.Minute}} {
		t.Run(test.linger.String(), func(t *testing.T) {
			bus, subs := newCountedBus()
			synctest.Test(t, func(t *testing.T) {
				all := newTestCluster(t, overPipe, 2, bus, Options{Timeouts: Timeouts{PingInterval: time.Hour}, Recovery: Recovery{MaxDisconnection: test.stays}})
				first, second := all[0].connect(t, nil), all[0].connect(t, nil)
				topic := roomTopic("/", "room")
				first.socket(all[0].Hub).Join("room")
				second.socket(all[0].Hub).Join("room")
				if n := subs.to(topic); n != 1 {
					t.Errorf("%d subscriptions", n)
				}
				if n := subs.to(roomTopic("/", "")); n != 1 { // the other node has nobody
					t.Errorf("%d subscriptions", n)
				}
				first.socket(all[0].Hub).Leave("room")
				second.socket(all[0].Hub).Leave("room")
				<-time.After(test.linger - time.Second)
				if n := subs.to(topic); n != 1 {
					t.Error("it is given up too soon")
				}
				first.socket(all[0].Hub).Join("room")
				<-time.After(3 * test.linger)
				if n := subs.to(topic); n != 1 {
					t.Error("it is given up though there is a member")
				}
				first.socket(all[0].Hub).Leave("room")
				<-time.After(test.linger + time.Minute)
				if n := subs.to(topic); n != 0 {
					t.Errorf("%d subscriptions", n)
				}
			})
			if len(subs.counts) != 0 {
				t.Errorf("%v are left", subs.counts)
			}
		})
	}
}

// Nodes that start together know each other at once, and who is heard to say anything is there:
// what is asked would leave its sockets out otherwise, and say nothing of it.
func TestClusterFirstMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := new(MemoryBus)
		a, b := newHub(t, Options{Bus: bus}), newHub(t, Options{Bus: bus})
		synctest.Wait() // no time passes
		if len(a.Nodes().List()) != 1 || len(b.Nodes().List()) != 1 {
			t.Error("they do not know each other")
		}
		unheard := &fakeNode{bus: bus, node: "ghost"}
		unheard.send(everyNode, clusterMessage{kind: clusterNotice, eventData: eventData{name: "news"}})
		synctest.Wait()
		if !slices.Contains(a.Nodes().List(), "ghost") {
			t.Error("who sends something is not there")
		}
		unheard.send(everyNode, clusterMessage{kind: clusterGoodbye})
		synctest.Wait()
		if slices.Contains(a.Nodes().List(), "ghost") {
			t.Error("who has said goodbye is still there")
		}
	})
}

// A node that has gone is missed while it may be there, and named; then it is not asked any more.
func TestClusterMissingNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := new(MemoryBus)
		h := newTestCluster(t, overPipe, 1, bus, Options{Timeouts: Timeouts{PingInterval: time.Hour}})[0]
		dead := &fakeNode{bus: bus, node: "ghost"}
		dead.send(everyNode, clusterMessage{kind: clusterHello})
		synctest.Wait()
		if diff := cmp.Diff([]string{"ghost"}, h.Nodes().List()); diff != "" {
			t.Error(diff)
		}
		c := h.connect(t, nil)
		c.socket(h.Hub)
		wantMissing := func(err error) {
			t.Helper()
			if e, ok := errors.AsType[*ClusterError](err); !ok || !slices.Equal(e.Missing, []string{"ghost"}) || !errors.Is(err, ErrTimeout) || !strings.Contains(err.Error(), "ghost") {
				t.Error(err)
			}
		}
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n, err := h.Count(ctx)
		if wantMissing(err); n != 1 {
			t.Error(n)
		}
		if err := h.To(c.sid).Join(ctx, "other"); !errors.Is(err, context.DeadlineExceeded) || len(h.LocalRooms()) != 0 {
			t.Errorf("with a context that has ended: %v, in %v", err, h.LocalRooms())
		}
		if wantMissing(h.To("room").Join(t.Context(), "other")); time.Since(start) != 2*time.Second {
			t.Errorf("after %v", time.Since(start))
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second/4)
		defer cancel()
		if wantMissing(h.To("room").Leave(short, "other")); time.Since(start) != 9*time.Second/4 {
			t.Errorf("after %v", time.Since(start))
		}
		// While it is being asked it is found to have gone.
		n, err = h.Count(t.Context())
		if e, ok := errors.AsType[*ClusterError](err); !ok || !slices.Equal(e.Missing, []string{"ghost"}) || e.Err != nil || n != 1 {
			t.Error(n, err)
		}
		if after := time.Since(start); after < nodeTimeout || after > nodeTimeout+3*time.Second {
			t.Errorf("after %v", after)
		}
		if n, err := h.Count(t.Context()); n != 1 || err != nil {
			t.Error(n, err)
		}
		// One that says goodbye is not missed.
		dead.send(everyNode, clusterMessage{kind: clusterHello})
		dead.send(everyNode, clusterMessage{kind: clusterGoodbye})
		synctest.Wait()
		if n, err := h.Count(t.Context()); n != 1 || err != nil {
			t.Error(n, err)
		}
		// An answer of which a part was lost is none.
		dead.send(everyNode, clusterMessage{kind: clusterHello})
		synctest.Wait()
		q := h.cluster.ask("", &clusterMessage{kind: clusterCount})
		dead.send(nodeTopic(h.node), clusterMessage{kind: clusterAnswer, request: q.number, part: 1, last: true, eventData: dataOf("", "1", 1, noID)})
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		values, err := q.wait(ctx)
		if wantMissing(err); len(values) != 0 {
			t.Error(values)
		}
	})
}

// A hub whose own time-outs are hours tells the other nodes that it is there as often as any.
func TestClusterHeartbeatOfAPatientHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const long = 10 * time.Hour
		h := newTestCluster(t, overPipe, 1, new(MemoryBus), Options{
			Timeouts: Timeouts{PingInterval: long, Ping: long, Connect: long, Message: long, Call: long},
		})[0]
		before := h.Nodes().Stats().Published
		<-time.After(time.Minute)
		if n := h.Nodes().Stats().Published - before; n < 60/3 {
			t.Errorf("%d heartbeats in a minute", n)
		}
	})
}

// A Bus that fails or hangs costs local traffic nothing and waits no longer than it says; all comes
// back with it.
func TestClusterOutage(t *testing.T) {
	for _, how := range []string{"fails", "hangs"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				logger, log := newLog()
				bus := &scriptedBus{Bus: new(MemoryBus)}
				all := newTestCluster(t, overPipe, 2, bus, Options{Timeouts: Timeouts{PingInterval: time.Hour}, Logger: logger})
				var sockets []*Socket
				var clients []*client
				for _, h := range all {
					c := h.connect(t, nil)
					clients, sockets = append(clients, c), append(sockets, c.socket(h.Hub))
				}
				outage := &bus.fails
				if how == "hangs" {
					outage = &bus.hangs
				}
				outage.Store(true)
				took := func(most time.Duration, what string, f func()) {
					t.Helper()
					start := time.Now()
					if f(); time.Since(start) > most {
						t.Errorf("%s took %v", what, time.Since(start))
					}
				}
				for i := range 100 {
					took(0, "Emit", func() { all[0].Emit("n", i) })
					clients[0].want(fmt.Sprintf(`{"event":"n","data":%d}`, i))
				}
				took(clusterWait, "Join", func() { sockets[0].Join("room") })
				took(clusterWait, "Join of many", func() { all[0].To("room").Join(t.Context(), "rooms", "of", "all") })
				<-time.After(3 * time.Second)
				took(0, "Join while it is known to fail", func() { sockets[0].Join("another", "two") })
				took(clusterWait, "a new client", func() { all[0].connect(t, nil).CloseNow() })
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				took(time.Second, "Count", func() {
					n, err := all[0].To("room").Count(ctx)
					if e, ok := errors.AsType[*ClusterError](err); !ok || n != 1 || !errors.Is(err, ErrBus) || len(e.Missing) > 1 {
						t.Error(n, err)
					}
				})
				<-time.After(90 * time.Second)
				if n := len(all[0].Nodes().List()); n != 0 {
					t.Errorf("%d nodes", n)
				}
				if n := strings.Count(log.String(), "the bus fails"); n == 0 || n > 4*logBurst { // two hubs, two minutes
					t.Errorf("%d entries:\n%s", n, log.String())
				}
				for _, h := range all {
					if err := h.Ready(); !errors.Is(err, ErrBus) {
						t.Errorf("Ready: %v", err)
					}
					if failing := h.Nodes().Stats().Failing; failing < 90*time.Second || failing > 100*time.Second {
						t.Errorf("it fails for %v", failing)
					}
				}
				outage.Store(false)
				<-time.After(5 * time.Second)
				synctest.Wait()
				if n, err := all[1].To("room").Count(t.Context()); n != 1 || err != nil {
					t.Error(n, err)
				}
				clients[0].settle()
				all[1].To("room").Emit("back")
				clients[0].want(`{"event":"back"}`)
				for _, h := range all {
					if s := h.Nodes().Stats(); s.Failed == 0 || s.Failing != 0 || h.Ready() != nil {
						t.Errorf("%+v; ready: %v", s, h.Ready())
					}
				}
				if n := strings.Count(log.String(), "the bus works again"); n < 2 || !strings.Contains(log.String(), "duration=1m3") {
					t.Errorf("%d entries:\n%s", n, log.String())
				}
			})
		})
	}
}

// A message that is too large for the broker is lost and logged, and is no outage.
func TestClusterOversize(t *testing.T) {
	noLeaks(t)
	logger, log := newLog()
	memory := new(MemoryBus)
	bus := &scriptedBus{Bus: memory, publish: func(ctx context.Context, topic string, msg []byte) error {
		if len(msg) > 1<<20 { // as much as NATS takes unless it is told otherwise
			return errors.New("too large")
		}
		return memory.Publish(ctx, topic, msg)
	}}
	h := newTestCluster(t, overTCP, 2, bus, Options{Logger: logger})[0]
	h.Emit("large", strings.Repeat("x", 1<<20))
	eventually(t, "the log to say so", func() bool { return strings.Contains(log.String(), "too large") })
	if failed := h.Nodes().Stats().Failed; failed != 1 || h.Ready() != nil {
		t.Errorf("%d failures, ready: %v", failed, h.Ready())
	}
}

// A Join does not wait for a Bus that is known not to subscribe, although that takes every
// heartbeat.
func TestClusterMuted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// While muted is set the Bus keeps what is published, and its subscriptions hang: as a
		// client may that connects again.
		var muted atomic.Bool
		memory := new(MemoryBus)
		bus := &scriptedBus{
			publish: func(ctx context.Context, topic string, msg []byte) error {
				if muted.Load() {
					return nil
				}
				return memory.Publish(ctx, topic, msg)
			},
			subscribe: func(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
				if muted.Load() {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return memory.Subscribe(ctx, topic, deliver)
			},
		}
		h := newTestCluster(t, overPipe, 1, bus, Options{Timeouts: Timeouts{PingInterval: time.Hour}})[0]
		s := h.connect(t, nil).socket(h.Hub)
		muted.Store(true)
		took := func(what string, want time.Duration, rooms ...string) {
			t.Helper()
			start := time.Now()
			if err := s.Join(rooms...); err != nil || time.Since(start) != want {
				t.Errorf("%s: %v after %v, want %v", what, err, time.Since(start), want)
			}
		}
		took("the first Join", clusterWait, "first")
		<-time.After(busTimeout)
		for i := range 10 {
			took("a Join that is known to fail", 0, fmt.Sprint(i))
			<-time.After(nodeHeartbeat)
		}
		s.Leave(s.Rooms()...)
		<-time.After(minLinger + 2*busTimeout)
		muted.Store(false)
		<-time.After(busTimeout + 2*nodeHeartbeat) // what hangs has failed, and the node hears itself again
		if err := h.Ready(); err != nil {
			t.Errorf("Ready with the Bus back: %v", err)
		}
		took("a Join with the Bus back", 0, "last")
		if len(h.cluster.topics.pending(roomTopic("/", "last"))) > 0 {
			t.Error("Join did not wait for the subscription")
		}
	})
}

// More than the queue holds is dropped and counted, and what Shutdown cannot publish does not keep
// it.
func TestClusterQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &scriptedBus{Bus: new(MemoryBus)}
		h := newTestCluster(t, overPipe, 1, bus, Options{Timeouts: Timeouts{PingInterval: time.Hour}})[0]
		bus.hangs.Store(true)
		payload := strings.Repeat("x", 1<<20)
		for range 20 {
			h.Emit("big", payload)
		}
		if s := h.Nodes().Stats(); s.Dropped < 3 || s.Dropped > 6 {
			t.Errorf("%+v", s)
		}
		start := time.Now()
		if err := h.Shutdown(t.Context()); !errors.Is(err, ErrBus) || time.Since(start) > busTimeout+2*clusterWait {
			t.Errorf("Shutdown: %v after %v", err, time.Since(start))
		}
		start = time.Now()
		if err := h.Shutdown(t.Context()); !errors.Is(err, ErrBus) || time.Since(start) != 0 {
			t.Errorf("Shutdown again: %v after %v", err, time.Since(start))
		}
	})
}

// A node that ends while its queue is full, because the Bus is slow, is not waited for either.
func TestClusterGoodbyeInFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan struct{})
		var of atomic.Value // the node whose messages wait for slow
		bus := &scriptedBus{Bus: new(MemoryBus)}
		bus.publish = func(ctx context.Context, topic string, msg []byte) error {
			if m, _ := parseClusterMessage(msg); m.from == of.Load() {
				<-slow
			}
			return bus.Bus.Publish(ctx, topic, msg)
		}
		all := newTestCluster(t, overPipe, 2, bus, Options{})
		of.Store(all[0].node)
		for _, size := range []int{1 << 20, 0} { // those of no size are as long as a goodbye
			hello := clusterMessage{kind: clusterHello, eventData: eventData{args: args{json: make([]byte, size)}}}
			for all[0].cluster.send(everyNode, &hello) != 0 {
			}
		}
		ended := make(chan error)
		go func() { ended <- all[0].Shutdown(t.Context()) }()
		synctest.Wait()
		close(slow)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if left := all[1].Nodes().List(); len(left) != 0 {
			t.Errorf("%v are there", left)
		}
	})
}

// Nothing is delivered twice, nor out of order, if the Bus repeats and reorders.
func TestClusterFaultyBus(t *testing.T) {
	noLeaks(t)
	memory := new(MemoryBus)
	var mu sync.Mutex // guards:
	late, inOrder := make(map[string][]byte), false
	bus := &scriptedBus{Bus: memory, publish: func(ctx context.Context, topic string, msg []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if !inOrder && late[topic] == nil && rand.IntN(4) == 0 {
			late[topic] = bytes.Clone(msg)
			return nil
		}
		for range 1 + rand.IntN(3) {
			memory.Publish(ctx, topic, msg)
		}
		if msg := late[topic]; msg != nil && rand.IntN(2) == 0 {
			memory.Publish(ctx, topic, msg)
			memory.Publish(ctx, topic, msg)
			delete(late, topic)
		}
		return nil
	}}
	all := newTestCluster(t, overTCP, 2, bus, Options{})
	c := all[0].connect(t, nil)
	c.socket(all[0].Hub).Join("room")
	const n = 300
	for i := range n {
		all[1].To("room").Emit("n", i+1)
	}
	eventually(t, "all to be published", func() bool { return all[1].Nodes().Stats().Published >= n })
	mu.Lock()
	inOrder = true
	mu.Unlock()
	all[1].To("room").Emit("n", n+1)
	for last, count := 0, 0; last < n+1; count++ {
		var m struct{ Data int }
		raw := c.next()
		if err := json.Unmarshal([]byte(raw), &m); err != nil {
			t.Fatal(err)
		}
		if m.Data <= last {
			t.Fatalf("%d comes after %d", m.Data, last)
		}
		if last = m.Data; last == n+1 && count < n/2 {
			t.Errorf("%d of %d came", count, n)
		}
	}
	if all[0].Nodes().Stats().Repeated == 0 {
		t.Error("nothing was repeated")
	}
	// What is asked twice is answered once.
	eventually(t, "the nodes to know each other again", func() bool { return len(all[1].Nodes().List()) == 1 })
	for i := range 20 {
		done := make(chan error)
		go func() {
			replies, err := all[1].To("room").Call(t.Context(), "q")
			if err == nil && (len(replies) != 1 || string(replies[0].Data) != strconv.Itoa(i)) {
				err = fmt.Errorf("%v", replies)
			}
			done <- err
		}()
		var q struct{ ID *int64 }
		for q.ID == nil { // events that were late
			if err := json.Unmarshal([]byte(c.next()), &q); err != nil {
				t.Fatal(err)
			}
		}
		c.send(fmt.Sprintf(`{"id":%d,"data":%d}`, *q.ID, i))
		if err := within(t, done, "the reply"); err != nil {
			t.Error(err)
		}
	}
	c.settle()
}

// What is no message, or one of another version, is counted and dropped.
func TestClusterMalformed(t *testing.T) {
	noLeaks(t)
	bus := new(MemoryBus)
	h := newTestCluster(t, overTCP, 1, bus, Options{})[0]
	good := (&clusterMessage{kind: clusterEvent, from: "other", namespace: "/", eventData: eventData{name: "e"}}).encode()
	setClusterNumber(good, 2)
	later := bytes.Clone(good)
	later[0] = clusterVersion + 1
	unknown := (&clusterMessage{kind: 200, from: "other"}).encode()
	setClusterNumber(unknown, 1)
	c := h.connect(t, nil)
	c.socket(h.Hub)
	for _, msg := range [][]byte{nil, {}, {clusterVersion}, []byte("hello, world of buses"), good[:len(good)-2], later, unknown} {
		bus.Publish(t.Context(), roomTopic("/", ""), msg)
	}
	bus.Publish(t.Context(), roomTopic("/", ""), append(bytes.Clone(good), "more, of a release to come"...))
	c.want(`{"event":"e"}`)
	if s := h.Nodes().Stats(); s.Malformed != 7 {
		t.Errorf("%+v", s)
	}
}

// Who leaves says so, and leaves nothing behind.
func TestClusterShutdown(t *testing.T) {
	noLeaks(t)
	all := newTestCluster(t, overTCP, 2, new(MemoryBus), Options{})
	c := all[0].connect(t, nil)
	c.socket(all[0].Hub).Join("room")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := all[0].Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	all[0].checkNobody(t)
	eventually(t, "the other to know", func() bool { return len(all[1].Nodes().List()) == 0 })
	if n := all[0].cluster.topics.count(); n != 0 {
		t.Errorf("%d topics", n)
	}
	if err := all[0].Emit("e"); err != nil {
		t.Error(err)
	}
	if n, err := all[0].Count(ctx); n != 0 || !errors.Is(err, ErrClosed) {
		t.Error(n, err)
	}
	if err := all[0].Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// FuzzClusterMessage: what was encoded is read again, and nothing that is not panics.
func FuzzClusterMessage(f *testing.F) {
	m := clusterMessage{kind: clusterEvent, from: "abcde", namespace: "/", scoped: true, rooms: []string{"a", "b"},
		eventData: dataOf("e", `"AQI=",1`, 2, noID, span{0, 6}), limit: time.Second, request: 7, part: 3, last: true, mark: 5}
	f.Add(m.encode())
	m.args = args{[]byte(`"no base64",]}`), 7, []span{{0, 11}}}
	f.Add(m.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parseClusterMessage(b)
		if !ok {
			return
		}
		again := m.encode()
		setClusterNumber(again, m.number)
		n, ok := parseClusterMessage(again)
		if diff := cmp.Diff(m, n, cmp.AllowUnexported(clusterMessage{}, eventData{}, args{}, span{})); !ok || diff != "" {
			t.Errorf("%v %s", ok, diff)
		}
		// Whatever stands in it, the clients are sent some message.
		out := acquireMessage(m.namespace, m.eventData)
		out.form(plainProtocol)
		out.form(socketIOProtocol).textPackets()
		out.args.first()
		out.args.values()
		out.release()
	})
}

// Row 76: a node drops what it has sent itself; an outage of the Bus costs what is emitted
// elsewhere meanwhile and no more: nothing comes twice, and rooms that were joined during the
// outage are subscribed to after it.
func TestBus(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		bus := &scriptedBus{Bus: new(MemoryBus)}
		all := newTestCluster(t, k, 2, bus, Options{})
		a, b := all[0].connect(t, nil), all[1].connect(t, nil)
		a.socket(all[0].Hub).Join("room")
		b.socket(all[1].Hub).Join("room")
		for i := range 3 {
			all[i%2].To("room").Emit("before", i)
		}
		for _, c := range []*client{a, b} { // the two hubs' may overtake each other
			if heard := map[string]bool{c.next(): true, c.next(): true, c.next(): true}; len(heard) != 3 {
				t.Error(heard)
			}
		}
		bus.fails.Store(true)
		all[0].To("room").Emit("meanwhile")
		a.want(`{"event":"meanwhile"}`)
		eventually(t, "the outage to be noticed", func() bool { return all[0].Ready() != nil && all[1].Ready() != nil })
		a.socket(all[0].Hub).Join("new")
		b.socket(all[1].Hub).Join("new")
		bus.fails.Store(false)
		for _, h := range all {
			for _, topic := range h.cluster.topics.pending(roomTopic("/", "new")) {
				if err := h.cluster.topics.await(t.Context(), topic); err != nil {
					t.Fatal(err)
				}
			}
		}
		all[0].To("new").Emit("after")
		all[1].To("room").Emit("end")
		for _, c := range []*client{a, b} {
			first, second := c.next(), c.next()
			if heard := []string{min(first, second), max(first, second)}; !slices.Equal(heard, []string{`{"event":"after"}`, `{"event":"end"}`}) {
				t.Error(heard)
			}
		}
	})
}

// Nothing is left of a topic that has no subscriptions.
func TestMemoryBusForgets(t *testing.T) {
	bus := new(MemoryBus)
	for range 3 {
		one, err := bus.Subscribe(t.Context(), "topic", func([]byte) {})
		if err != nil {
			t.Fatal(err)
		}
		other, err := bus.Subscribe(t.Context(), "topic", func([]byte) {})
		if err != nil {
			t.Fatal(err)
		}
		one()
		if n := len(bus.topics["topic"]); n != 1 {
			t.Errorf("the topic has %d queues after one of two was cancelled", n)
		}
		other()
		one()
		if n := len(bus.topics); n != 0 {
			t.Errorf("%d topics are left", n)
		}
	}
}
