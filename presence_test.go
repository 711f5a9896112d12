package atrium

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// watcher is a client that keeps the presence of a room as the documentation of the event says, and
// notes what is wrong with the events.
type watcher struct {
	*client
	socket *Socket

	mu      sync.Mutex // guards:
	version uint64
	list    map[string][]string
	count   int
	told    []string // what came, in short
	wrong   []string
}

// watch lets a client in and has it watch a room, which it joins if join is set.
func watch(t *testing.T, h *Hub, srv *server, room string, join bool) *watcher {
	t.Helper()
	w := &watcher{client: srv.connect(t, nil)}
	w.socket = w.client.socket(h)
	heard := w.listen()
	go func() {
		for m := range heard {
			w.receive(room, *m)
		}
	}()
	if join {
		if err := w.socket.Join(room); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *watcher) receive(room, message string) {
	var m struct {
		Event string
		Data  presenceEvent
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := json.Unmarshal([]byte(message), &m); err != nil {
		w.wrong = append(w.wrong, message)
	}
	if e := &m.Data; m.Event == presenceEventName && e.Room == room {
		w.take(e)
	}
}

func (w *watcher) take(e *presenceEvent) {
	put := func(sign string, list []Present) {
		var keys []string
		for _, p := range list {
			w.list[p.Key] = infoTexts(p.Infos)
			keys = append(keys, sign+p.Key)
		}
		if len(keys) > 0 {
			w.told = append(w.told, strings.Join(keys, " "))
		}
	}
	switch {
	case e.State != nil:
		if e.Part == 0 {
			w.list = make(map[string][]string)
		}
		w.version, w.count = e.Version, -1
		w.told = append(w.told, "state")
		put("=", e.State)
		return
	case e.Count != nil:
		w.version, w.count, w.list = e.Version, *e.Count, nil
		w.told = append(w.told, fmt.Sprint("count ", *e.Count))
		return
	case e.Version != w.version+1:
		w.wrong = append(w.wrong, fmt.Sprintf("version %d after %d", e.Version, w.version))
	}
	if w.list == nil {
		w.wrong, w.list = append(w.wrong, "a change, and not all before it"), make(map[string][]string)
	}
	w.version = e.Version
	put("+", e.Joined)
	put("~", e.Changed)
	for _, key := range e.Left {
		if w.list[key] == nil {
			w.wrong = append(w.wrong, "left, and was not there: "+key)
		}
		delete(w.list, key)
		w.told = append(w.told, "-"+key)
	}
}

func infoTexts(infos []json.RawMessage) []string {
	list := make([]string, len(infos))
	for i := range infos {
		list[i] = string(infos[i])
	}
	return list
}

// heard returns what came since it was called last.
func (w *watcher) heard(t *testing.T) []string {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.wrong) > 0 {
		t.Fatal(w.wrong)
	}
	told := w.told
	w.told = nil
	return told
}

func (w *watcher) want(t *testing.T, what string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, w.heard(t)); diff != "" {
		t.Fatalf("%s: %s", what, diff)
	}
}

func (w *watcher) keys() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.list))
}

func mustPresent(t *testing.T, s *Socket, room, key string, info any) {
	t.Helper()
	if err := s.Present(room, key, info); err != nil {
		t.Fatal(err)
	}
}

// describe writes a list as "Ada[1 2] Bob[3]".
func describe(list []Present) string {
	var parts []string
	for _, p := range list {
		parts = append(parts, p.Key+"["+strings.Join(infoTexts(p.Infos), " ")+"]")
	}
	return strings.Join(parts, " ")
}

const presenceTick = 150 * time.Millisecond // longer than the interval

// Members get all on entering and then the changes, gathered, in order.
func TestPresenceTellsMembers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		ada := watch(t, h, srv, "r", true)
		<-time.After(presenceTick)
		ada.want(t, "a room without presence")

		mustPresent(t, ada.socket, "r", "Ada", 1)
		<-time.After(presenceTick)
		ada.want(t, "the first one", "state", "=Ada")

		bob := watch(t, h, srv, "r", true)
		mustPresent(t, bob.socket, "r", "Bob", 1)
		carol := watch(t, h, srv, "r", true)
		mustPresent(t, carol.socket, "r", "Carol", 1)
		<-time.After(presenceTick)
		ada.want(t, "two at a time", "+Bob +Carol")
		bob.want(t, "who has come", "state", "=Ada =Bob =Carol")

		mustPresent(t, carol.socket, "r", "Carol", "typing")
		mustPresent(t, carol.socket, "r", "Carol", "typing more")
		<-time.After(presenceTick)
		ada.want(t, "a new info", "~Carol")
		bob.want(t, "a new info", "~Carol")
		if got := describe(h.Presence("r")); got != `Ada[1] Bob[1] Carol["typing more"]` {
			t.Error(got)
		}

		mustPresent(t, carol.socket, "r", "Caroline", 1)
		<-time.After(presenceTick)
		ada.want(t, "a new key, without a grace", "+Caroline", "-Carol")

		bob.socket.Absent("r")
		<-time.After(presenceTick)
		ada.want(t, "gone for a moment")
		if got := describe(h.Presence("r")); got != `Ada[1] Bob[1] Caroline[1]` || h.PresenceCount("r") != 2 {
			t.Error(got, h.PresenceCount("r"))
		}
		<-time.After(2 * time.Second)
		ada.want(t, "gone", "-Bob")
		bob.want(t, "told all the same", "+Caroline", "-Carol", "-Bob")

		ada.socket.Leave("r")
		carol.socket.Disconnect()
		<-time.After(3 * time.Second)
		ada.want(t, "who has left has nobody there, and is not told", "state")
		bob.want(t, "two have gone, in one moment", "-Ada", "-Caroline")
		if h.presences.find(h.Namespace, "r") != nil {
			t.Error("the presence of nobody is kept")
		}
		mustPresent(t, bob.socket, "r", "Bob", 2)
		<-time.After(presenceTick)
		bob.want(t, "a new presence", "state", "=Bob")
	})
}

// However many come and go, and whenever their grace ends, members are told once an interval.
func TestPresenceGathers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		see := watch(t, h, srv, "r", true)
		mustPresent(t, see.socket, "r", "me", 1)
		var all []*watcher
		for i := range 100 {
			all = append(all, watch(t, h, srv, "r", true))
			mustPresent(t, all[i].socket, "r", fmt.Sprintf("user%02d", i), 1)
		}
		<-time.After(presenceTick)
		see.heard(t)
		before := see.version
		for _, w := range all {
			w.socket.Leave("r")
			<-time.After(10 * time.Millisecond)
		}
		<-time.After(3 * time.Second)
		if told := see.heard(t); len(told) != 100 || see.version-before > 11 {
			t.Errorf("%d were told of in a second, by %d events", len(told), see.version-before)
		}
	})
}

// Two tabs are one key, and a page that is loaded anew was never away.
func TestPresenceOfTabs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		present := func(info any) *watcher {
			w := watch(t, h, srv, "r", true)
			mustPresent(t, w.socket, "r", "Ada", info)
			return w
		}
		see := watch(t, h, srv, "r", true)
		mustPresent(t, see.socket, "r", "me", nil)
		first, second := present("a"), present("b")
		<-time.After(presenceTick)
		see.want(t, "tabs", "state", "=Ada =me")
		if got := describe(h.Presence("r")); got != `Ada["a" "b"] me[null]` {
			t.Error(got)
		}

		second.CloseNow()
		<-time.After(time.Second)
		again := present("b")
		<-time.After(3 * time.Second)
		see.want(t, "one of two loaded anew")

		again.CloseNow()
		<-time.After(3 * time.Second)
		see.want(t, "one of two closed", "~Ada")
		if got := describe(h.Presence("r")); got != `Ada["a"] me[null]` {
			t.Error(got)
		}

		first.CloseNow()
		<-time.After(1900 * time.Millisecond)
		first = present("c")
		<-time.After(3 * time.Second)
		see.want(t, "the last one loaded anew, with another info", "~Ada")

		first.CloseNow()
		<-time.After(3 * time.Second)
		see.want(t, "all closed", "-Ada")
		present("d")
		<-time.After(presenceTick)
		see.want(t, "back after the grace", "+Ada")
	})
}

// Bad input is an error that says what was expected, and nobody else notices.
func TestPresenceRefuses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		w := watch(t, h, srv, "r", true)
		mustPresent(t, w.socket, "r", "me", 1)
		<-time.After(presenceTick)
		w.want(t, "before", "state", "=me")
		rows := []struct {
			name, room, key string
			info            any
			want            string
		}{
			{"no key", "r", "", 1, "presence: expected a key, or a socket with a user, got neither"},
			{"a long key", "r", strings.Repeat("k", 257), 1, "presence: expected a key of at most 256 bytes, got 257"},
			{"bytes", "r", "\xff", 1, `presence: expected a key in UTF-8, got "\xff"`},
			{"a channel", "r", "k", make(chan int), "presence: expected an info that can be encoded as JSON: unsupported type: chan int"},
			{"no JSON", "r", "k", json.RawMessage("{"), "presence: expected an info that can be encoded as JSON: error calling MarshalJSON for type json.RawMessage: unexpected end of JSON input"},
			{"no text", "r", "k", json.RawMessage("\"\xff\""), `presence: expected an info in UTF-8, got "\"\xff\""`},
			{"a large info", "r", "k", strings.Repeat("i", 4<<10), "presence: expected an info of at most 4096 bytes as JSON, got 4098"},
			{"another room", "q", "k", 1, `presence: expected a room that the socket is in, got "q"`},
		}
		for _, row := range rows {
			err := w.socket.Present(row.room, row.key, row.info)
			if public, ok := asError(err); !ok || public.Message != row.want {
				t.Errorf("%s: %v", row.name, err)
			}
		}
		mustPresent(t, w.socket, "r", strings.Repeat("k", 256), strings.Repeat("i", 4<<10-2))
		<-time.After(presenceTick)
		w.heard(t)

		w.socket.Disconnect()
		if err := w.socket.Present("r", "me", 1); err != nil {
			t.Error(err)
		}
		w.socket.Absent("r")
		<-time.After(3 * time.Second)
		if got := h.Presence("r"); got != nil {
			t.Error(got)
		}
	})
}

// A socket may be present as something new so often, in all rooms and however often it joins them,
// and in whatever way the client comes back.
func TestPresenceRate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newRecoveryHub(t, overPipe, Options{})
		g := l.enter(t, "")
		wantRefused := func(most int) {
			t.Helper()
			for i := range most + 1 {
				room := fmt.Sprint("room ", i%2)
				if err := g.socket.Join(room); err != nil {
					t.Fatal(err)
				}
				err := g.socket.Present(room, "me", i)
				if refused := err != nil; refused != (i == most) || refused && err.Error() != "presence: expected at most 20 changes a second of one socket" {
					t.Fatalf("change %d of %d: %v", i, most, err)
				}
				if i < most-2 {
					g.socket.Absent(room)
					g.socket.Leave(room)
				}
			}
		}
		wantRefused(200)
		<-time.After(time.Second)
		wantRefused(20)
		if got := describe(l.Presence("room 0")) + describe(l.Presence("room 1")); got != "me[18]me[19]" {
			t.Error(got) // and not what was refused
		}
		l.cut(g)
		if err := g.socket.Present("room 0", "me", "away"); err == nil {
			t.Error("the client is away, and may be what it likes")
		}
		back := l.returns(t, g)
		g.socket = back.socket
		wantRefused(0)
		<-time.After(time.Minute)
		wantRefused(200)
	})
}

// A member that has missed something asks, and gets all; to anybody else nobody is there.
func TestPresenceIsAskedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		ask := func(c *client, want string) {
			t.Helper()
			c.send(`{"event":"presence","data":{"room":"r"},"id":5}`)
			c.want(want)
		}
		nobody := `{"event":"presence","data":{"room":"r","version":0,"state":[]}}`
		outside := srv.connect(t, nil)
		ask(outside, nobody) // so does a hub of which nobody has used presence yet
		outside.want(`{"id":5}`)

		w, in := watch(t, h, srv, "r", true), srv.connect(t, nil)
		if err := in.socket(h).Join("r"); err != nil {
			t.Fatal(err)
		}
		h.OnPresence(func(string, []Present, []Present) {})
		in.send(`{"event":"presence","data":{"room":"r"}}`)
		in.want(nobody)
		mustPresent(t, w.socket, "r", "me", 1)
		in.want(`{"event":"presence","data":{"room":"r","version":1,"state":[{"key":"me","infos":[1]}]}}`)
		w.want(t, "entered", "state", "=me")

		ask(outside, nobody)
		outside.want(`{"id":5}`)
		for range 50 {
			ask(in, `{"id":5}`)
		}
		in.want(`{"event":"presence","data":{"room":"r","version":1,"state":[{"key":"me","infos":[1]}]}}`)
		mustPresent(t, w.socket, "r", "me", 2)
		in.want(`{"event":"presence","data":{"room":"r","version":2,"changed":[{"key":"me","infos":[2]}]}}`)
		w.want(t, "the others get the change alone", "~me")
		in.send(`{"event":"presence","data":7,"id":6}`)
		in.want(`{"id":6,"error":{"message":"data: expected an object, got number"}}`)

		// An application that has an event of that name keeps it.
		On(h, "presence", func(*Socket, any) error { return Errorf("mine") })
		ask(in, `{"id":5,"error":{"message":"mine"}}`)
	})
}

// Who asks in a room without presence is told in turn, and costs nothing for long. Who has left is
// told nothing.
func TestPresenceIsAskedForWhereNobodyIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		h.OnPresence(func(string, []Present, []Present) {})
		srv := serve(t, overPipe, h)
		w := watch(t, h, srv, "r", true)
		w.send(`{"event":"presence","data":{"room":"r"}}`)
		synctest.Wait()
		w.want(t, "at once")
		<-time.After(presenceTick)
		w.want(t, "after an interval", "state")
		<-time.After(presenceAnswers)
		if h.presences.find(h.Namespace, "r") != nil {
			t.Error("the presence of nobody is kept")
		}
		w.socket.Disconnect()
		if h.tellWhole(w.socket, "r"); h.presences.find(h.Namespace, "r") != nil {
			t.Error("a socket that was disconnected is to be told")
		}
	})
}

// Who has asked and waits for the answer gets it also if the last one who is there goes meanwhile.
func TestPresenceAnswersWhenNobodyIsLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Presence: PresenceOptions{Grace: 50 * time.Millisecond}})
		srv := serve(t, overPipe, h)
		ada, see := watch(t, h, srv, "r", true), watch(t, h, srv, "r", true)
		mustPresent(t, ada.socket, "r", "Ada", 1)
		<-time.After(presenceTick)
		see.want(t, "entered", "state", "=Ada")
		see.send(`{"event":"presence","data":{"room":"r"}}`)
		<-time.After(presenceTick)
		see.want(t, "answered", "state", "=Ada")
		see.send(`{"event":"presence","data":{"room":"r"}}`)
		synctest.Wait()
		ada.socket.Leave("r")
		<-time.After(presenceAnswers)
		see.want(t, "answered after the last one has gone", "-Ada", "state")
		<-time.After(presenceAnswers)
		if h.presences.find(h.Namespace, "r") != nil {
			t.Error("the presence of nobody is kept")
		}
	})
}

// Who asks all the time is answered once a second, and still told of changes in order. Who enters
// does not wait for that.
func TestPresenceIsAskedForAgainAndAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		w, late := watch(t, h, srv, "r", true), watch(t, h, srv, "r", false)
		mustPresent(t, w.socket, "r", "me", 1)
		<-time.After(presenceTick)
		w.want(t, "entered", "state", "=me")
		for i := range 40 {
			for range 100 {
				w.send(`{"event":"presence","data":{"room":"r"}}`)
			}
			<-time.After(50 * time.Millisecond)
			if i%20 == 5 {
				mustPresent(t, w.socket, "r", "me", i)
			}
		}
		w.want(t, "asked for two seconds", "state", "=me", "~me", "state", "=me", "~me")
		join(t, late, "r")
		<-time.After(presenceTick)
		late.want(t, "entered meanwhile", "state", "=me")
		<-time.After(presenceAnswers)
		w.want(t, "the last answer", "state", "=me")
		w.socket.Leave("r")
		w.send(`{"event":"presence","data":{"room":"r"}}`)
		synctest.Wait()
		if p := h.presences.find(h.Namespace, "r"); len(p.fresh.asked)+len(p.fresh.entered) > 0 {
			t.Error("who has left is to be told all")
		}
	})
}

// Members come and go, and ask, while others are being told: each has all before it is told of a
// change, and misses none.
func TestPresenceWhileOthersAreTold(t *testing.T) {
	h := newHub(t, Options{Presence: PresenceOptions{Interval: time.Microsecond, Grace: time.Millisecond}, Limits: Limits{PresencePerSecond: 1e6}})
	srv := serve(t, overPipe, h)
	var all []*watcher
	for range 20 {
		all = append(all, watch(t, h, srv, "r", true))
	}
	var wg sync.WaitGroup
	for i, w := range all {
		wg.Go(func() {
			for round := range 500 {
				if i%2 == 0 {
					w.socket.Leave("r")
					if err := w.socket.Join("r"); err != nil {
						t.Error(err)
					}
				}
				if err := w.socket.Present("r", fmt.Sprint("user", i), round); err != nil {
					t.Error(err)
				}
				if i%3 == 0 {
					w.send(`{"event":"presence","data":{"room":"r"}}`)
				}
			}
		})
	}
	wg.Wait()
	want := make(map[string][]string)
	for i := range all {
		want[fmt.Sprint("user", i)] = []string{"499"}
	}
	for i, w := range all {
		eventually(t, fmt.Sprintf("the list of member %d", i), func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return maps.EqualFunc(w.list, want, slices.Equal) || len(w.wrong) > 0
		})
		if len(w.wrong) > 0 {
			t.Errorf("member %d: %q", i, w.wrong)
		}
	}
}

// Who is told must be a member, and is expected before that: a flush between the two is not the
// last.
func TestPresenceFlushBeforeJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
		interval := h.options.Presence.Interval
		there, comes := newMailbox(t, h), newMailbox(t, h)
		t.Cleanup(there.drop)
		t.Cleanup(comes.drop)
		there.Join("room")
		if err := there.Present("room", "Ada", nil); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * interval)
		synctest.Wait()

		p, r := h.presences.find(h.Namespace, "room"), h.room("room")
		h.Namespace.expect(comes.Socket, "room")
		p.timer.Stop() // it calls flush, and then is not set
		p.flush()
		r.add(comes.Socket)
		<-time.After(2 * interval)
		synctest.Wait()
		if got := comes.take(); len(got) != 1 || !strings.Contains(got[0], `"state":[{"key":"Ada"`) {
			t.Errorf("the new member was told %q", got)
		}
		h.Namespace.leave(comes.Socket, r, false)
	})
}

// tooManyFor are the limits in which that many infos of longInfo fit, with keys of six bytes, in a
// list of a room.
func tooManyFor(most int) map[string]Limits {
	size := (&presenceEntry{"user01", make([]byte, 1000)}).size()
	return map[string]Limits{"sockets": {Presence: most}, "bytes": {QueuedBytes: 2 * (most*size + 20)}}
}

func longInfo(v any) string { return fmt.Sprintf("%-998v", v) }

// A room with too many sockets, or too long infos, is counted, and listed again when there are
// less.
func TestPresenceCounts(t *testing.T) {
	for name, limits := range tooManyFor(20) {
		t.Run(name, func(t *testing.T) { testPresenceCounts(t, limits) })
	}
}

func testPresenceCounts(t *testing.T, limits Limits) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Limits: limits})
		srv := serve(t, overPipe, h)
		var joined, left int
		h.OnPresence(func(_ string, j, l []Present) { joined, left = joined+len(j), left+len(l) })
		see := watch(t, h, srv, "r", true)
		var all []*watcher
		come := func() {
			w := watch(t, h, srv, "r", true)
			mustPresent(t, w.socket, "r", fmt.Sprintf("user%02d", len(all)), longInfo(len(all)))
			all = append(all, w)
		}
		for range 20 {
			come()
		}
		<-time.After(presenceTick)
		if told := see.heard(t); len(told) != 2 || told[0] != "state" || len(see.keys()) != 20 {
			t.Fatal(told)
		}
		come()
		<-time.After(presenceTick)
		see.want(t, "too many", "count 21")
		all[20].want(t, "too many", "count 21")
		if h.Presence("r") != nil || h.PresenceCount("r") != 21 {
			t.Error(h.Presence("r"), h.PresenceCount("r"))
		}
		mustPresent(t, all[3].socket, "r", "user03", longInfo("new"))
		<-time.After(presenceTick)
		see.want(t, "only counted")

		all[0].socket.Absent("r")
		<-time.After(presenceTick)
		see.want(t, "less", "count 20")
		<-time.After(3 * time.Second)
		see.want(t, "less, but not yet listed")
		all[1].socket.Absent("r")
		all[2].socket.Absent("r")
		<-time.After(presenceTick)
		see.want(t, "those that have just gone have their grace", "count 18")
		<-time.After(3 * time.Second)
		if told := see.heard(t); len(told) != 2 || told[0] != "state" || len(see.keys()) != 18 {
			t.Fatal(told)
		}
		if joined != 21 || left != 3 {
			t.Errorf("OnPresence was told of %d and %d", joined, left)
		}
	})
}

// A list that just fits is no reason to disconnect a client that does not read for a while.
func TestPresenceFitsIntoTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 20
		h := newHub(t, Options{Limits: tooManyFor(n)["bytes"], Timeouts: Timeouts{PingInterval: time.Hour}})
		srv := serve(t, overPipe, h)
		for i := range n {
			mustPresent(t, watch(t, h, srv, "r", true).socket, "r", fmt.Sprintf("user%02d", i), longInfo(i))
		}
		<-time.After(presenceTick)
		c := srv.connect(t, nil)
		if err := c.socket(h).Join("r"); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		if got := c.next(); strings.Count(got, `"key"`) != n {
			t.Errorf("%.100s", got)
		}
	})
}

// One socket that comes as others all the time, and goes, makes a list no longer than many sockets
// may. Nobody who enters is disconnected for it, and the list is back after the grace.
func TestPresenceCountsThoseThatHaveGone(t *testing.T) {
	for name, limits := range tooManyFor(20) {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newHub(t, Options{Limits: limits})
				srv := serve(t, overPipe, h)
				ada, comes := watch(t, h, srv, "r", true), watch(t, h, srv, "r", false)
				mustPresent(t, ada.socket, "r", "ada", 1)
				<-time.After(presenceTick)
				ada.want(t, "before", "state", "=ada")
				for i := range 30 {
					if err := comes.socket.Join("r"); err != nil {
						t.Fatal(err)
					}
					mustPresent(t, comes.socket, "r", fmt.Sprintf("user%02d", i), longInfo(i))
					comes.socket.Leave("r")
				}
				bob := watch(t, h, srv, "r", true)
				<-time.After(presenceTick)
				ada.want(t, "too many", "count 1")
				bob.want(t, "too many", "count 1")
				if h.Presence("r") != nil || h.PresenceCount("r") != 1 {
					t.Error(h.Presence("r"), h.PresenceCount("r"))
				}
				<-time.After(3 * time.Second)
				ada.want(t, "the grace is over", "state", "=ada")
				bob.want(t, "the grace is over", "state", "=ada")
			})
		})
	}
}

// Of many sockets under one key some infos are told: each change tells all of them.
func TestPresenceOfGuests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		see := watch(t, h, srv, "r", true)
		var last *watcher
		for i := range 40 {
			last = watch(t, h, srv, "r", true)
			mustPresent(t, last.socket, "r", "guest", 10+i)
		}
		<-time.After(presenceTick)
		see.want(t, "guests", "state", "=guest")
		list := h.Presence("r")
		if len(list) != 1 || len(list[0].Infos) != 32 || string(list[0].Infos[31]) != "41" || h.PresenceCount("r") != 40 {
			t.Error(describe(list), h.PresenceCount("r"))
		}
		mustPresent(t, last.socket, "r", "guest", 60)
		<-time.After(presenceTick)
		see.want(t, "one of those that are not told")
		mustPresent(t, last.socket, "r", "guest", 0)
		<-time.After(presenceTick)
		see.want(t, "and now it is", "~guest")
	})
}

// OnPresence is told of keys, each in turn; what happens while it runs is told together.
func TestPresenceReports(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		told, goOn := make(chan string, 100), make(chan struct{}, 100)
		h.OnPresence(func(room string, joined, left []Present) {
			told <- room + " +" + describe(joined) + " -" + describe(left)
			<-goOn
			if len(left) > 1 {
				panic("on purpose")
			}
		})
		want := func(what ...string) {
			t.Helper()
			synctest.Wait()
			var got []string
			for len(told) > 0 {
				got = append(got, <-told)
			}
			if diff := cmp.Diff(what, got); diff != "" {
				t.Fatal(diff)
			}
		}
		ada, bob := watch(t, h, srv, "r", true), watch(t, h, srv, "r", true)
		mustPresent(t, ada.socket, "r", "Ada", 1)
		mustPresent(t, bob.socket, "r", "Bob", 1)
		<-time.After(presenceTick)
		want("r +Ada[1] Bob[1] -")

		// While that runs, one comes and goes, and one goes and comes.
		eve := watch(t, h, srv, "r", true)
		mustPresent(t, eve.socket, "r", "Eve", 1)
		bob.socket.Leave("r")
		<-time.After(3 * time.Second)
		eve.socket.Leave("r")
		if err := bob.socket.Join("r"); err != nil {
			t.Fatal(err)
		}
		mustPresent(t, bob.socket, "r", "Bob", 2)
		<-time.After(3 * time.Second)
		mustPresent(t, ada.socket, "r", "Adele", 1)
		<-time.After(presenceTick)
		want()
		goOn <- struct{}{}
		want("r +Adele[1] -Ada[1]")
		goOn <- struct{}{}
		want()

		ada.socket.Leave("r")
		bob.socket.Leave("r")
		<-time.After(3 * time.Second)
		goOn <- struct{}{}
		want("r + -Adele[1] Bob[2]")
		mustPresent(t, join(t, eve, "r"), "r", "Eve", 2)
		<-time.After(presenceTick)
		goOn <- struct{}{}
		want("r +Eve[2] -")
	})
}

// presentInAll has whoever comes to a namespace of an OfFunc be present there, in the room "r", and
// returns what OnPresence is told.
func presentInAll(h *Hub) (told chan string) {
	like := h.OfFunc(func(string) bool { return true })
	like.Use(func(s *Socket) error { return errors.Join(s.Join("r"), s.Present("r", "Ada", 1)) })
	return tellPresence(like)
}

// tellPresence returns what OnPresence is told.
func tellPresence(n *Namespace) (told chan string) {
	told = make(chan string, 10)
	n.OnPresence(func(_ string, joined, left []Present) { told <- fmt.Sprint("+", keysOf(joined), " -", keysOf(left)) })
	return told
}

// wantTold checks what OnPresence was told since the last call.
func wantTold(t *testing.T, told chan string, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	var got []string
	for len(told) > 0 {
		got = append(got, <-told)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", when, diff)
	}
}

// A namespace of OfFunc lives until the grace of who was the last there ends, and a page may be
// loaded anew. Then it goes, though other nodes have it.
func TestPresenceOfFunc(t *testing.T) {
	for _, nodes := range []int{1, 2} {
		bubble(t, func(t *testing.T) {
			linger := 3 * time.Second
			var options Options
			if nodes > 1 {
				linger += presenceLinger
				options.Bus = new(MemoryBus)
			}
			h := newHub(t, options)
			told, srv := presentInAll(h), serve(t, overPipe, h)
			first := srv.socketIO(t)
			first.join("/x")
			<-time.After(presenceTick)
			wantTold(t, told, "the first", "+[Ada] -[]")
			n := h.namespace("/x")
			if nodes > 1 {
				other := newHub(t, options)
				presentInAll(other)
				serve(t, overPipe, other).socketIO(t).join("/x")
			}

			first.CloseNow()
			<-time.After(time.Second)
			again := srv.socketIO(t)
			again.join("/x")
			<-time.After(5 * time.Second)
			wantTold(t, told, "a page loaded anew")
			if h.namespace("/x") != n || n.PresenceCount("r") != nodes {
				t.Errorf("it is another namespace, or %d are there", n.PresenceCount("r"))
			}
			again.CloseNow()
			<-time.After(linger)
			wantTold(t, told, "the last has gone", "+[] -[Ada]")
			if h.namespace("/x") != nil {
				t.Error("the namespace is still there")
			}
		})
	}
}

func join(t *testing.T, w *watcher, room string) *Socket {
	t.Helper()
	if err := w.socket.Join(room); err != nil {
		t.Fatal(err)
	}
	return w.socket
}

// A client that comes back is there again as it was, and the others do not notice if that is within
// the grace.
func TestPresenceRecovers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newRecoveryHub(t, overPipe, Options{})
		see := watch(t, l.Hub, l.server, "r", true)
		<-l.came
		mustPresent(t, see.socket, "r", "me", 1)
		g := l.enter(t, "")
		if err := g.socket.Join("r"); err != nil {
			t.Fatal(err)
		}
		mustPresent(t, g.socket, "r", "Ada", 1)
		<-time.After(presenceTick)
		see.want(t, "before", "state", "=Ada =me")
		g.want(`42["presence",{"room":"r","version":1,"state":[{"key":"Ada","infos":[1]},{"key":"me","infos":[1]}]}]`)

		l.cut(g)
		<-time.After(time.Second)
		back := l.returns(t, g)
		<-time.After(3 * time.Second)
		see.want(t, "back at once")
		back.want(`42["presence",{"room":"r","version":1,"state":[{"key":"Ada","infos":[1]},{"key":"me","infos":[1]}]}]`)

		l.cut(back)
		<-time.After(3 * time.Second)
		see.want(t, "away", "-Ada")
		mustPresent(t, g.socket, "r", "Ada", 2)
		<-time.After(presenceTick)
		see.want(t, "away, and not there")
		back = l.returns(t, back)
		<-time.After(presenceTick)
		see.want(t, "back", "+Ada")
		if got := describe(l.Presence("r")); got != "Ada[2] me[1]" {
			t.Error(got)
		}
		l.cut(back)
		g.socket.Absent("r")
		back = l.returns(t, back)
		<-time.After(3 * time.Second)
		see.want(t, "Absent while it was away", "-Ada")
		back.CloseNow()
	})
}

// What a client that is away is present as is weighed: of too many the one that has been away
// longest begins anew.
func TestPresenceOfAwayIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newRecoveryHub(t, overPipe, Options{Recovery: Recovery{MaxDisconnection: time.Minute, MaxBytes: 30 << 10}})
		want := func(what string, away int, bytes int) {
			t.Helper()
			l.recovery.check(t)
			r := l.recovery
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.away) != away || r.bytes < bytes {
				t.Errorf("%s: %d are away, %d bytes", what, len(r.away), r.bytes)
			}
		}
		leave := func() *recoveryClient {
			g := l.enter(t, "")
			for i := range 3 {
				room := fmt.Sprint(i)
				if err := g.socket.Join(room); err != nil {
					t.Fatal(err)
				}
				mustPresent(t, g.socket, room, "me", strings.Repeat("x", 4000))
			}
			l.cut(g)
			return g
		}
		leave()
		want("one", 1, 12_000)
		second := leave()
		want("two", 2, 24_000)
		third := leave()
		want("the third is one too many", 2, 24_000)
		for i := range 3 {
			third.socket.Absent(fmt.Sprint(i))
		}
		want("it is absent", 2, 12_000)
		leave()
		want("so there is space", 3, 24_000)
		mustPresent(t, third.socket, "0", "me", strings.Repeat("x", 4000))
		mustPresent(t, third.socket, "1", "me", strings.Repeat("x", 4000))
		want("it is present again", 2, 20_000)
		l.returns(t, third)
		if err := second.socket.Present("0", "me", 1); err != nil {
			t.Error("who begins anew is nobody:", err)
		}
		want("one is back", 1, 12_000)
	})
}

// returns has a client come back.
func (l *recoveryHub) returns(t *testing.T, g *recoveryClient) *recoveryClient {
	t.Helper()
	back := &recoveryClient{ioClient: l.socketIO(t)}
	back.send("40" + proof(g.pid, ""))
	back.hello()
	back.socket = within(t, l.came, "OnConnect")
	if !back.socket.Recovered() {
		t.Fatal("the client began anew")
	}
	return back
}

// Without a key a socket is present as its user.
func TestPresenceOfUser(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		h.Use(func(s *Socket) error {
			if err := s.SetUser("ada"); err != nil {
				return err
			}
			if err := s.Join("r"); err != nil {
				return err
			}
			return s.Present("r", "", "from Use")
		})
		w := watch(t, h, serve(t, overPipe, h), "r", false)
		<-time.After(presenceTick)
		if got := describe(h.Presence("r")); got != `ada["from Use"]` {
			t.Error(got)
		}
		mustPresent(t, w.socket, "r", "", "later")
		<-time.After(presenceTick)
		w.want(t, "what it is told", "state", "=ada", "~ada")
	})
}

// A room without presence has none, whatever happens in others.
func TestPresenceIsOfItsRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		w := watch(t, h, srv, "other", true)
		mustPresent(t, join(t, watch(t, h, srv, "r", false), "r"), "r", "k", 1)
		<-time.After(presenceTick)
		w.want(t, "another room")
		if h.Presence("other") != nil || h.PresenceCount("other") != 0 || h.Of("/n").Presence("r") != nil {
			t.Error("presence where there is none")
		}
	})
}

// Of many, a state comes in parts and a change in several versions.
func TestPresenceInParts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		see := watch(t, h, srv, "r", true)
		mustPresent(t, see.socket, "r", "me", 1)
		<-time.After(presenceTick)
		see.heard(t)
		const n = 200
		big := strings.Repeat("i", 4000)
		var want []string
		for i := range n {
			w := watch(t, h, srv, "r", true)
			mustPresent(t, w.socket, "r", fmt.Sprintf("user%03d", i), big)
			want = append(want, fmt.Sprintf("user%03d", i))
		}
		<-time.After(presenceTick)
		if told := see.heard(t); len(told) != 7 {
			t.Errorf("told %d times", len(told))
		}
		late := watch(t, h, srv, "r", true)
		<-time.After(presenceTick)
		if told := late.heard(t); len(told) != 14 {
			t.Errorf("told %d times", len(told))
		}
		want = append([]string{"me"}, want...)
		for _, w := range []*watcher{see, late} {
			if diff := cmp.Diff(want, w.keys()); diff != "" {
				t.Error(diff)
			}
		}
	})
}

// Whatever the keys and infos are, and however many change at a time, each event is less than what
// a client takes.
func TestPresencePartsFit(t *testing.T) {
	h := newHub(t, Options{})
	p := h.presences.open(h.Namespace, "r", nil)
	lists := make([][]Present, 3)
	for i := range lists {
		for j := range 2000 {
			key := fmt.Sprint(i, " ", j)
			one := Present{Key: key + strings.Repeat("\x01", maxPresenceKey-len(key)), Infos: []json.RawMessage{[]byte("1")}}
			if j%500 == 0 {
				one.Infos = slices.Repeat([]json.RawMessage{make([]byte, maxPresenceInfo)}, maxPresenceInfos)
			}
			lists[i] = append(lists[i], one)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.version
	events := p.changes(&presenceChange{joined: lists[0], changed: lists[1], left: lists[2]}, 1)
	var joined, changed, left int
	for i := range events {
		e := &events[i]
		if n := len(e.append(nil)); n > defaultReadLimit || e.Version != before+uint64(i)+1 {
			t.Errorf("event %d has %d bytes, and the version %d", i, n, e.Version)
		}
		joined, changed, left = joined+len(e.Joined), changed+len(e.Changed), left+len(e.Left)
	}
	if joined != 2000 || changed != 2000 || left != 2000 || p.version != before+uint64(len(events)) {
		t.Errorf("%d joined, %d changed, %d left, version %d", joined, changed, left, p.version)
	}
}
