package atrium

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// useUsers lets clients say who they are, which only tests should, and into which rooms they want.
func useUsers(h *Hub) {
	h.Use(func(s *Socket) error {
		var auth struct {
			User  string
			Rooms []string
		}
		if err := s.Handshake().Bind(&auth); err != nil {
			return err
		}
		if auth.User != "" {
			if err := s.SetUser(auth.User); err != nil {
				return err
			}
		}
		return s.Join(auth.Rooms...)
	})
}

// A user's id is text of 1 to 256 bytes, whatever that text is.
func TestUserID(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	for _, test := range []struct{ id, want string }{
		{"", "user: expected an id, got an empty one"},
		{strings.Repeat("x", 257), "user: expected an id of at most 256 bytes, got 257"},
		{"a\xff", `user: expected an id in UTF-8, got "a\xff"`},
		{"\xff7", `user: expected an id in UTF-8, got "\xff7"`},
		{strings.Repeat("x", 256), ""},
		{"7", ""},
		{"👩‍👩‍👧", ""},
		{"a\x00\n\x1b[31m,b", ""},
		{newSocketID(h.node), ""},
		{" ", ""},
	} {
		s := newSocket(h.Namespace, newMailbox(t, h).session, new(Handshake), t.Context())
		err := s.SetUser(test.id)
		if test.want == "" && (err != nil || s.User() != test.id) {
			t.Errorf("%.30q: %v, the user is %q", test.id, err, s.User())
		}
		if public, ok := errors.AsType[*Error](err); test.want != "" && (!ok || public.Message != test.want || !errors.Is(err, ErrUserID) || s.User() != "") {
			t.Errorf("%.30q: %v, want %s", test.id, err, test.want)
		}
		s.session.end(ReasonTransportClose, noCloseFrame, "")
		s.session.part()
	}
}

// The user of a socket does not change.
func TestUserIsSetOnce(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	var errs []error
	h.Use(func(s *Socket) error {
		errs = append(errs, s.SetUser("7"), s.SetUser("7"), s.SetUser("8"), s.SetUser(""))
		return s.Join("r", "\U0010ffff") // the names that come next to a user's
	})
	h.OnConnect(func(s *Socket) { errs = append(errs, s.SetUser("7"), s.SetUser("8")) })
	left := make(chan *Socket, 1)
	h.OnDisconnect(func(s *Socket, _ Reason) { left <- s })
	c := serve(t, overPipe, h).connect(t, nil)
	c.socket(h).Disconnect()
	s := within(t, left, "OnDisconnect")
	errs = append(errs, s.SetUser("9"))
	for i, want := range []error{nil, nil, ErrUserSet, ErrUserID, nil, ErrUserSet, ErrUserSet} {
		if !errors.Is(errs[i], want) {
			t.Errorf("call %d: %v, want %v", i, errs[i], want)
		}
	}
	if s.User() != "7" || !slices.Equal(s.Rooms(), []string{"r", "\U0010ffff"}) {
		t.Errorf("the user is %q, in %q", s.User(), s.Rooms())
	}

	// Nor is one given to a socket that is connected without.
	none := newMailbox(t, newHub(t, Options{}))
	t.Cleanup(none.drop)
	if err := none.SetUser("7"); !errors.Is(err, ErrUserSet) || none.User() != "" {
		t.Errorf("once connected: %v, %q", err, none.User())
	}
}

// No name of a room is a user's, wherever names are taken.
func TestUserIsNoRoom(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{Limits: Limits{Rooms: 3}})
	ada, eve := newMailboxOf(t, h, "7"), newMailboxOf(t, h, "8")
	t.Cleanup(ada.drop)
	t.Cleanup(eve.drop)
	forged := userRoom("7")
	for _, err := range []error{eve.Join(forged), h.To(eve.ID()).Join(t.Context(), forged)} {
		if !errors.Is(err, ErrRoomName) {
			t.Errorf("joining: %v", err)
		}
	}
	if err := eve.Join("7", "user:7", "u7"); err != nil { // and a user counts as no room
		t.Fatal(err)
	}
	h.ToUser("7").Emit("secret")
	if got := eve.take(); len(got) != 0 {
		t.Errorf("who joined rooms of that name got %q", got)
	}
	if got := ada.take(); !slices.Equal(got, []string{`{"event":"secret"}`}) {
		t.Errorf("the user got %q", got)
	}
	for _, to := range []Target{h.To(forged), h.To("7", forged).Except("7"), eve.To(forged), h.To().To(forged)} {
		to.Emit("forged")
	}
	h.Except(forged).Emit("all")
	for _, box := range []mailbox{ada, eve} {
		if got := box.take(); !slices.Equal(got, []string{`{"event":"all"}`}) {
			t.Errorf("%s got %q", box.User(), got)
		}
	}
	ada.Leave(forged)
	h.To(ada.ID()).Leave(t.Context(), forged)
	if n, err := h.ToUser("7").Count(t.Context()); n != 1 || err != nil {
		t.Errorf("after Leave %d, %v", n, err)
	}
	if ada.In(forged) || ada.In("7") || len(ada.Rooms()) != 0 {
		t.Errorf("Rooms says %q", ada.Rooms())
	}
	if rooms := h.LocalRooms(); !slices.Equal(rooms, []RoomInfo{{"7", 1}, {"u7", 1}, {"user:7", 1}}) {
		t.Errorf("LocalRooms says %v", rooms)
	}
	infos, err := h.ToUser("7").Sockets(t.Context())
	if diff := cmp.Diff([]SocketInfo{{ID: ada.ID(), User: "7", Rooms: []string{}}}, infos); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for _, nobody := range []Target{h.ToUser(), h.ToUser(""), h.ToUser("\xff7"), h.ToUser(strings.Repeat("7", 257)), h.ToUser(ada.ID())} {
		if n, err := nobody.Count(t.Context()); n != 0 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	// An id with the checksum of a socket's is a user's like others.
	id := "nodesrandom-text12x"
	check := idCheck(userRoom(id)[:16])
	odd := newMailboxOf(t, h, id[:15]+string(check[:]))
	t.Cleanup(odd.drop)
	if n, err := h.ToUser(odd.User()).Count(t.Context()); n != 1 || err != nil {
		t.Errorf("%q: %d, %v", odd.User(), n, err)
	}
}

// A target of users is one on every node.
func TestUserOnACluster(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		all := newTestCluster(t, k, 3, new(MemoryBus), Options{})
		for _, h := range all {
			useUsers(h.Hub)
		}
		enter := func(i int, user string, rooms ...string) *client {
			return all[i].connect(t, map[string]any{"user": user, "rooms": rooms})
		}
		// On node 2 is nobody but who wants to be taken for the user.
		phone, desk, bob, eve := enter(0, "7", "r"), enter(1, "7"), enter(1, "8", "r"), enter(2, "", "7", "user:7", "user:/,7")
		self := phone.socket(all[0].Hub)
		a, c := all[0], all[2]
		if self.User() != "7" {
			t.Fatalf("the user is %q", self.User())
		}
		for _, test := range []struct {
			name string
			to   Target
			want []*client
		}{
			{"a user, from elsewhere", c.ToUser("7"), []*client{phone, desk}},
			{"a user, from here", a.ToUser("7"), []*client{phone, desk}},
			{"a user's other devices", self.ToUser("7"), []*client{desk}},
			{"users", c.ToUser("8", "7", "9"), []*client{phone, desk, bob}},
			{"a user and a room", c.ToUser("7").To("r"), []*client{phone, desk, bob}},
			{"a room but a user", c.To("r").ExceptUser("7"), []*client{bob}},
			{"all but a user", c.ExceptUser("7"), []*client{bob, eve}},
			{"all but a user and the sender", self.ExceptUser("8"), []*client{desk, eve}},
			{"a user of this node", a.ToUser("7").Local(), []*client{phone}},
			{"nobody", c.ToUser("9"), nil},
		} {
			if err := test.to.Emit("test", test.name); err != nil {
				t.Fatal(err)
			}
			for _, m := range test.want {
				m.want(fmt.Sprintf(`{"event":"test","data":%q}`, test.name))
			}
			// The other questions are by the same names, but leave no sender out.
			if n, err := test.to.Count(t.Context()); test.to.sender == nil && n != len(test.want) || err != nil {
				t.Errorf("%s: Count says %d, %v", test.name, n, err)
			}
		}
		for _, h := range all {
			h.Emit("end")
		}
		for _, m := range []*client{phone, desk, bob, eve} {
			for range all {
				m.want(`{"event":"end"}`)
			}
		}
		if err := c.ToUser("7").Join(t.Context(), "late"); err != nil {
			t.Fatal(err)
		}
		infos, err := c.To("late").Sockets(t.Context())
		slices.SortFunc(infos, func(a, b SocketInfo) int { return strings.Compare(a.ID, b.ID) })
		want := []SocketInfo{{ID: phone.sid, User: "7", Rooms: []string{"late", "r"}}, {ID: desk.sid, User: "7", Rooms: []string{"late"}}}
		slices.SortFunc(want, func(a, b SocketInfo) int { return strings.Compare(a.ID, b.ID) })
		if diff := cmp.Diff(want, infos); diff != "" || err != nil {
			t.Error(err, diff)
		}
		c.ToUser("7").Leave(t.Context(), "late", userRoom("7"))
		rooms, err := c.Rooms(t.Context())
		if diff := cmp.Diff([]RoomInfo{{"7", 1}, {"r", 2}, {"user:/,7", 1}, {"user:7", 1}}, rooms); diff != "" || err != nil {
			t.Error(err, diff)
		}
		replies := begin(func() ([]Reply, error) { return c.ToUser("7").Call(t.Context(), "q") })
		for _, m := range []*client{phone, desk} {
			var id int
			fmt.Sscanf(m.next(), `{"event":"q","id":%d}`, &id)
			m.send(fmt.Sprintf(`{"id":%d,"data":1}`, id))
		}
		if got := within(t, replies, "the replies"); len(got.v) != 2 || got.err != nil {
			t.Errorf("%+v", got)
		}
		if err := c.ToUser("7").DisconnectWith(t.Context(), 4001, "banned"); err != nil {
			t.Fatal(err)
		}
		phone.wantClosed(4001)
		desk.wantClosed(4001)
		c.Emit("still here")
		bob.want(`{"event":"still here"}`)
		eve.want(`{"event":"still here"}`)
	})
}

// Who is away misses what is for the user, and what is done to the user is done to who is away.
func TestUserAway(t *testing.T) {
	noLeaks(t)
	l, other := newRecoveryHubs(t, overTCP, Options{})
	useUsers(l.Hub)
	g, bob := l.enter(t, `{"user":"7"}`), l.enter(t, `{"user":"8"}`)
	l.cut(g)
	before := l.recovery.lastNumber()
	other.ToUser("7").Emit("user", 1)
	other.To("none").ExceptUser("8").ToUser("7").Emit("both", 2)
	other.ExceptUser("7").Emit("others", 3)
	eventually(t, "the events", func() bool { return l.recovery.lastNumber() == before+3 })
	if err := other.ToUser("7").Join(limited(t), "late"); err != nil {
		t.Fatal(err)
	}
	l.To("late").Emit("late", 4)
	back := l.enter(t, proof(g.pid, ""))
	wantRecovered(t, back, g)
	missed := bare(t, back.missed)
	slices.Sort(missed) // those by different topics have no order
	if diff := cmp.Diff([]string{`42["both",2]`, `42["late",4]`, `42["user",1]`}, missed); diff != "" {
		t.Fatal(diff)
	}
	if s := back.socket; s.User() != "7" || !slices.Equal(s.Rooms(), []string{"late"}) {
		t.Errorf("%q is back in %q", s.User(), s.Rooms())
	}
	l.cut(back)
	if err := other.ToUser("7").Disconnect(limited(t)); err != nil {
		t.Fatal(err)
	}
	if again := l.enter(t, proof(g.pid, "")); again.id == g.id || again.socket.Recovered() || again.socket.User() != "" {
		t.Error("who was disconnected while away is back")
	}
	l.cut(bob)
	l.recovery.check(t)
}

// A restart keeps whose sockets they are, and what was for the users.
func TestUserRestart(t *testing.T) {
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "state")
	old := successor(t, overTCP, path, Options{})
	useUsers(old.Hub)
	id := "a\x00👩‍👧\"" + strings.Repeat("x", 200)
	g := old.enter(t, `{"user":"plain","rooms":["r"]}`)
	auth, err := json.Marshal(map[string]string{"user": id})
	if err != nil {
		t.Fatal(err)
	}
	odd := old.enter(t, string(auth))
	old.cut(g)
	old.cut(odd)
	old.ToUser("plain").Emit("mine")
	old.ToUser("plain", id).Emit("both")
	old.To("r").ExceptUser("plain").Emit("others")
	old.ToUser(id).Emit("odd")
	old.shutdown(t)

	l := successor(t, overTCP, path, Options{})
	l.ToUser("plain").Emit("new")
	back, oddBack := l.enter(t, proof(g.pid, "")), l.enter(t, proof(odd.pid, ""))
	wantRecovered(t, back, g)
	wantRecovered(t, oddBack, odd)
	wantMissed(t, back, `42["mine"]`, `42["both"]`, `42["new"]`)
	wantMissed(t, oddBack, `42["both"]`, `42["odd"]`)
	if back.socket.User() != "plain" || oddBack.socket.User() != id || !slices.Equal(back.socket.Rooms(), []string{"r"}) {
		t.Errorf("back are %q in %q, and %q", back.socket.User(), back.socket.Rooms(), oddBack.socket.User())
	}
	if n, err := l.ToUser("plain").Count(t.Context()); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	l.recovery.check(t)
}

// Log entries about a socket say whose it is, in one line.
func TestUserInLog(t *testing.T) {
	noLeaks(t)
	logger, log := newLog()
	h := newHub(t, Options{Logger: logger})
	useUsers(h)
	h.Handle("panic", func(*Event) { panic("boom") })
	c := serve(t, overPipe, h).connect(t, map[string]any{"user": "7\n\x1b[2J"})
	c.send(`{"event":"panic"}`)
	c.expect("error", new(any))
	c.wantClosed(StatusInternalError)
	eventually(t, "the entry", func() bool {
		return strings.Contains(log.String(), fmt.Sprintf("socket=%s user=\"7��[2J\"", c.sid))
	})
}

// However many of a user come at once, as many stay as may.
func TestUserPlaces(t *testing.T) {
	for _, replace := range []bool{false, true} {
		for _, recovery := range []bool{false, true} {
			t.Run(fmt.Sprintf("replace %t, recovery %t", replace, recovery), func(t *testing.T) {
				testUserPlaces(t, replace, recovery)
			})
		}
	}
}

func testUserPlaces(t *testing.T, replace, recovery bool) {
	noLeaks(t)
	const comers, most = 50, 3
	options := Options{Limits: Limits{SocketsPerUser: most}, ReplaceOldest: replace, Logger: slog.New(slog.DiscardHandler)}
	if recovery {
		options.Recovery.MaxDisconnection = patience
	}
	h := newHub(t, options)
	useUsers(h)
	left := leavings(h)
	srv := serve(t, overPipe, h)
	const (
		stayed = iota
		refused
		replaced
	)
	told, outcomes := make(chan bool, comers), make(chan int, comers)
	var clients []ioClient
	for range comers {
		clients = append(clients, srv.socketIO(t))
	}
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			c.send(`40{"user":"7"}`)
			first := c.next()
			told <- true
			if first == fmt.Sprintf(`44{"message":"user: expected at most %d connections at a time"}`, most) {
				outcomes <- refused
				return
			}
			if !strings.HasPrefix(first, `40{"sid":`) {
				t.Errorf("got %s", first)
			}
			for {
				switch m := c.hear(); {
				case strings.HasPrefix(m, `42["end"`):
					outcomes <- stayed
					return
				case strings.HasPrefix(m, `42["disconnect_reason",{"code":1008,"reason":"connected elsewhere"}`):
					if m := c.next(); m != "41" {
						t.Errorf("got %s", m)
					}
					outcomes <- replaced
					return
				default:
					t.Errorf("got %s", m)
					return
				}
			}
		})
	}
	for range comers { // whoever is replaced may know before its successor is in its user's room
		within(t, told, "the reply to a connect")
	}
	count := make(map[int]int)
	for range comers - most {
		count[within(t, outcomes, "an outcome")]++
	}
	want := refused
	if replace {
		want = replaced
		for range comers - most {
			wantReason(t, left, ReasonReplaced)
		}
	}
	if n, err := h.ToUser("7").Count(t.Context()); n != most || err != nil || count[want] != comers-most {
		t.Errorf("%d are there, %v; outcomes %v", n, err, count)
	}
	h.ToUser("7").Emit("end")
	for range most {
		if got := within(t, outcomes, "an outcome"); got != stayed {
			t.Errorf("one who stayed was %d", got)
		}
	}
	wg.Wait()
	// Those of others, and of nobody, are counted for themselves.
	for _, auth := range []string{`{"user":"8"}`, `{}`, `{}`, `{}`, `{}`} {
		c := srv.socketIO(t)
		c.send("40" + auth)
		if m := c.next(); !strings.HasPrefix(m, `40{"sid":`) {
			t.Errorf("got %s", m)
		}
	}
	h.Except().Disconnect(t.Context())
	eventually(t, "the places to be free", func() bool {
		h.Namespace.mu.Lock()
		defer h.Namespace.mu.Unlock()
		return len(h.places) == 0
	})
}

// Plain clients are told in a close frame.
func TestUserPlacesOfPlainClients(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{Limits: Limits{SocketsPerUser: 1}, ReplaceOldest: true})
	useUsers(h)
	left := leavings(h)
	srv := serve(t, overPipe, h)
	auth := map[string]any{"user": "7"}
	first := srv.connect(t, auth)
	second := srv.connect(t, auth)
	wantClosed(t, first.Conn, StatusPolicyViolation)
	wantReason(t, left, ReasonReplaced)
	second.settle()

	logger, log := newLog()
	h = newHub(t, Options{Limits: Limits{SocketsPerUser: 1}, Logger: logger})
	useUsers(h)
	srv = serve(t, overPipe, h)
	first = srv.connect(t, auth)
	second = srv.offer(t)
	second.emit("connect", auth)
	second.want(`{"event":"connect_error","data":{"message":"user: expected at most 1 connections at a time"}}`)
	second.wantClosed(StatusPolicyViolation)
	first.settle()
	if !strings.Contains(log.String(), "refused a client over Limits.SocketsPerUser") || !strings.Contains(log.String(), "user=7 limit=1") {
		t.Errorf("the log has %s", log)
	}
}

// What is left of a client keeps nobody out but who cannot prove to be that client.
func TestUserPlacesAndRecovery(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		l := newRecoveryHub(t, k, Options{Limits: Limits{SocketsPerUser: 1}})
		useUsers(l.Hub)
		const auth = `{"user":"7"}`
		proofOf := func(g *recoveryClient) string { return `{"user":"7",` + proof(g.pid, "")[1:] }
		refused := func(auth string) {
			t.Helper()
			c := l.socketIO(t)
			c.send("40" + auth)
			c.want(`44{"message":"user: expected at most 1 connections at a time"}`)
		}
		g := l.enter(t, auth)
		refused(auth)
		back := l.enter(t, proofOf(g)) // while the hub believes that the old connection lives
		wantRecovered(t, back, g)
		within(t, l.went, "OnDisconnect")
		refused(auth)
		l.cut(back)
		taker := l.enter(t, auth) // who is away does not count
		refused(proofOf(g))
		l.cut(taker)
		if anew := l.enter(t, proofOf(g)); anew.socket.Recovered() || anew.id == g.id || anew.socket.User() != "7" {
			t.Error("who was refused is back as who that was")
		}
		l.recovery.check(t)
	})
}

// A client that comes back to a place that others have taken replaces the oldest.
func TestUserReplacedByOneWhoIsBack(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{Limits: Limits{SocketsPerUser: 2}, ReplaceOldest: true})
	useUsers(l.Hub)
	const auth = `{"user":"7"}`
	g := l.enter(t, auth)
	l.cut(g)
	oldest, other := l.enter(t, auth), l.enter(t, auth)
	l.ToUser("7").Emit("missed")
	back := l.enter(t, proof(g.pid, ""))
	wantRecovered(t, back, g)
	wantMissed(t, back, `42["missed"]`)
	wantHears(t, oldest, `~42\["missed",.*`, `42["disconnect_reason",{"code":1008,"reason":"connected elsewhere"}]`, "41")
	wantReason(t, l.went, ReasonReplaced)
	if anew := l.enter(t, proof(oldest.pid, "")); anew.socket.Recovered() {
		t.Error("who was replaced came back")
	}
	wantHears(t, other, `~42\["missed",.*`)
	l.recovery.check(t)
}

// The state of a release without users is read; what cannot be in one is refused.
func TestUserInState(t *testing.T) {
	lines := func(version int, client string) io.Reader {
		head := strings.Replace(stateHead, `"version":1`, fmt.Sprintf(`"version":%d`, version), 1)
		return strings.NewReader(string(sealed([]byte(head + `{"namespace":{"name":"/","newest":9,"dropped":3}}` + "\n" + client + "\n"))))
	}
	id, pid := newSocketID("nodes"), strings.Repeat("p", pidLength)
	client := func(more string) string {
		return fmt.Sprintf(`{"client":{"pid":%q,"id":%q,"rooms":[{"name":"a"},{"name":"b"}]%s}}`, pid, id, more)
	}
	for _, test := range []struct {
		more string
		want []string // names of rooms; nil: an error
	}{
		{"", []string{"a", "b"}},
		{`,"user":"7"`, []string{"a", "b", userRoom("7")}},
		{`,"user":"` + strings.Repeat("x", 257) + `"`, nil},
	} {
		state, err := readState(lines(1+len(test.more)%2, client(test.more)))
		if test.want == nil {
			if !errors.Is(err, ErrUserID) {
				t.Errorf("%s: %v", test.more, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, stay := range state[0].clients[0].rooms {
			got = append(got, stay.name)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.more, got, test.want)
		}
	}
}
