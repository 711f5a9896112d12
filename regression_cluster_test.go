package atrium

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What the cluster once got wrong and must not get wrong again. Each test is named after what it
// guards.

// A room that nobody can join is no topic: its name, which may be a client's, is of any length, and
// NATS closes the connection on a subject of more than 4 KiB.
func TestImpossibleRoomIsNotPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := new(MemoryBus)
		published := make(chan string, 1000)
		bus := &scriptedBus{Bus: memory, publish: func(ctx context.Context, topic string, msg []byte) error {
			published <- topic
			return memory.Publish(ctx, topic, msg)
		}}
		h := newTestCluster(t, overPipe, 2, bus, Options{})[0]
		c := h.connect(t, nil)
		s := c.socket(h.Hub)
		for _, name := range []string{"", strings.Repeat("x", maxRoomName+1), "\xff"} {
			if err := s.To(name).Emit("e"); err != nil {
				t.Error(err)
			}
			if n, err := h.To(name).Count(t.Context()); n != 0 || err != nil {
				t.Error(n, err)
			}
		}
		h.To(strings.Repeat("x", maxRoomName)).Emit("e")
		synctest.Wait()
		for range len(published) {
			topic := <-published
			if topic != everyNode && !strings.HasPrefix(topic, nodeTopic("")) && topic != roomTopic("/", strings.Repeat("x", maxRoomName)) {
				t.Errorf("published: %.40q, %d bytes", topic, len(topic))
			}
		}
	})
}

// A client whose answer is nested as deeply as an answer may be does not take the answers of others
// with it.
func TestDeepReplyLeavesTheOthers(t *testing.T) {
	noLeaks(t)
	all := newTestCluster(t, overTCP, 2, new(MemoryBus), Options{})
	want := make(map[string]string)
	for i := range 10 {
		c := all[0].connect(t, nil)
		c.socket(all[0].Hub)
		depth := maxDepth - i%3
		answer := strings.Repeat("[", depth) + strings.Repeat("]", depth)
		want[c.sid] = answer
		go func() {
			for {
				_, p, err := c.Read(context.Background())
				if err != nil {
					return
				}
				var q struct{ ID *int64 }
				if json.Unmarshal(p, &q) == nil && q.ID != nil {
					c.Write(context.Background(), MessageText, fmt.Appendf(nil, `{"id":%d,"data":%s}`, *q.ID, answer))
				}
			}
		}()
	}
	here, err := all[0].Call(t.Context(), "q")
	if err != nil {
		t.Fatal(err)
	}
	if len(here) != len(want) {
		t.Fatalf("%d replies on their own node", len(here))
	}
	there, err := all[1].Call(t.Context(), "q")
	if err != nil || len(there) != len(want) {
		t.Fatalf("%d replies on another node, want %d; %v", len(there), len(want), err)
	}
	for _, r := range there {
		if r.Err != nil || string(r.Data) != want[r.SocketID] {
			t.Errorf("%s: %.10s… %v", r.SocketID, r.Data, r.Err)
		}
	}
}

// A handler of what other nodes send that ends its goroutine costs the node that one event, and is
// logged.
func TestNodesHandlerExits(t *testing.T) {
	noLeaks(t)
	logger, log := newLog()
	all := newTestCluster(t, overTCP, 2, new(MemoryBus), Options{Logger: logger})
	handled := newChannel[int]()
	On(all[1].Nodes(), "e", func(_ string, n int) error {
		if n == 0 {
			runtime.Goexit()
		}
		handled <- n
		return nil
	})
	for n := range 3 {
		all[0].Nodes().Emit("e", n)
	}
	for want := 1; want < 3; want++ {
		if got := within(t, handled, "an event"); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
	if s := log.String(); !strings.Contains(s, "runtime.Goexit") {
		t.Errorf("the log has %q", s)
	}
}

// A room that is joined again while its old subscription is being cancelled has two for a moment: a
// message comes once.
func TestTopicAndSuccessorDeliverOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// After cancel the Bus may go on delivering, for as long as a connection takes to hear of
		// it.
		var delivers []func([]byte)
		bus := &scriptedBus{subscribe: func(_ context.Context, _ string, deliver func([]byte)) (func(), error) {
			delivers = append(delivers, deliver)
			return func() {}, nil
		}}
		var delivered []string
		ts := newTopics(bus, func(_ *topic, msg []byte) { delivered = append(delivered, string(msg)) })
		ts.acquire("room")
		synctest.Wait()
		ts.release("room")
		<-time.After(2 * ts.linger)
		ts.acquire("room")
		synctest.Wait()
		if len(delivers) != 2 {
			t.Fatalf("%d subscriptions", len(delivers))
		}
		for i, deliver := range delivers {
			deliver(fmt.Appendf(nil, "by %d", i))
		}
		if diff := cmp.Diff([]string{"by 1"}, delivered); diff != "" {
			t.Error(diff)
		}
		ts.dropAll()
	})
}

// What was wanted and forgotten during an outage does not wait for its end.
func TestForgottenTopicsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &scriptedBus{Bus: new(MemoryBus)}
		bus.fails.Store(true)
		ts := newTopics(bus, nil)
		ctx, stop := context.WithCancel(t.Context())
		ts.ctx = ctx
		ts.acquire("kept")
		for i := range 1000 {
			ts.acquire(fmt.Sprint(i))
			ts.release(fmt.Sprint(i))
		}
		<-time.After(2 * ts.linger)
		synctest.Wait()
		ts.mu.Lock()
		if n := ts.waiting.Len(); n > 1 || len(ts.byName) != 1 {
			t.Errorf("%d wait, of %d", n, len(ts.byName))
		}
		ts.mu.Unlock()
		bus.fails.Store(false)
		if err := ts.await(t.Context(), ts.pending("kept")[0]); err != nil {
			t.Error(err)
		}
		stop()
		ts.dropAll()
	})
}

// Clients that do not answer calls keep nobody from asking, or disconnecting, the sockets of their
// node.
func TestSilentClientsLeaveRoomForQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := new(MemoryBus)
		h := newTestCluster(t, overPipe, 1, bus, Options{Timeouts: Timeouts{PingInterval: time.Hour}})[0]
		c := h.connect(t, nil)
		c.socket(h.Hub)
		go func() { // it reads, and says nothing
			for {
				if _, _, err := c.Read(context.Background()); err != nil {
					return
				}
			}
		}()
		other := &fakeNode{bus: bus, node: "other"}
		for n := range uint64(maxAnswering + 10) {
			other.send(everyNode, clusterMessage{kind: clusterCall, request: n + 1, namespace: "/", eventData: eventData{name: "q"}, limit: time.Hour})
		}
		synctest.Wait()
		if n := h.cluster.requests.calling.Load(); n != maxAnswering {
			t.Errorf("%d calls are under way", n)
		}
		if n := h.Nodes().Stats().Dropped; n != 10 {
			t.Errorf("%d dropped", n)
		}
		other.send(everyNode, clusterMessage{kind: clusterDisconnect, request: 1 << 20, namespace: "/"})
		eventually(t, "the client to be disconnected", func() bool { return h.Namespace.everyone.count() == 0 })
		synctest.Wait()
		if n := h.cluster.requests.calling.Load(); n != 0 {
			t.Errorf("%d calls are under way after it has gone", n)
		}
	})
}

// A topic remembers the nodes that are there, not all that ever were.
func TestTopicForgetsNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := new(MemoryBus)
		h := newTestCluster(t, overPipe, 1, bus, Options{})[0]
		for i := range 10 * topicNodes {
			passing := &fakeNode{bus: bus, node: fmt.Sprintf("%05d", i)}
			passing.send(everyNode, clusterMessage{kind: clusterHello})
			passing.send(everyNode, clusterMessage{kind: clusterGoodbye})
		}
		staying := &fakeNode{bus: bus, node: "there"}
		staying.send(everyNode, clusterMessage{kind: clusterHello})
		synctest.Wait()
		h.cluster.topics.mu.Lock()
		everybody := h.cluster.topics.byName[everyNode]
		h.cluster.topics.mu.Unlock()
		if n := len(everybody.latest); n > 2*topicNodes {
			t.Errorf("%d nodes", n)
		}
		if s := h.Nodes().Stats(); s.Repeated+s.Malformed != 0 || s.Nodes != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// The goodbye is the last that a node says: whatever else it said would make the others wait for
// its answers.
func TestNothingFollowsGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newTestCluster(t, overPipe, 2, new(MemoryBus), Options{})
		leaving := all[0].cluster
		leaving.send(everyNode, &clusterMessage{kind: clusterGoodbye})
		leaving.tick()
		leaving.hello("a new one")
		all[0].Nodes().Emit("e")
		leaving.ask("", &clusterMessage{kind: clusterCount})
		synctest.Wait()
		if nodes := all[1].Nodes().List(); len(nodes) != 0 {
			t.Errorf("%v are still there", nodes)
		}
	})
}

// A hub that is shut down without patience for its handlers says goodbye all the same.
func TestGoodbyeWhenShutdownRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newTestCluster(t, overPipe, 2, new(MemoryBus), Options{Timeouts: Timeouts{PingInterval: time.Hour}})
		release := make(chan struct{})
		defer close(release)
		blocked := make(chan struct{})
		all[0].OnDisconnect(func(*Socket, Reason) { close(blocked); <-release })
		c := all[0].connect(t, nil)
		c.socket(all[0].Hub)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-blocked; cancel() }()
		if err := all[0].Shutdown(ctx); err == nil {
			t.Error("nobody is left")
		}
		synctest.Wait()
		if nodes := all[1].Nodes().List(); len(nodes) != 0 {
			t.Errorf("%v are still there", nodes)
		}
	})
}
