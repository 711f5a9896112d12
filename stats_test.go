package atrium

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// total returns how many durations were counted.
func (h Histogram) total() (n uint64) {
	for _, count := range h.Counts {
		n += count
	}
	return n
}

// wantStats waits until the stats are these, as differs compares them.
func wantStats(t testing.TB, h *Hub, want Stats) {
	t.Helper()
	var diff string
	if !poll(func() bool {
		diff = want.differs(h.Stats())
		return diff == ""
	}) {
		t.Fatal(diff)
	}
}

// differs says what got has other than want, but for the start, the cluster, reasons without
// sockets, and what histograms have beside their totals.
func (want Stats) differs(got Stats) string {
	got.Start, got.Cluster = time.Time{}, ClusterStats{}
	for reason, n := range got.Disconnects {
		if n == 0 {
			delete(got.Disconnects, reason)
		}
	}
	for _, histogram := range []*Histogram{&got.Handlers.Duration, &got.Handlers.Wait} {
		*histogram = Histogram{Counts: [len(HistogramBounds) + 1]uint64{histogram.total()}}
	}
	return cmp.Diff(want, got)
}

// tally counts, at the clients' ends, what a hub is to count.
type tally struct{ Stats }

// tallied is a client over a WebSocket whose messages and bytes are counted.
type tallied struct {
	*client
	meter *meteredConn
	tally *tally
}

func (c tallied) say(message string) {
	c.t.Helper()
	c.send(message)
	c.tally.Received.Messages++
}

func (c tallied) hear(prefix string) {
	c.t.Helper()
	if got := c.next(); !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("got %s, want %s…", got, prefix)
	}
	c.tally.Sent.Messages++
}

// gone counts a client that has gone for the reason, by a closing handshake.
func (c tallied) gone(reason Reason) {
	c.t.Helper()
	if err := c.Close(StatusNormalClosure, ""); err != nil && !errors.Is(err, ErrClosed) {
		c.t.Fatal(err)
	}
	c.tally.Disconnects[reason]++
	c.tally.Received.Bytes += c.meter.out.Load()
	c.tally.Sent.Bytes += c.meter.in.Load()
}

// 500 clients of all kinds send and get known numbers of everything. What Inspect's page gets is
// the same.
func TestStatsAreWhatClientsCount(t *testing.T) {
	const plains, ios, polls, rooms = 200, 200, 100, 10
	h := newHub(t, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
	joined := 0
	h.OnConnect(func(s *Socket) {
		s.Join(fmt.Sprint("room ", joined%rooms)) // they come one after another
		joined++
	})
	OnCall(h, "echo", func(_ *Socket, v string) (string, error) { return v, nil })
	On(h, "fail", func(*Socket, any) error { return Errorf("no") })
	On(h, "broken", func(*Socket, any) error { return errors.New("secret") })
	h.Handle("panic", func(*Event) { panic("test") })
	srv := serve(t, overPipe, h)
	n := &tally{Stats{Namespaces: map[string]NamespaceStats{}, Disconnects: map[Reason]uint64{}}}

	var webSockets []tallied
	for i := range plains + ios {
		target, connect, ask, answer := "/", "", `{"event":"echo","data":"x","id":1}`, `{"id":1,"data":"x"}`
		if i >= plains {
			target, connect, ask, answer = "/?EIO=4&transport=websocket", "40", `421["echo","x"]`, `431["x"]`
		}
		conn, meter := srv.metered(t, target)
		c := tallied{conn, meter, n}
		webSockets = append(webSockets, c)
		if connect != "" {
			c.hear("0{")
			c.say(connect)
		}
		c.hear("")
		for range i%3 + 1 {
			c.say(ask)
			c.hear(answer)
			n.Received.Events++
		}
	}
	var pollers []*engine
	get := func(e *engine, packets int, want string) {
		t.Helper()
		body := e.get().body
		if got := strings.Count(body, "\x1e") + 1; !strings.Contains(body, want) || got != packets {
			t.Fatalf("got %q, want %d packets with %q", body, packets, want)
		}
		n.Sent.Messages += uint64(packets)
		n.Sent.Bytes += uint64(len(body))
		if e.sid == "" {
			e.sid = handshakeForm.FindStringSubmatch(body)[1]
		}
	}
	post := func(e *engine, body string) {
		t.Helper()
		e.post(body).want(t, http.StatusOK, "ok")
		n.Received.Messages++
		n.Received.Bytes += uint64(len(body))
	}
	for range polls {
		e := srv.engine(t)
		pollers = append(pollers, e)
		get(e, 1, "0{")
		post(e, "40")
		get(e, 1, "40{")
		post(e, `421["echo","x"]`)
		get(e, 1, `431["x"]`)
		n.Received.Events++
	}
	n.Clients = ClientStats{Plain: plains, SocketIO: ios + polls, WebSocket: plains + ios, Polling: polls, Opened: plains + ios + polls}

	page := inspect(t, h, nil)
	page.look()
	page.wantSockets(map[string]int{"plain over websocket": plains, "socket.io over websocket": ios, "socket.io over polling": polls})
	for _, room := range rowsOf[roomRow](page, view{List: listRooms}, rooms) {
		if room.Sockets != (plains+ios+polls)/rooms {
			t.Errorf("the page shows %+v", room)
		}
	}

	// Each room has 20 plain clients, 20 over a WebSocket, and 10 who poll.
	const members = (plains + ios + polls) / rooms
	h.To("room 3").Emit("said", "hello")
	h.To("room 3", "room 4").Volatile().Emit("said", "hello")
	h.To("nobody").Emit("said", "hello")
	n.Sent.Events, n.Deliveries = 3, members+2*members
	for i, c := range webSockets {
		if i%rooms == 3 {
			c.hear("")
		}
		if i%rooms == 3 || i%rooms == 4 {
			c.hear("")
		}
	}
	for i, e := range pollers {
		switch (plains + ios + i) % rooms {
		case 3: // volatile events do not wait behind others
			get(e, 1, `42["said"`)
			n.Deliveries--
			n.Dropped++
		case 4:
			get(e, 1, `42["said"`)
		}
	}

	for i, c := range webSockets[:20] { // plain
		c.say(`{"event":"fail","id":2}`)
		c.hear(`{"id":2,"error":{"message":"no"}}`)
		n.Received.Events++
		n.Handlers.Errors++
		switch {
		case i < 5:
			c.say(`{"event":"broken","id":2}`)
			c.hear(`{"id":2,"error":{"message":"internal error"}}`)
			n.Handlers.Errors++
		case i < 8:
			c.say(`{"event":"unknown","id":2}`)
			c.hear(`{"id":2,"error"`)
			n.Handlers.Errors++
		default:
			continue
		}
		n.Received.Events++
	}
	for _, c := range webSockets[20:30] {
		c.say(`{"event":"panic","id":2}`)
		c.hear(`{"id":2,"error":{"message":"internal error"}}`)
		n.Received.Events++
		n.Handlers.Panics++
	}
	eventually(t, "those to be disconnected", func() bool { // that comes after the answer
		return h.Stats().Disconnects[ReasonForcedServerClose] == 10
	})
	events := n.Received.Events
	n.Handlers.Duration.Counts[0], n.Handlers.Wait.Counts[0] = events, events

	for i, c := range webSockets {
		switch {
		case i < plains && 20 <= i && i < 30:
			c.gone(ReasonForcedServerClose)
		case i < plains+50 && i >= plains:
			c.say("41")
			c.gone(ReasonClientDisconnect)
		default:
			c.gone(ReasonTransportClose)
		}
	}
	for _, e := range pollers {
		body := "1"
		e.post(body).want(t, http.StatusOK, "ok")
		n.Received.Bytes += uint64(len(body))
		n.Disconnects[ReasonTransportClose]++
		if r := e.get(); r.body != unknownSession { // a noop
			n.Sent.Bytes += uint64(len(r.body))
		} else {
			n.Refused.Unknown++
		}
	}
	n.Clients = ClientStats{Opened: n.Clients.Opened}
	n.Namespaces["/"] = NamespaceStats{}
	wantStats(t, h, n.Stats)
	page.wantFigures(n.Stats)
}

// Each way to be refused counts as what it is.
func TestStatsRefused(t *testing.T) {
	open := make(chan struct{})
	refuse := func(*http.Request) (context.Context, error) { return nil, Errorf("no") }
	plain := handshake(get)
	for _, row := range []struct {
		name    string
		options Options
		hold    int // connections before
		prepare func(*Hub)
		request string
		want    RefusedStats
	}{
		{"origin", Options{}, 0, nil, handshake(get, "Origin: https://evil.example"), RefusedStats{Origin: 1}},
		{"cross-site", Options{}, 0, nil, handshake(get, "Sec-Fetch-Site: cross-site"), RefusedStats{Origin: 1}},
		{"Socket.IO origin", Options{}, 0, nil, handshake("GET /?EIO=4&transport=polling HTTP/1.1", "Origin: https://evil.example"), RefusedStats{Origin: 1}},
		{"Accept", Options{Accept: refuse}, 0, nil, plain, RefusedStats{Accept: 1}},
		{"Connections", Options{Limits: Limits{Connections: 1}}, 1, nil, plain, RefusedStats{Full: 1}},
		{"Pending", Options{Limits: Limits{Pending: 1}}, 1, func(h *Hub) { h.Use(func(*Socket) error { <-open; return nil }) }, plain, RefusedStats{Full: 1}},
		{"ConnectionsPerClient", Options{Limits: Limits{ConnectionsPerClient: 1}}, 1, nil, plain, RefusedStats{PerClient: 1}},
		{"no WebSocket", Options{}, 0, nil, handshake(get, "-Upgrade"), RefusedStats{Malformed: 1}},
		{"Engine.IO without a WebSocket", Options{}, 0, nil, handshake("GET /?EIO=4&transport=websocket HTTP/1.1", "-Upgrade"), RefusedStats{Malformed: 1}},
		{"a version", Options{}, 0, nil, handshake("GET /?EIO=3&transport=polling HTTP/1.1"), RefusedStats{Malformed: 1}},
		{"a transport", Options{}, 0, nil, handshake("GET /?EIO=4&transport=pigeon HTTP/1.1"), RefusedStats{Malformed: 1}},
		{"large headers", Options{}, 0, nil, handshake(get, "X-Large: "+strings.Repeat("x", 70_000)), RefusedStats{Malformed: 1}},
		{"unknown session", Options{}, 0, nil, handshake("GET /?EIO=4&transport=polling&sid=x HTTP/1.1"), RefusedStats{Unknown: 1}},
		{"shutdown", Options{}, 0, func(h *Hub) { h.Shutdown(context.Background()) }, plain, RefusedStats{ShuttingDown: 1}},
		{"Use", Options{}, 0, func(h *Hub) { h.Use(func(*Socket) error { return Errorf("no") }) }, plain, RefusedStats{Use: 1}},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHub(t, row.options)
			if row.prepare != nil {
				row.prepare(h)
			}
			srv := serve(t, overPipe, h)
			for range row.hold {
				srv.conn(t)
			}
			request(t, srv.raw(t), row.request)
			eventually(t, "the count", func() bool { return h.Stats().Refused == row.want })
			if n := h.Stats().Clients.Pending; row.name == "Pending" {
				if n != 1 {
					t.Errorf("%d are pending", n)
				}
				close(open)
			}
		})
	}
}

// Each reason counts, and slow consumers and silent clients beside it.
func TestStatsDisconnects(t *testing.T) {
	for _, row := range []struct {
		reason Reason
		leave  func(h *Hub, m mailbox)
	}{
		{ReasonServerDisconnect, func(_ *Hub, m mailbox) { m.Disconnect() }},
		{ReasonSlowConsumer, func(_ *Hub, m mailbox) { m.session.endSlow() }},
		{ReasonPingTimeout, func(_ *Hub, m mailbox) { m.session.end(ReasonPingTimeout, StatusPolicyViolation, "") }},
		{ReasonTransportError, func(_ *Hub, m mailbox) { m.session.end(ReasonTransportError, StatusInternalError, "") }},
		{ReasonShutdown, func(_ *Hub, m mailbox) { m.session.endShutdown() }},
		{ReasonParseError, func(_ *Hub, m mailbox) { m.session.endViolated(Errorf("no")) }},
		{ReasonMessageTooBig, func(_ *Hub, m mailbox) { m.session.endViolated(&Error{Err: &oversized{limit: 1}}) }},
		{ReasonClientDisconnect, func(_ *Hub, m mailbox) { m.Socket.leave(ReasonClientDisconnect) }},
	} {
		t.Run(string(row.reason), func(t *testing.T) {
			h := newHub(t, Options{})
			m := newMailbox(t, h)
			t.Cleanup(m.drop)
			row.leave(h, m)
			m.session.end(ReasonTransportClose, noCloseFrame, "") // too late
			got := h.Stats()
			for _, reason := range allReasons {
				want := uint64(0)
				if reason == row.reason {
					want = 1
				}
				if n := got.Disconnects[reason]; n != want {
					t.Errorf("%d for %q, want %d", n, reason, want)
				}
			}
			if slow, silent := got.Clients.Slow == 1, got.Clients.Silent == 1; slow != (row.reason == ReasonSlowConsumer) || silent != (row.reason == ReasonPingTimeout) {
				t.Errorf("%d are slow, %d silent", got.Clients.Slow, got.Clients.Silent)
			}
		})
	}
}

// allReasons has every Reason that there is.
func TestReasonsAreListed(t *testing.T) {
	_, files := parseDir(t, "reason.go")
	constants := 0
	ast.Inspect(files["reason.go"], func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if of, ok := spec.Type.(*ast.Ident); ok && of.Name == "Reason" {
				constants++
			}
		}
		return true
	})
	if constants != len(allReasons) {
		t.Errorf("%d reasons, of which %d are listed", constants, len(allReasons))
	}
}

// A volatile event that is dropped is no delivery.
func TestStatsDropped(t *testing.T) {
	h, boxes := newMailboxes(t, 3)
	boxes[1].session.conn.Load().out.blocked = true
	h.Volatile().Emit("said")
	if got := h.Stats(); got.Deliveries != 2 || got.Dropped != 1 || got.Sent.Events != 1 {
		t.Errorf("%d deliveries, %d dropped, of %d events", got.Deliveries, got.Dropped, got.Sent.Events)
	}
}

// A Call is pending, and then answered or not.
func TestStatsCalls(t *testing.T) {
	h := newHub(t, Options{})
	srv := serve(t, overPipe, h)
	c, s := connected(t, h, srv)
	var calls []<-chan outcome[any]
	ctx, cancel := context.WithCancel(t.Context())
	for i := range 4 {
		by := t.Context()
		if i == 2 {
			by = ctx
		}
		calls = append(calls, beginCall[any](by, s))
		c.want(asking(i))
	}
	check := func(want CallStats) {
		t.Helper()
		eventually(t, fmt.Sprint(want), func() bool { return h.Stats().Calls == want })
	}
	check(CallStats{Pending: 4})
	c.send(`{"id":0,"data":1}`)
	c.send(`{"id":1,"error":{"message":"no"}}`)
	check(CallStats{Pending: 2, Answered: 2})
	cancel()
	check(CallStats{Pending: 1, Answered: 2, TimedOut: 1})
	c.CloseNow()
	check(CallStats{Answered: 2, TimedOut: 2})
	for _, call := range calls {
		within(t, call, "the end of a call")
	}
	if got := h.Stats(); got.Received.Events != 1 || got.Deliveries != 4 { // connected settles with an event
		t.Errorf("%d events, %d deliveries", got.Received.Events, got.Deliveries)
	}
}

// Who comes back is recovered or begins anew.
func TestStatsRecovery(t *testing.T) {
	l := newRecoveryHub(t, overPipe, Options{})
	check := func(want RecoveryStats) {
		t.Helper()
		eventually(t, fmt.Sprint(want), func() bool { return l.Stats().Recovery == want })
	}
	g := l.enter(t, "")
	check(RecoveryStats{})
	l.cut(g)
	check(RecoveryStats{Away: 1})
	l.Emit("said")
	deliveries := l.Stats().Deliveries
	again := l.enter(t, proof(g.pid, ""))
	check(RecoveryStats{Tried: 1, Recovered: 1})
	if n := l.Stats().Deliveries - deliveries; n != 1 {
		t.Errorf("%d events were replayed", n)
	}
	l.enter(t, proof("somebody-elses-proof", ""))
	check(RecoveryStats{Tried: 2, Recovered: 1, Anew: 1})
	l.cut(again)
	check(RecoveryStats{Away: 1, Tried: 2, Recovered: 1, Anew: 1})
}

// What waits in queues shows, and the largest of them; then nothing is left.
func TestStatsQueues(t *testing.T) {
	h, boxes := newMailboxes(t, 2)
	boxes[0].Emit("said", strings.Repeat("x", 1000))
	boxes[1].Emit("said")
	total, largest := 0, 0
	for _, m := range boxes {
		cost := m.session.transport().status().cost
		total, largest = total+cost, max(largest, cost)
	}
	if got, want := h.Stats().Outboxes, (QueueStats{total, largest}); got != want || largest < 1000 {
		t.Errorf("outboxes: %+v, want %+v", got, want)
	}
	entered, goOn := make(chan struct{}, 2), make(chan struct{})
	h.Handle("wait", func(*Event) { entered <- struct{}{}; <-goOn })
	c := serve(t, overPipe, h).connect(t, nil)
	c.send(`{"event":"wait"}`)
	within(t, entered, "the handler")
	c.send(`{"event":"wait"}`)
	size := incoming{eventData: eventData{name: "wait"}}.size()
	eventually(t, "two events in an inbox", func() bool { return h.Stats().Inboxes == QueueStats{2 * size, 2 * size} })
	close(goOn)
	for _, m := range boxes {
		m.take()
	}
	eventually(t, "empty queues", func() bool {
		got := h.Stats()
		return got.Inboxes == QueueStats{} && got.Outboxes == QueueStats{}
	})
}

// How long handlers run, and how long events wait for them, falls into the right buckets.
func TestStatsHistograms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{})
		h.Handle("slow", func(*Event) { <-time.After(3 * time.Millisecond) })
		c := serve(t, overPipe, h).connect(t, nil)
		c.send(`{"event":"slow"}`)
		synctest.Wait()
		c.send(`{"event":"slow"}`)
		c.settle()
		synctest.Wait()
		got := h.Stats().Handlers
		var duration, wait Histogram
		duration.Counts[0], duration.Counts[5], duration.Sum = 1, 2, 6*time.Millisecond // up to 5 ms
		wait.Counts[0], wait.Counts[5], wait.Counts[6], wait.Sum = 1, 1, 1, 9*time.Millisecond
		if got.Duration != duration || got.Wait != wait {
			t.Errorf("durations %v, waits %v", got.Duration, got.Wait)
		}
	})
	var h histogramCount
	for _, d := range []int64{0, int64(HistogramBounds[0]), int64(HistogramBounds[0]) + 1, int64(time.Hour)} {
		h.add(d)
	}
	var got, want Histogram
	h.addTo(&got)
	want.Counts[0], want.Counts[1], want.Counts[len(HistogramBounds)] = 2, 1, 1
	want.Sum = 2*HistogramBounds[0] + 1 + time.Hour
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The room of a user is not counted: it is none that anybody has named.
func TestStatsRoomsOfUsers(t *testing.T) {
	h := newHub(t, Options{})
	useUsers(h)
	h.OnUserOnline(func(string) {})
	h.OnConnect(func(s *Socket) { s.Join("a", "b") })
	c := serve(t, overTCP, h).connect(t, userAuth("7"))
	eventually(t, "a socket in two rooms", func() bool {
		return h.Stats().Namespaces["/"] == NamespaceStats{Sockets: 1, Rooms: 2}
	})
	c.CloseNow()
	eventually(t, "nobody", func() bool { return h.Stats().Namespaces["/"] == NamespaceStats{} })
}

// Namespaces of Of are told apart, those of OfFunc are one; an upgrade moves a client.
func TestStatsGauges(t *testing.T) {
	h := newHub(t, Options{})
	h.Of("/custom")
	h.OfFunc(func(name string) bool { return strings.HasPrefix(name, "/many-") }).OnConnect(func(s *Socket) {
		s.Join("a", "b")
		s.SetUser("ada") // whose room is none of these
	})
	e := serve(t, overTCP, h).polls(t)
	for _, namespace := range []string{"", "/custom,", "/many-1,", "/many-2,"} {
		e.say("40" + namespace)
		wantHears(t, e, `~40`+namespace+`.*`)
	}
	want := map[string]NamespaceStats{"/": {Sockets: 1}, "/custom": {Sockets: 1}, "*": {Sockets: 2, Rooms: 4}}
	eventually(t, "the namespaces", func() bool { return cmp.Equal(h.Stats().Namespaces, want) })
	if got, want := h.Stats().Clients, (ClientStats{SocketIO: 1, Polling: 1, Opened: 1}); got != want {
		t.Errorf("polling: %+v, want %+v", got, want)
	}
	c := e.probing()
	c.send("2probe")
	c.want("3probe")
	c.send("5")
	eventually(t, "the upgrade", func() bool {
		return h.Stats().Clients == ClientStats{SocketIO: 1, WebSocket: 1, Opened: 1, Upgraded: 1}
	})
	c.CloseNow()
	want = map[string]NamespaceStats{"/": {}, "/custom": {}}
	eventually(t, "nobody", func() bool {
		got := h.Stats()
		return got.Clients == ClientStats{Opened: 1, Upgraded: 1} && cmp.Equal(got.Namespaces, want)
	})
}

// Panics of all functions count, and those of handlers have been counted as events, too.
func TestStatsPanics(t *testing.T) {
	h := newHub(t, Options{})
	h.OfFunc(func(string) bool { panic("test") })
	h.OnEmit(func(string, []json.RawMessage) { panic("test") })
	h.OnDisconnect(func(*Socket, Reason) { panic("test") })
	h.OnExpire(func(*Socket) { panic("test") })
	h.Handle("goexit", func(*Event) { runtime.Goexit() })
	c := serve(t, overPipe, h).socketIO(t)
	c.join("")
	c.send("40/unknown,")
	c.want(`44/unknown,{"message":"Invalid namespace"}`)
	h.Emit("said")
	c.want(`42["said"]`)
	c.send(`42["goexit"]`)
	c.wantGone()
	eventually(t, "the panics", func() bool { return h.Stats().Handlers.Panics == 5 })
	if got := h.Stats().Handlers; got.Duration.total() != 1 || got.Wait.total() != 1 {
		t.Errorf("%d durations, %d waits", got.Duration.total(), got.Wait.total())
	}
}

// Stats may be called while everything happens, and no counter ever decreases.
func TestStatsWhileClientsComeAndGo(t *testing.T) {
	h := newEcho(t, Options{})
	srv := serve(t, overPipe, h)
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 20 {
				nc, early := srv.upgrade(t)
				c := newConn(nc, connConfig{client: true, early: early})
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				c.Write(ctx, MessageText, []byte(`{"event":"echo","data":"x","id":1}`))
				c.Read(ctx)
				c.Read(ctx)
				c.Close(StatusNormalClosure, "")
				cancel()
			}
		})
	}
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	counters := func(s Stats) []uint64 {
		return []uint64{s.Clients.Opened, s.Received.Events, s.Received.Messages, s.Received.Bytes, s.Sent.Messages, s.Sent.Bytes,
			s.Disconnects[ReasonTransportClose], s.Handlers.Duration.total()}
	}
	last := counters(h.Stats())
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		now := counters(h.Stats())
		for i := range now {
			if now[i] < last[i] {
				t.Fatalf("counter %d has decreased: %d, then %d", i, last[i], now[i])
			}
		}
		last = now
	}
	eventually(t, "all events", func() bool { s := h.Stats(); return s.Handlers.Duration.total() == 160 && s.Clients.Plain == 0 })
}
