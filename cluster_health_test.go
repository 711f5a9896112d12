package atrium

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// wordyBus is a BusFlusher that says what is wrong.
type wordyBus struct{ heldBus }

var errForbidden = errors.New("forbidden by the broker")

func (b *wordyBus) Flush(context.Context) error { return errForbidden }

// A node that does not receive what it sends itself, by the topic of all nodes or by its own,
// counts the Bus as failing, though every call of it succeeds.
func TestNodeWithoutEcho(t *testing.T) {
	for _, by := range []string{"all nodes'", "its own"} {
		t.Run(by+" topic", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				logger, log := newLog()
				bus := &wordyBus{heldBus{Bus: new(MemoryBus)}}
				all := newTestCluster(t, overPipe, 2, bus, Options{Timeouts: Timeouts{PingInterval: time.Hour}, Logger: logger})
				h := all[0]
				topic := everyNode
				if by == "its own" {
					topic = nodeTopic(h.node)
				}
				if err := h.Ready(); err != nil {
					t.Errorf("Ready before: %v", err)
				}
				bus.hold(topic, true)
				<-time.After(nodeTimeout + 3*nodeHeartbeat)
				if err := h.Ready(); !errors.Is(err, ErrBus) || !errors.Is(err, errForbidden) || !strings.Contains(err.Error(), topic) {
					t.Errorf("Ready: %v", err)
				}
				if s := h.Nodes().Stats(); s.Failing <= 0 || s.Failing > 3*nodeHeartbeat {
					t.Errorf("%+v", s)
				}
				start := time.Now()
				if n, err := h.Count(t.Context()); n != 0 || !errors.Is(err, ErrBus) || time.Since(start) != 0 {
					t.Errorf("Count: %d, %v after %v", n, err, time.Since(start))
				}
				if !strings.Contains(log.String(), errForbidden.Error()) {
					t.Errorf("the log does not have the broker's words:\n%s", log.String())
				}
				bus.hold("", true)
				<-time.After(2 * nodeHeartbeat)
				if err := h.Ready(); err != nil {
					t.Errorf("Ready after: %v", err)
				}
				if n, err := h.Count(t.Context()); n != 0 || err != nil {
					t.Errorf("Count after: %d, %v", n, err)
				}
				if !strings.Contains(log.String(), "works again") {
					t.Errorf("the log does not say that the bus works again:\n%s", log.String())
				}
			})
		})
	}
}

// A subscription that the Bus has lost is made anew: of the node's own topics, of the namespace,
// and of a room.
func TestLostSubscriptionIsRenewed(t *testing.T) {
	for _, lost := range []string{"everyNode", "nodeTopic", "namespace", "room", "left room"} {
		t.Run(lost, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				logger, log := newLog()
				memory := new(MemoryBus)
				var subscribed sync.Map // topic: *atomic.Bool, whether the last subscription to it delivers
				bus := &scriptedBus{Bus: memory, subscribe: func(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
					delivers := new(atomic.Bool)
					delivers.Store(true)
					subscribed.Store(topic, delivers)
					return memory.Subscribe(ctx, topic, func(msg []byte) {
						if delivers.Load() {
							deliver(msg)
						}
					})
				}}
				h := newTestCluster(t, overPipe, 1, bus, Options{Timeouts: Timeouts{PingInterval: time.Hour}, Logger: logger})[0]
				other := newHub(t, Options{Bus: memory, Timeouts: Timeouts{PingInterval: time.Hour}})
				c := h.connect(t, nil)
				s := c.socket(h.Hub)
				s.Join("room")
				topic := map[string]string{"everyNode": everyNode, "nodeTopic": nodeTopic(h.node), "namespace": roomTopic("/", "")}[lost]
				if topic == "" {
					topic = roomTopic("/", "room")
				}
				if lost == "left room" {
					s.Leave("room")
				}
				delivers, _ := subscribed.Load(topic)
				delivers.(*atomic.Bool).Store(false)
				<-time.After(10 * nodeTimeout) // there are two to take turns
				if err := h.Ready(); err != nil {
					t.Errorf("Ready: %v", err)
				}
				if lost == "left room" {
					if len(h.cluster.topics.pending(topic)) > 0 {
						t.Error("the topic is still wanted")
					}
					return
				}
				what := "nothing comes by the topic"
				if topic == everyNode || topic == nodeTopic(h.node) {
					what = "does not come back"
				}
				if !strings.Contains(log.String(), what) || !strings.Contains(log.String(), "works again") {
					t.Errorf("the log has:\n%s", log.String())
				}
				if n, err := other.To("room").Count(t.Context()); n != 1 || err != nil {
					t.Errorf("Count: %d, %v", n, err)
				}
				other.To("room").Emit("to", "room")
				c.want(`{"event":"to","data":"room"}`)
				other.Emit("to", "everyone")
				c.want(`{"event":"to","data":"everyone"}`)
				other.To(c.sid).Emit("to", "one")
				c.want(`{"event":"to","data":"one"}`)
			})
		})
	}
}

// A node that hears itself before Subscribe has returned, since it answers another node, begins to
// send its hellos all the same.
func TestNodeThatHearsItselfEarlyStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := new(MemoryBus)
		other := newHub(t, Options{Bus: memory})
		<-time.After(nodeHeartbeat / 2)
		bus := &scriptedBus{Bus: memory, subscribe: func(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
			cancel, err := memory.Subscribe(ctx, topic, deliver)
			<-time.After(2 * nodeHeartbeat) // messages come before Subscribe returns
			return cancel, err
		}}
		h := newHub(t, Options{Bus: bus})
		for range 5 {
			<-time.After(nodeTimeout)
			if !slices.Contains(other.cluster.others(), h.node) {
				t.Fatal("the other node does not know of it")
			}
		}
	})
}

// A node whose subscriptions are refused is missed by the others, for its sockets are not among
// those that they count.
func TestRefusedNodeIsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := new(MemoryBus)
		var refuses atomic.Bool
		refuses.Store(true)
		bus := &scriptedBus{Bus: memory, subscribe: func(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
			if refuses.Load() {
				return nil, errForbidden
			}
			return memory.Subscribe(ctx, topic, deliver)
		}}
		other, h := newHub(t, Options{Bus: memory}), newHub(t, Options{Bus: bus})
		<-time.After(2 * nodeHeartbeat)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := other.Count(ctx)
			cancel()
			if e, ok := errors.AsType[*ClusterError](err); !ok || !slices.Equal(e.Missing, []string{h.node}) {
				t.Errorf("Count at another node: %v", err)
			}
			if err := h.Ready(); !errors.Is(err, errForbidden) {
				t.Errorf("Ready: %v", err)
			}
			<-time.After(nodeTimeout)
		}
		refuses.Store(false)
		<-time.After(2 * nodeHeartbeat)
		for _, h := range []*Hub{h, other} {
			if n, err := h.Count(t.Context()); n != 0 || err != nil || h.Ready() != nil || len(h.Nodes().List()) != 1 {
				t.Errorf("Count: %d, %v; ready: %v; nodes: %v", n, err, h.Ready(), h.Nodes().List())
			}
		}
	})
}

// A Bus that refuses from the start is known to fail after its first attempt, and a question that
// waits is told.
func TestBusFailsFromTheStart(t *testing.T) {
	for _, test := range []struct {
		how  string
		most time.Duration
	}{{"fails", 0}, {"hangs", busTimeout}} {
		t.Run(test.how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := &scriptedBus{Bus: new(MemoryBus)}
				bus.fails.Store(test.how == "fails")
				bus.hangs.Store(test.how == "hangs")
				h := newHub(t, Options{Bus: bus})
				for range 3 {
					start := time.Now()
					if _, err := h.Count(t.Context()); !errors.Is(err, ErrBus) || time.Since(start) > test.most {
						t.Errorf("Count: %v after %v", err, time.Since(start))
					}
				}
				if err := h.Ready(); !errors.Is(err, ErrBus) {
					t.Errorf("Ready: %v", err)
				}
			})
		})
	}
}

// A question that is already waiting when the Bus begins to fail does not wait on.
func TestQuestionNoticesOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &scriptedBus{Bus: new(MemoryBus)}
		h := newTestCluster(t, overPipe, 1, bus, Options{})[0]
		(&fakeNode{bus: bus, node: "ghost"}).send(everyNode, clusterMessage{kind: clusterHello})
		synctest.Wait()
		asked := make(chan error, 1)
		start := time.Now()
		go func() {
			_, err := h.Count(t.Context())
			asked <- err
		}()
		synctest.Wait()
		bus.fails.Store(true)
		if err := <-asked; !errors.Is(err, ErrBus) || time.Since(start) > 2*nodeHeartbeat {
			t.Errorf("Count: %v after %v", err, time.Since(start))
		}
	})
}

// Shutdown returns nil when what the hub has emitted, and its goodbye, have left the process.
func TestShutdownFlushesBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := new(MemoryBus)
		other := newTestCluster(t, overPipe, 1, memory, Options{})[0]
		heard := 0
		On(other.Nodes(), "news", func(string, int) error { heard++; return nil })
		bus := &queueingBus{MemoryBus: memory}
		h := newHub(t, Options{Bus: bus})
		synctest.Wait()
		if err := bus.Flush(t.Context()); err != nil { // they know each other
			t.Fatal(err)
		}
		synctest.Wait()
		for i := range 100 {
			h.Nodes().Emit("news", i)
		}
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if nodes := other.Nodes().List(); heard != 100 || len(nodes) != 0 {
			t.Errorf("%d of 100 events came; left: %v", heard, nodes)
		}
	})
}

// What Shutdown waits for the Bus is bounded by its context, but the last messages are tried for a
// second. What did not leave is an error.
func TestShutdownBoundsFlush(t *testing.T) {
	for _, test := range []struct {
		name          string
		context, want time.Duration
	}{
		{"long", time.Minute, time.Minute},
		{"short", 10 * time.Millisecond, clusterWait},
		{"ended", 0, clusterWait},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := New(Options{Bus: &queueingBus{MemoryBus: new(MemoryBus), hangs: true}})
				ctx, cancel := context.WithTimeout(t.Context(), test.context)
				defer cancel()
				start := time.Now()
				if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != test.want {
					t.Errorf("%v after %v, want %v", err, time.Since(start), test.want)
				}
				if err := h.Ready(); !errors.Is(err, ErrClosed) {
					t.Errorf("Ready: %v", err)
				}
			})
		})
	}
}
