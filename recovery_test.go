package atrium

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// check compares what is counted with what is there.
func (r *recovery) check(t testing.TB) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	bytes, away := 0, 0
	for _, e := range r.events.items[r.events.head:] {
		bytes += e.size
	}
	for e := r.parked.Front(); e != nil; e = e.Next() {
		k := e.Value.(*kept)
		bytes += k.size()
		away++
		if r.byPID[k.pid] != k || r.away[k.id] != k || k.gone || k.claim != nil || k.session != nil || k.parked != e {
			t.Errorf("%+v is parked", k)
		}
	}
	for pid, k := range r.byPID {
		if k.pid != pid || k.gone || (k.parked == nil) != (k.claim != nil || k.session != nil) || (r.away[k.id] == k) != (k.session == nil) {
			t.Errorf("%+v is kept", k)
		}
	}
	for id, k := range r.away {
		if k.id != id || r.byPID[k.pid] != k {
			t.Errorf("%+v is away", k)
		}
	}
	if most := r.ns.hub.options.Recovery.MaxBytes; bytes != r.bytes || bytes > most {
		t.Errorf("%d bytes are kept, %d counted, of %d", bytes, r.bytes, most)
	}
	if len(r.byPID) == 0 && (bytes != 0 || r.timer.scheduled) {
		t.Error("events are kept for nobody")
	}
}

func (r *recovery) lastNumber() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last()
}

func (r *recovery) counts() (dropped uint64, bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped, r.bytes
}

// What a client had it has again, and what was for it meanwhile it gets once, in order, before it
// is connected.
func TestRecovery(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		l := newRecoveryHub(t, k, Options{})
		used := 0
		l.Use(func(s *Socket) error {
			used++
			s.Set("name", "Ada")
			return s.Join("early")
		})
		g := l.enter(t, `{"token":"x"}`)
		s := g.socket
		if s.Recovered() {
			t.Error("a new socket is recovered")
		}
		s.Join("a", "b")
		s.Set("count", 1)
		l.Emit("first", 1)
		first := g.next()
		l.To("a").Emit("lost", 2) // on its way when the connection broke
		l.cut(g)
		if n, _ := l.Count(t.Context()); n != 0 || len(l.LocalRooms()) != 0 || s.Context().Err() == nil {
			t.Errorf("away, and there are %d sockets in %v", n, l.LocalRooms())
		}

		l.Emit("everyone")
		l.To("a", "b", "c").Emit("rooms", 1, "x")
		l.To("c").Emit("others")
		l.Except("b").Emit("others")
		l.To(g.id).Emit("id", Binary("data"))
		l.Except(g.id).Emit("others")
		l.Volatile().Emit("others")
		l.To("early").Emit("early", []int{})
		l.Call(t.Context(), "others")
		s.Emit("direct", "to who was here")
		s.To("a").Emit("others")
		if err := l.Emit("bad", func() {}); err == nil {
			t.Error("a function was encoded")
		}
		l.recovery.check(t)

		back := l.enter(t, proof(g.pid, offsetOf(t, first)))
		wantMissed(t, back, `42["lost",2]`, `42["everyone"]`, `42["rooms",1,"x"]`, `451-["id",{"_placeholder":true,"num":0}]`, `data`,
			`42["early",[]]`, `42["direct","to who was here"]`)
		b := back.socket
		if back.id != g.id || back.pid != g.pid || !b.Recovered() || b == s {
			t.Errorf("id %s became %s, pid %s %s, recovered: %v", g.id, back.id, g.pid, back.pid, b.Recovered())
		}
		if diff := cmp.Diff([]string{"a", "b", "early"}, b.Rooms()); diff != "" || used != 1 {
			t.Errorf("used %d times; %s", used, diff)
		}
		name, _ := Value[string](b, "name")
		count, _ := Value[int](b, "count")
		if name != "Ada" || count != 1 {
			t.Errorf("the values are %q and %d", name, count)
		}

		// All works as before, also with the Socket that was.
		l.To("b").Emit("live")
		back.want(`42["live","12"]`)
		s.To("a").Emit("others")
		s.Emit("again")
		if m := back.next(); !strings.HasPrefix(m, `42["again",`) {
			t.Errorf("got %s", m)
		}
		l.cut(back)
		again := l.enter(t, proof(g.pid, offsetOf(t, back.missed[6])))
		if wantMissed(t, again, `42["live"]`, `42["again"]`); again.id != g.id {
			t.Error("it is another socket")
		}
		l.recovery.check(t)
		again.socket.Disconnect()
		again.want("41")
		within(t, l.went, "OnDisconnect")
		l.recovery.check(t)
	})
}

// Whose proof is not good is a new client.
func TestRecoveryRefused(t *testing.T) {
	tests := map[string]struct {
		leave func(l *recoveryHub, g *recoveryClient)
		proof func(pid string) string
	}{
		"unknown pid":                 {proof: func(pid string) string { return proof(strings.ToUpper(pid)+"x", "1") }},
		"no pid":                      {proof: func(string) string { return `{"offset":"1"}` }},
		"pid no string":               {proof: func(string) string { return `{"pid":7}` }},
		"offset no string":            {proof: func(pid string) string { return `{"pid":"` + pid + `","offset":1}` }},
		"offset no number":            {proof: func(pid string) string { return proof(pid, "foo") }},
		"offset from later":           {proof: func(pid string) string { return proof(pid, "99") }},
		"offset from before":          {proof: func(pid string) string { return proof(pid, "0") }},
		"client namespace disconnect": {leave: func(l *recoveryHub, g *recoveryClient) { g.send("41"); within(g.t, l.went, "leaving") }},
		"server namespace disconnect": {leave: func(l *recoveryHub, g *recoveryClient) { g.socket.Disconnect(); within(g.t, l.went, "leaving") }},
		"client disconnected":         {leave: func(l *recoveryHub, g *recoveryClient) { g.socket.DisconnectClient(); within(g.t, l.went, "leaving") }},
		"parse error":                 {leave: func(l *recoveryHub, g *recoveryClient) { g.send("47"); within(g.t, l.went, "leaving") }},
		"disconnected while away":     {leave: func(l *recoveryHub, g *recoveryClient) { l.cut(g); g.socket.Disconnect() }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			l := newRecoveryHub(t, overPipe, Options{})
			l.enter(t, "").settleEvent(t, l)
			g := l.enter(t, "")
			g.settleEvent(t, l)
			if test.leave == nil {
				l.cut(g)
			} else {
				test.leave(l, g)
			}
			l.Emit("missed")
			if test.proof == nil {
				test.proof = func(pid string) string { return proof(pid, "2") }
			}
			back := l.enter(t, test.proof(g.pid))
			if back.id == g.id || back.pid == g.pid || back.socket.Recovered() || len(back.missed) > 0 {
				t.Errorf("it came back as %s, with %q", back.id, back.missed)
			}
			l.recovery.check(t)
		})
	}
}

// A client that has received nothing yet gets all from the start of its session.
func TestRecoveryWithoutOffset(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{})
	other := l.enter(t, "")
	l.Emit("before")
	g := l.enter(t, "")
	l.Emit("lost")
	l.cut(g)
	l.Emit("missed")
	back := l.enter(t, proof(g.pid, ""))
	if wantMissed(t, back, `42["lost"]`, `42["missed"]`); back.id != g.id {
		t.Error("it is another socket")
	}
	l.cut(back)
	l.cut(other)
}

// An event that is not kept carries an offset, too: a client takes any last argument that is a
// string for one.
func TestRecoveryVolatile(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{})
	g := l.enter(t, "")
	l.Emit("kept", "a")
	g.want(`42["kept","a","1"]`)
	l.Volatile().Emit("volatile", "a")
	g.want(`42["volatile","a","1"]`)
	l.Volatile().Emit("volatile")
	g.want(`42["volatile","1"]`)
	go l.Call(t.Context(), "call", "a") // an acknowledgement's function is the last argument
	if m := g.next(); m != `420["call","a"]` {
		t.Errorf("got %s", m)
	}
	g.send(`430[]`)
	g.send(`42["unknown"]`)
	g.want(`42["error",{"event":"unknown","message":"event: \"unknown\" is not one that this server knows"}]`)
	l.cut(g)
	l.Emit("missed")
	back := l.enter(t, proof(g.pid, "1"))
	wantMissed(t, back, `42["missed"]`)
}

// Plain clients see nothing of it.
func TestRecoveryPlainClients(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{})
	plain := l.connect(t, map[string]string{"pid": "x"})
	within(t, l.came, "OnConnect").Emit("alone")
	plain.want(`{"event":"alone"}`)
	r := l.recovery
	if l.Emit("nobody"); r.last() != 0 {
		t.Error("an event is kept for nobody")
	}
	plain.want(`{"event":"nobody"}`)
	g := l.enter(t, "")
	l.Emit("both", 1)
	plain.want(`{"event":"both","data":1}`)
	g.want(`42["both",1,"1"]`)
}

// Without the option nothing is added, and nothing is asked.
func TestRecoveryOff(t *testing.T) {
	h := newHub(t, Options{})
	if h.recovery != nil {
		t.Fatal("something is kept")
	}
	c := serve(t, overTCP, h).socketIO(t)
	c.send(`40{"pid":"abcdefghijklmnopqrst","offset":"1"}`)
	if m := c.next(); strings.Contains(m, "pid") {
		t.Errorf("the reply is %s", m)
	}
	h.Emit("foo")
	c.want(`42["foo"]`)
}

// The client is back before the hub has noticed that it had gone: the live session moves over.
func TestRecoveryTakeover(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		l := newRecoveryHub(t, k, Options{})
		released, entered := make(chan bool), make(chan bool)
		l.Handle("slow", func(e *Event) {
			close(entered)
			<-released
			e.Socket().Set("slow", true)
		})
		g := l.enter(t, "")
		g.socket.Join("room")
		l.Emit("lost")
		g.send(`42["slow"]`)
		<-entered
		back := &recoveryClient{ioClient: l.socketIO(t)}
		back.send("40" + proof(g.pid, ""))
		ctx := g.socket.Context()
		within(t, ctx.Done(), "the old connection's end")
		l.To("room").Emit("between")
		select {
		case s := <-l.came:
			t.Fatalf("%v has come before the other has gone", s)
		case <-l.went:
			t.Fatal("it has gone before its events")
		default:
		}
		close(released)
		back.hello()
		wantMissed(t, back, `42["lost"]`, `42["between"]`)
		if why := within(t, l.went, "OnDisconnect"); why != ReasonTransportClose {
			t.Errorf("gone for %q", why)
		}
		back.socket = within(t, l.came, "OnConnect")
		slow, _ := Value[bool](back.socket, "slow")
		if n, _ := l.Count(t.Context()); n != 1 || back.id != g.id || !slow || !back.socket.In("room") {
			t.Errorf("%d sockets; %s became %s", n, g.id, back.id)
		}
		for range 2 {
			if _, _, err := g.Read(t.Context()); errors.Is(err, context.DeadlineExceeded) {
				t.Error("the old connection lives")
			}
		}
		l.recovery.check(t)
	})
}

// One connection continues a session, however many ask.
func TestRecoveryRace(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{})
	for round := range 20 {
		g := l.enter(t, "")
		if round%2 == 0 {
			l.cut(g)
		}
		const asking = 8
		clients := make([]*recoveryClient, asking)
		for i := range clients {
			clients[i] = &recoveryClient{ioClient: l.socketIO(t)}
		}
		var all sync.WaitGroup
		for _, c := range clients {
			all.Go(func() {
				c.Write(t.Context(), MessageText, []byte("40"+proof(g.pid, "")))
			})
		}
		all.Wait()
		live := 0
		for _, c := range clients {
			c.takeHello()
		}
		for _, c := range clients {
			if c.id == g.id {
				live++
			}
		}
		// A later one takes over from an earlier, which then is closed.
		if n, _ := l.To(g.id).Count(t.Context()); n != 1 || live == 0 {
			t.Fatalf("%d of %d are %s, %d connected", live, asking, g.id, n)
		}
		l.recovery.check(t)
		for _, c := range clients {
			c.CloseNow()
		}
		eventually(t, "the end of all", func() bool { return len(l.list()) == 0 })
		for len(l.came) > 0 {
			<-l.came
		}
	}
}

// Shutdown may list the handlers that run while a client comes back, which changes its socket's id.
func TestRecoveryWhileHandlersAreListed(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = describeHandlers(l.runningHandlers())
			}
		}
	}()
	g := l.enter(t, "")
	for range 50 {
		l.cut(g)
		back := l.enter(t, proof(g.pid, ""))
		if back.id != g.id {
			t.Fatalf("%s became %s", g.id, back.id)
		}
		g = back
	}
	close(stop)
	<-stopped
}

// A client whose connections are cut again and again, noticed or not, misses nothing and gets
// nothing twice.
func TestRecoveryUnderTraffic(t *testing.T) {
	overPlain(t, func(t *testing.T, k kind) {
		noLeaks(t)
		l := newRecoveryHub(t, k, Options{Limits: Limits{QueuedBytes: 64 << 20}})
		l.Use(func(s *Socket) error { return s.Join("room") })
		rounds := 40
		if testing.Short() {
			rounds = 10
		}
		g := l.enter(t, "")
		id := g.id
		stop := make(chan bool)
		emitted := make(chan int)
		go func() {
			n := 0
			defer func() { emitted <- n }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				n++
				switch n % 3 {
				case 0:
					l.Emit("n", n)
				case 1:
					l.To("room", id).Emit("n", n)
				case 2:
					l.To(id).Emit("n", n)
				}
				l.Volatile().Emit("v")
				if n%100 == 0 {
					l.Volatile().Emit("v", "foo")
				}
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Microsecond): // or it would outrun the client
				}
			}
		}()
		last, offset := 0, ""
		see := func(m string) {
			offset = offsetOf(t, m)
			var n int
			if _, err := fmt.Sscanf(m, `42["n",%d,`, &n); err != nil {
				return
			}
			if last++; n != last {
				t.Fatalf("got %d after %d", n, last-1)
			}
		}
		for round := range rounds {
			for range 20 + round {
				see(g.next())
			}
			if round%3 == 2 {
				g.CloseNow()
			}
			old := g
			g = &recoveryClient{ioClient: l.socketIO(t)}
			g.send("40" + proof(old.pid, offset))
			g.hello()
			old.CloseNow()
			if g.id != old.id {
				t.Fatalf("round %d: it is another socket", round)
			}
			for _, m := range g.missed {
				see(m)
			}
			l.recovery.check(t)
		}
		close(stop)
		for n := <-emitted; last < n; {
			see(g.next())
		}
		if rooms := l.LocalRooms(); len(rooms) != 1 || rooms[0].Sockets != 1 {
			t.Errorf("the rooms are %v", rooms)
		}
	})
}

// What went to a room before the socket was in it is not for it.
func TestRecoveryLateJoin(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{})
	g := l.enter(t, "")
	l.To("room").Emit("before")
	l.Except("room").Emit("not in it yet")
	g.socket.Join("room")
	l.To("room").Emit("after")
	l.Except("room").Emit("in it")
	l.cut(g)
	wantMissed(t, l.enter(t, proof(g.pid, "")), `42["not in it yet"]`, `42["after"]`)
}

// Nobody gets the mail of a socket that is away.
func TestRecoveryRoomNames(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{})
	g, other := l.enter(t, ""), l.enter(t, "")
	l.cut(g)
	if err := other.socket.Join(g.id); !errors.Is(err, ErrRoomName) {
		t.Errorf("joining the id of one who is away: %v", err)
	}
	if err := g.socket.Join("room"); err != nil || g.socket.In("room") { // it says where it was when it was disconnected
		t.Errorf("joining while away: %v", err)
	}
	if back := l.enter(t, proof(g.pid, "")); !back.socket.In("room") {
		t.Error("what joined while away is not in the room")
	}
}

// Time passes, by synctest's clock.
func TestRecoveryExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRecoveryHub(t, overPipe, Options{Recovery: Recovery{MaxDisconnection: 2 * time.Minute}})
		r := l.recovery
		quiet := l.enter(t, "")
		quiet.settleEvent(t, l)
		l.Emit("lost")
		l.cut(quiet)

		time.Sleep(2*time.Minute - time.Second)
		back := l.enter(t, proof(quiet.pid, "1"))
		if wantMissed(t, back, `42["lost"]`); back.id != quiet.id {
			t.Error("it was forgotten early")
		}
		go back.answerPings()
		time.Sleep(10 * time.Minute) // connected, in which time no event is kept so long
		other := l.enter(t, "")
		l.To(other.id).Emit("others")
		time.Sleep(10 * time.Minute)
		if r.check(t); r.bytes != 0 || r.dropped != 3 || r.timer.scheduled {
			t.Errorf("%d bytes are kept, %d dropped", r.bytes, r.dropped)
		}
		// It has all that was ever for it, though others' events are not known any more.
		l.cut(back)
		again := l.enter(t, proof(quiet.pid, "2"))
		if again.id != quiet.id {
			t.Error("it was forgotten though it missed nothing")
		}
		l.cut(again)
		time.Sleep(2*time.Minute + time.Millisecond)
		if fresh := l.enter(t, proof(quiet.pid, "2")); fresh.id == quiet.id {
			t.Error("it was not forgotten")
		}
		time.Sleep(time.Minute)
		r.check(t)
	})
}

// A client that goes silent is noticed late, and what it did not get meanwhile is still there.
func TestRecoveryAfterPingTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRecoveryHub(t, overPipe, Options{Recovery: Recovery{MaxDisconnection: 5 * time.Second}})
		g := l.enter(t, "")
		g.settleEvent(t, l)
		go io.Copy(io.Discard, g.nc)
		l.Emit("lost")
		if why := <-l.went; why != ReasonPingTimeout {
			t.Fatalf("gone for %q", why)
		}
		time.Sleep(4 * time.Second)
		back := l.enter(t, proof(g.pid, "1"))
		if wantMissed(t, back, `42["lost"]`); back.id != g.id {
			t.Error("it is another socket")
		}
	})
}

// A token that expires ends the right to come back, and a socket that is back keeps its time.
func TestRecoveryDisconnectAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRecoveryHub(t, overPipe, Options{})
		g := l.enter(t, "")
		g.socket.DisconnectAt(time.Now().Add(20 * time.Second))
		l.cut(g)
		time.Sleep(10 * time.Second)
		back := l.enter(t, proof(g.pid, ""))
		if back.id != g.id {
			t.Fatal("it is another socket")
		}
		l.cut(back)
		time.Sleep(5 * time.Second)
		again := l.enter(t, proof(g.pid, ""))
		time.Sleep(6 * time.Second)
		again.want("41")
		<-l.went

		away := l.enter(t, "")
		away.socket.DisconnectAt(time.Now().Add(20 * time.Second))
		l.cut(away)
		time.Sleep(21 * time.Second)
		if back := l.enter(t, proof(away.pid, "")); back.id == away.id {
			t.Error("it came back with a token that had expired")
		}
	})
}

// newBlockedAway makes a hub with a client that is away, while its handler runs until released is
// closed.
func newBlockedAway(t *testing.T) (l *recoveryHub, away *recoveryClient, released chan bool) {
	l = newRecoveryHub(t, overTCP, Options{})
	entered, released := make(chan bool), make(chan bool)
	l.Handle("slow", func(*Event) { close(entered); <-released })
	away = l.enter(t, "")
	away.send(`42["slow"]`)
	<-entered
	away.CloseNow()
	within(t, away.socket.Context().Done(), "the end")
	return l, away, released
}

// A client that comes back and is cut again before it is connected may try once more.
func TestRecoveryInterrupted(t *testing.T) {
	noLeaks(t)
	l, g, released := newBlockedAway(t)
	impatient := l.socketIO(t)
	impatient.send("40" + proof(g.pid, ""))
	r := l.recovery
	claimed := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.byPID[g.pid].claim != nil
	}
	eventually(t, "the claim", claimed)
	impatient.CloseNow()
	eventually(t, "the claim to be given back", func() bool { return !claimed() })
	r.check(t)
	close(released)
	l.Emit("missed")
	back := l.enter(t, proof(g.pid, ""))
	if wantMissed(t, back, `42["missed"]`); back.id != g.id {
		t.Error("it is another socket")
	}
}

// A client whose connection is replaced while it waits for the handlers of an earlier one comes
// back over the newest.
func TestRecoveryClaimedAgain(t *testing.T) {
	noLeaks(t)
	l, g, released := newBlockedAway(t)
	claim := func(before *Socket) (by *Socket) {
		eventually(t, "the claim", func() bool {
			l.recovery.mu.Lock()
			defer l.recovery.mu.Unlock()
			by = l.recovery.byPID[g.pid].claim
			return by != before
		})
		return by
	}
	older, newer := l.socketIO(t), l.socketIO(t)
	older.send("40" + proof(g.pid, ""))
	first := claim(nil)
	newer.send("40" + proof(g.pid, ""))
	claim(first)
	within(t, first.Context().Done(), "the end of the older connection")
	l.recovery.check(t)
	l.Emit("missed")
	close(released)
	back := &recoveryClient{ioClient: newer}
	back.hello()
	if wantMissed(t, back, `42["missed"]`); back.id != g.id {
		t.Error("it is another socket")
	}
	l.recovery.check(t)
}

// The oldest goes first, and who needs it begins anew.
func TestRecoveryBytes(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{Recovery: Recovery{MaxBytes: 20 << 10}})
	r := l.recovery
	l.enter(t, "") // stays
	early := l.enter(t, "")
	l.cut(early)
	for i := range 100 {
		l.To("room").Emit("filler", i, strings.Repeat("x", i*10))
		r.check(t)
	}
	if dropped, bytes := r.counts(); dropped == 0 || bytes < 10<<10 {
		t.Errorf("%d events dropped, %d bytes kept", dropped, bytes)
	}
	if back := l.enter(t, proof(early.pid, "")); back.id == early.id {
		t.Error("it came back though events were dropped that it has not seen")
	}
	late := l.enter(t, "")
	l.cut(late)
	l.Emit("one")
	back := l.enter(t, proof(late.pid, ""))
	if wantMissed(t, back, `42["one"]`); back.id != late.id {
		t.Error("it is another socket")
	}
	l.cut(back)
	l.Emit("huge", strings.Repeat("x", 30<<10))
	r.check(t)
	if _, bytes := r.counts(); bytes > keptOverhead {
		t.Errorf("%d bytes are kept", bytes)
	}

	// Those who are away are bounded, too.
	for range 100 {
		g := l.enter(t, "")
		g.socket.Join(strings.Repeat("a", 200), strings.Repeat("b", 200))
		l.cut(g)
		r.check(t)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.byPID); n > 30 {
		t.Errorf("%d are kept", n)
	}
}

// Namespaces that come and go with their clients share one bound, which is not that of others, and
// what they kept is counted out with them.
func TestRecoveryBytesOfAllNamespaces(t *testing.T) {
	noLeaks(t)
	const most = 20 << 10
	l := newRecoveryHub(t, overTCP, Options{Recovery: Recovery{MaxBytes: most}})
	many := l.OfFunc(func(string) bool { return true })
	connected := make(chan *Socket)
	many.OnConnect(func(s *Socket) { connected <- s })
	l.enter(t, "") // stays
	away := l.enter(t, "")
	l.cut(away)
	l.Emit("missed", strings.Repeat("x", most/2))
	c := l.socketIO(t)
	var sockets []*Socket
	for i := range 30 {
		c.send(fmt.Sprintf("40/%d", i))
		s := within(t, connected, "OnConnect")
		sockets = append(sockets, s)
		s.Namespace().Emit("filler", strings.Repeat("x", 1000))
		s.Namespace().recovery.check(t)
	}
	if total := many.recovery.total.Load(); total > most || total < most/2 {
		t.Errorf("%d bytes are kept, of %d", total, most)
	}
	if back := l.enter(t, proof(away.pid, "")); back.id != away.id || len(back.missed) != 1 {
		t.Error("what the main namespace kept was dropped for the others")
	}
	for _, s := range sockets {
		s.Disconnect()
	}
	eventually(t, "all to be forgotten", func() bool { return many.recovery.total.Load() == 0 })
}

// A client that has missed what may be queued for it gets it at once, although the bound of a
// client that is not accepted yet is far below that.
func TestRecoveryMissedMuch(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{})
	g := l.enter(t, "")
	l.cut(g)
	const events = 2000
	for range events {
		l.Emit("large", strings.Repeat("x", 1<<10))
	}
	if back := l.enter(t, proof(g.pid, "")); back.id != g.id || len(back.missed) != events {
		t.Errorf("it came back with %d events, want %d", len(back.missed), events)
	}
}

// A client that has missed more than may be queued for it begins anew, and is not a slow consumer.
func TestRecoveryMissedTooMuch(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{Limits: Limits{QueuedBytes: 10 << 10}})
	g := l.enter(t, "")
	l.cut(g)
	for range 20 {
		l.Emit("large", strings.Repeat("x", 1<<10))
	}
	if back := l.enter(t, proof(g.pid, "")); back.id == g.id {
		t.Errorf("it came back, with %d events", len(back.missed))
	}
}

// Namespaces keep their own, and one that OfFunc stands for stays while somebody may come back.
func TestRecoveryNamespaces(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{})
	came, went := make(chan *Socket, 1), make(chan Reason, 1)
	rooms := l.OfFunc(func(name string) bool { return strings.HasPrefix(name, "/room-") })
	rooms.OnConnect(func(s *Socket) { came <- s })
	rooms.OnDisconnect(func(_ *Socket, why Reason) { went <- why })
	connect := func(auth string) (*recoveryClient, *Socket) {
		g := &recoveryClient{ioClient: l.socketIO(t)}
		g.send("40/room-1," + auth)
		for {
			m := g.next()
			data, ok := strings.CutPrefix(m, "40/room-1,")
			if !ok {
				g.missed = append(g.missed, m)
				continue
			}
			var hello struct{ Sid, Pid string }
			if err := json.Unmarshal([]byte(data), &hello); err != nil {
				t.Fatal(err)
			}
			g.id, g.pid = hello.Sid, hello.Pid
			return g, within(t, came, "OnConnect")
		}
	}
	g, s := connect("")
	n := s.Namespace()
	g.CloseNow()
	within(t, went, "OnDisconnect")
	n.Emit("missed")
	if elsewhere := l.enter(t, proof(g.pid, "")); elsewhere.socket.Recovered() {
		t.Error("the proof is good in another namespace")
	}
	back, again := connect(proof(g.pid, ""))
	if wantMissed(t, back, `42/room-1,["missed"]`); again.Namespace() != n || back.id != g.id {
		t.Error("it is another socket")
	}
	again.Disconnect()
	within(t, went, "OnDisconnect")
	eventually(t, "the namespace to go", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.namespaces) == 1
	})
}

// pollClient is a client that polls, one request at a time.
type pollClient struct {
	t    testing.TB
	http *http.Client
	url  string
}

func (p *pollClient) do(method, body string) string {
	p.t.Helper()
	r, err := http.NewRequest(method, p.url, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	answer, err := p.http.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		p.t.Fatalf("%s: %s %q, %v", method, answer.Status, b, err)
	}
	return string(b)
}

// until gets packets up to the first with that beginning.
func (p *pollClient) until(prefix string) []string {
	p.t.Helper()
	var all []string
	for {
		all = append(all, strings.Split(p.do("GET", ""), "\x1e")...)
		if slices.ContainsFunc(all, func(m string) bool { return strings.HasPrefix(m, prefix) }) {
			return all
		}
	}
}

// The same for a client that polls: from one session to the next, whether the hub has noticed or
// not.
func TestRecoveryPolling(t *testing.T) {
	for _, noticed := range []bool{true, false} {
		t.Run(fmt.Sprintf("noticed=%v", noticed), func(t *testing.T) {
			noLeaks(t)
			l := newRecoveryHub(t, overTCP, Options{})
			p := l.polls(t)
			p.do("POST", "40")
			hello := p.until("40")
			var reply struct{ Sid, Pid string }
			if err := json.Unmarshal([]byte(hello[0][2:]), &reply); err != nil {
				t.Fatal(err)
			}
			s := within(t, l.came, "OnConnect")
			s.Join("room")
			l.To("room").Emit("got")
			got := p.until("42")
			l.To("room").Emit("lost", Binary("data"))
			if noticed {
				p.do("POST", "1")
				within(t, l.went, "OnDisconnect")
			}
			l.Emit("missed")

			back := l.polls(t)
			back.do("POST", "40"+proof(reply.Pid, offsetOf(t, got[0])))
			want := []string{`451-["lost",{"_placeholder":true,"num":0}]`, "bZGF0YQ==", `42["missed"]`}
			all := back.until("40")
			if diff := cmp.Diff(want, bare(t, all[:len(all)-1])); diff != "" {
				t.Error(diff)
			}
			if m := all[len(all)-1]; !strings.Contains(m, reply.Sid) || !strings.Contains(m, reply.Pid) {
				t.Errorf("the reply is %s", m)
			}
			if now := within(t, l.came, "OnConnect"); !now.Recovered() || !now.In("room") {
				t.Error("the socket is not what it was")
			}
			if n, _ := l.Count(t.Context()); n != 1 {
				t.Errorf("%d sockets", n)
			}
			l.recovery.check(t)
			back.do("POST", "1") // or the hub's end waits for another GET
		})
	}
}
