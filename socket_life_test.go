package atrium

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// entering is a hub whose sockets join the rooms "first" and "last" in Use, and a lock on the
// latter: who enters stops between the two.
type entering struct {
	*Hub
	last *room
	used chan *Socket // those that have joined
	left <-chan Reason
}

func newEntering(t *testing.T, options Options) *entering {
	h := newHub(t, options)
	keeper := newMailbox(t, h)
	t.Cleanup(keeper.drop)
	keeper.Join("first", "last")
	e := &entering{Hub: h, last: h.room("last"), used: make(chan *Socket, 1), left: leavings(h)}
	h.Use(func(s *Socket) error {
		e.used <- s
		return s.Join("first", "last")
	})
	return e
}

// stop has enter, which connects a client, stop as it enters, and returns the client's socket and
// what lets it go on.
func (e *entering) stop(t *testing.T, enter func()) (s *Socket, goOn func()) {
	t.Helper()
	e.last.mu.Lock()
	goOn = sync.OnceFunc(e.last.mu.Unlock)
	t.Cleanup(goOn)
	enter()
	s = within(t, e.used, "Use")
	eventually(t, "the socket to join the first of its rooms", func() bool { return e.roomSize("first") == 2 })
	return s, goOn
}

// marker is a message that a client ignores. Before it everything leaves that has been queued.
const marker = "6"

func (s *Socket) sendMarker() { s.session.sendText(append(newFrame(1), marker...)) }

// The first that a client hears is that it is connected, and then it is in the rooms that it joined
// in Use: no matter what makes the connection be written to meanwhile, and what the rooms are told.
func TestConnectMessageWaitsForRooms(t *testing.T) {
	noLeaks(t)
	t.Run("plain", func(t *testing.T) {
		overKinds(t, func(t *testing.T, k kind) {
			e := newEntering(t, Options{})
			c := serve(t, k, e).offer(t)
			s, goOn := e.stop(t, func() { c.emit("connect", nil) })
			e.To("first").Emit("early")
			s.sendMarker()
			c.want(marker)
			goOn()
			c.want(`{"event":"connect","data":{"sid":"` + s.ID() + `"}}`)
			c.want(`{"event":"early"}`)
			e.To("last").Emit("late")
			c.want(`{"event":"late"}`)
		})
	})
	e := newEntering(t, Options{})
	e.Of("/other")
	overTransports(t, e.Hub, func(t *testing.T, open func() talker) {
		c := open()
		s, goOn := e.stop(t, func() { c.say("40", "40/other") })
		e.Emit("early", 1, Binary("abc"))
		e.To("first").Emit("early", 2)
		wantHears(t, c, welcome("/other,")) // it waits for nobody
		s.sendMarker()
		if got := c.hear(); got != marker {
			t.Errorf("got %s while the socket enters", got)
		}
		goOn()
		wantHears(t, c, `40{"sid":"`+s.ID()+`"}`, `451-["early",1,{"_placeholder":true,"num":0}]`, "bYWJj", `42["early",2]`)
		e.To("last").Emit("late")
		wantHears(t, c, `42["late"]`)
		c.say("1")
		wantReason(t, e.left, ReasonTransportClose)
		c.hear() // the GET that the hub waits for
	})
	t.Run("upgrade", func(t *testing.T) {
		poll := serve(t, overTCP, e).polls(t)
		c := poll.probing()
		c.send("2probe")
		c.want("3probe")
		s, goOn := e.stop(t, func() { poll.post("40") })
		e.To("first").Emit("early", 1)
		c.send("5")
		eventually(t, "the upgrade", func() bool { return s.session.conn.Load() != nil })
		e.To("first").Emit("early", 2)
		s.sendMarker()
		c.want(marker)
		goOn()
		wantHears(t, ioClient{c}, `40{"sid":"`+s.ID()+`"}`, `42["early",1]`, `42["early",2]`)
	})
}

// A client that comes back is in its rooms, too, when it hears that it does.
func TestConnectMessageWaitsForRecoveredRooms(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{})
	keeper := newMailbox(t, l.Hub)
	t.Cleanup(keeper.drop)
	keeper.Join("room")
	g := l.enter(t, "")
	g.socket.Join("room")
	l.Emit("known")
	offset := offsetOf(t, g.next())
	l.cut(g)
	l.Emit("missed")

	room := l.room("room")
	room.mu.Lock()
	goOn := sync.OnceFunc(room.mu.Unlock)
	t.Cleanup(goOn)
	back := &recoveryClient{ioClient: l.socketIO(t)}
	back.send("40" + proof(g.pid, offset))
	eventually(t, "the client to come back", func() bool { s := l.Namespace.socket(g.id); return s != nil && s != g.socket })
	l.Namespace.socket(g.id).sendMarker()
	wantHears(t, back, `~42\["missed","\d+"\]`)
	back.want(marker)
	goOn()
	back.hello()
	if back.id != g.id {
		t.Errorf("%s came back as %s", g.id, back.id)
	}
}

// With a Bus the socket is in its rooms when what other nodes emit to them reaches it.
func TestConnectMessageWaitsForBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, subscribing, subscribed := new(MemoryBus), make(chan struct{}, 10), make(chan struct{})
		bus := &scriptedBus{Bus: memory, subscribe: func(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
			if topic == roomTopic("/", "room") {
				subscribing <- struct{}{}
				<-subscribed
			}
			return memory.Subscribe(ctx, topic, deliver)
		}}
		all := newTestCluster(t, overPipe, 2, bus, Options{})
		used := make(chan *Socket, 1)
		all[0].Use(func(s *Socket) error {
			used <- s
			return s.Join("room")
		})
		c := all[0].offer(t)
		c.emit("connect", nil)
		s := <-used
		<-subscribing
		s.sendMarker()
		c.want(marker)
		close(subscribed)
		c.want(`{"event":"connect","data":{"sid":"` + s.ID() + `"}}`)
		all[1].To("room").Emit("hello")
		c.want(`{"event":"hello"}`)
	})
}

// A client that goes while it enters has been there, and leaves nothing behind.
func TestClientGoesWhileEntering(t *testing.T) {
	noLeaks(t)
	e := newEntering(t, Options{})
	c := serve(t, overTCP, e).offer(t)
	s, goOn := e.stop(t, func() { c.emit("connect", nil) })
	e.To("first").Emit("early")
	c.CloseNow()
	eventually(t, "the hub to notice", s.session.ended.Load)
	goOn()
	wantReason(t, e.left, ReasonTransportClose)
	if n := e.roomSize("first") + e.roomSize("last"); n != 2 {
		t.Errorf("%d members, want the two that were there", n)
	}
	if s.session.early != nil {
		t.Error("events for the socket are left")
	}
}

// What waits for a connect message is bounded.
func TestTooMuchWhileEntering(t *testing.T) {
	noLeaks(t)
	e := newEntering(t, Options{Limits: Limits{QueuedBytes: 10_000}})
	c := serve(t, overTCP, e).offer(t)
	s, goOn := e.stop(t, func() { c.emit("connect", nil) })
	emitted := make(chan struct{})
	go func() {
		defer close(emitted)
		for range 3 {
			e.To("first").Emit("early", strings.Repeat("x", 6_000))
		}
	}()
	eventually(t, "the client to be given up", s.session.ended.Load)
	goOn()
	within(t, emitted, "Emit")
	wantReason(t, e.left, ReasonSlowConsumer)
}
