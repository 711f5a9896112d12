package atrium

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// inspected is a server of a hub and its page, and a viewer of it.
type inspected struct {
	t    *testing.T
	hub  *Hub
	page *inspector
	url  string // of the page

	viewer *Client
	lists  chan listed
	events chan socketEvents
	stats  chan inspectSample
	reason chan Reason
}

// listed is viewed, with its rows as they came.
type listed struct {
	View  view              `json:"view"`
	Total int               `json:"total"`
	Rows  []json.RawMessage `json:"rows"`
}

// inspect serves a hub and its page.
func inspect(t *testing.T, h *Hub, options *InspectOptions) *inspected {
	t.Helper()
	page := Inspect(h, options).(*inspector)
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.Handle("/debug/atrium/", page)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	l := &inspected{t: t, hub: h, page: page, url: srv.URL + "/debug/atrium/",
		lists: make(chan listed, 1000), events: make(chan socketEvents, 1000), stats: make(chan inspectSample, 1000), reason: make(chan Reason, 10)}
	return l
}

// look connects the viewer.
func (l *inspected) look() {
	l.t.Helper()
	l.viewer = NewClient(l.url+"feed", ClientOptions{Backoff: soon, Logger: slog.New(slog.DiscardHandler)})
	l.t.Cleanup(func() { l.viewer.Close() })
	On(l.viewer, "list", func(_ *Client, list listed) error { l.lists <- list; return nil })
	On(l.viewer, "events", func(_ *Client, e socketEvents) error { l.events <- e; return nil })
	On(l.viewer, "stats", func(_ *Client, s inspectSample) error { l.stats <- s; return nil })
	l.viewer.HandleAny(func(*Event) {})
	l.viewer.OnDisconnect(func(_ *Client, why Reason) { l.reason <- why })
	mustConnect(l.t, l.viewer)
}

// rowsOf returns the rows of a view, when there are that many on all pages.
func rowsOf[T any](l *inspected, v view, total int) []T {
	l.t.Helper()
	if err := l.viewer.Emit("view", v); err != nil {
		l.t.Fatal(err)
	}
	for {
		got := within(l.t, l.lists, fmt.Sprintf("%d rows of %+v", total, v))
		if got.View == v && got.Total == total {
			return decodeAll[T](got.Rows)
		}
	}
}

// wantSockets goes through the pages of sockets, and compares how many there are of each kind.
func (l *inspected) wantSockets(want map[string]int) {
	l.t.Helper()
	total := 0
	for _, n := range want {
		total += n
	}
	got, ids := make(map[string]int), make(map[string]bool)
	for page := range (total + pageRows - 1) / pageRows {
		for _, row := range rowsOf[socketRow](l, view{List: listSockets, Page: page}, total) {
			got[row.Protocol+" over "+row.Transport]++
			ids[row.ID] = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(ids) != total {
		l.t.Errorf("the page shows %d sockets of %d: %s", len(ids), total, diff)
	}
}

// wantFigures waits for the next figures, and the list of nodes, and compares them. What is older
// does not count.
func (l *inspected) wantFigures(want Stats) {
	l.t.Helper()
	for len(l.stats) > 0 {
		<-l.stats
	}
	within(l.t, l.stats, "figures") // which may have been taken before
	if diff := want.differs(within(l.t, l.stats, "figures").Stats); diff != "" {
		l.t.Errorf("the page shows other figures: %s", diff)
	}
	nodes := rowsOf[nodeStats](l, view{List: listNodes}, 1)
	if diff := want.differs(*nodes[0].Stats); diff != "" {
		l.t.Errorf("the page shows other figures of this node: %s", diff)
	}
}

// dial connects a plain client of the hub, and returns its socket.
func (l *inspected) dial() (*Conn, *Socket) {
	l.t.Helper()
	before := len(l.hub.LocalSockets())
	c, _, err := Dial(context.Background(), "ws"+strings.TrimPrefix(strings.TrimSuffix(l.url, "/debug/atrium/"), "http"), DialOptions{})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.CloseNow() })
	eventually(l.t, "the socket", func() bool { return len(l.hub.LocalSockets()) == before+1 })
	var hello struct{ Data struct{ Sid string } }
	if _, p, err := c.Read(context.Background()); err != nil || json.Unmarshal(p, &hello) != nil {
		l.t.Fatalf("%s %v", p, err)
	}
	return c, l.hub.socket(hello.Data.Sid)
}

func TestInspectAllows(t *testing.T) {
	anyone := &InspectOptions{Allow: func(*http.Request) bool { return true }}
	nobody := &InspectOptions{Allow: func(*http.Request) bool { return false }}
	for name, c := range map[string]struct {
		options      *InspectOptions
		remote, host string
		header       string
		proto        string
		want         int
	}{
		"local":                  {nil, "127.0.0.1:1", "localhost:8080", "", "", 200},
		"local, IPv6":            {nil, "[::1]:1", "[::1]:8080", "", "", 200},
		"local, mapped":          {nil, "[::ffff:127.0.0.1]:1", "[::1]", "", "", 200},
		"local, another address": {nil, "127.3.2.1:1", "127.3.2.1", "", "", 200},
		"local, a subdomain":     {nil, "127.0.0.1:1", "atrium.LOCALHOST.:80", "", "", 200},
		"no options":             {&InspectOptions{}, "127.0.0.1:1", "localhost", "", "", 200},
		"remote":                 {nil, "192.0.2.1:1", "localhost", "", "", 403},
		"no address":             {nil, "@", "localhost", "", "", 403},
		"DNS rebinding":          {nil, "127.0.0.1:1", "evil.example:8080", "", "", 403},
		"a name that begins so":  {nil, "127.0.0.1:1", "localhost.evil.example", "", "", 403},
		"a name that ends so":    {nil, "127.0.0.1:1", "evillocalhost", "", "", 403},
		"no host":                {nil, "127.0.0.1:1", "", "", "", 403},
		"proxy":                  {nil, "127.0.0.1:1", "localhost", "X-Forwarded-For", "", 403},
		"proxy, RFC 7239":        {nil, "127.0.0.1:1", "localhost", "Forwarded", "", 403},
		"proxy, Via":             {nil, "127.0.0.1:1", "localhost", "Via", "", 403},
		"proxy, nginx":           {nil, "127.0.0.1:1", "localhost", "", "HTTP/1.0", 403},
		"allowed":                {anyone, "192.0.2.1:1", "example.com", "Forwarded", "", 200},
		"not allowed":            {nobody, "127.0.0.1:1", "localhost", "", "", 403},
	} {
		h := newHub(t, Options{})
		for _, file := range []string{"", "page.js", "client.js"} {
			r := httptest.NewRequest("GET", "/debug/atrium/"+file, nil)
			r.RemoteAddr, r.Host = c.remote, c.host
			if c.header != "" {
				r.Header.Set(c.header, "")
			}
			if c.proto != "" {
				r.Proto, r.ProtoMajor, r.ProtoMinor = c.proto, 1, 0
			}
			w := httptest.NewRecorder()
			Inspect(h, c.options).ServeHTTP(w, r)
			if w.Code != c.want {
				t.Errorf("%s: %q: status %d, want %d", name, file, w.Code, c.want)
			}
			if c.want == 403 && !strings.Contains(w.Body.String(), "InspectOptions.Allow") {
				t.Errorf("%s: it says %q", name, w.Body)
			}
		}
		if n := len(h.log.lately.list()); (n > 0) != (c.want == 403) {
			t.Errorf("%s: %d incidents are kept", name, n)
		}
	}
}

func TestInspectFiles(t *testing.T) {
	page := Inspect(newHub(t, Options{}), nil)
	ask := func(handler http.Handler, method, target string) *http.Response {
		r := httptest.NewRequest(method, target, nil)
		r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Result()
	}
	files := []string{"", "client.js"}
	for name := range inspectTypes {
		files = append(files, name)
	}
	for _, name := range files {
		for _, mount := range []string{"/debug/atrium/", "/"} {
			got := ask(page, "GET", mount+name)
			text := body(t, got.Body)
			if got.StatusCode != 200 || len(text) == 0 {
				t.Fatalf("%s: status %d, %d bytes", name, got.StatusCode, len(text))
			}
			for _, header := range []string{"X-Content-Type-Options: nosniff", "Content-Security-Policy: " + inspectPolicy, "X-Frame-Options: DENY", "Referrer-Policy: no-referrer"} {
				if key, want, _ := strings.Cut(header, ": "); got.Header.Get(key) != want {
					t.Errorf("%s: %s: %q", name, key, got.Header.Get(key))
				}
			}
			if cache := got.Header.Get("Cache-Control"); name != "client.js" && cache != "no-store" {
				t.Errorf("%s: Cache-Control: %q", name, cache)
			}
			if head := ask(page, "HEAD", mount+name); head.StatusCode != 200 {
				t.Errorf("HEAD %s: status %d", name, head.StatusCode)
			}
			// What it loads is there, and nothing of it is inline or elsewhere.
			for _, at := range regexp.MustCompile(`(?:src|href)="([^"#]+)"|from '([^']+)'`).FindAllStringSubmatch(string(text), -1) {
				if part := strings.TrimPrefix(at[1]+at[2], "./"); ask(page, "GET", mount+part).StatusCode != 200 {
					t.Errorf("%s: there is no %s", name, part)
				}
			}
			if inline := regexp.MustCompile(`(?i)<style|style=|<script>|\son\w+=|innerHTML|https?://(?:www\.w3\.org/2000/svg)?`).FindAllString(string(text), -1); name != "client.js" &&
				slices.ContainsFunc(inline, func(s string) bool { return s != "http://www.w3.org/2000/svg" }) {
				t.Errorf("%s: it has %q", name, inline)
			}
		}
	}
	if got := ask(page, "POST", "/debug/atrium/"); got.StatusCode != 405 || got.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: status %d, Allow %q", got.StatusCode, got.Header.Get("Allow"))
	}
	for _, target := range []string{"/debug/atrium/inspect.go", "/debug/atrium", "/debug/atrium/..%2fgo.mod"} {
		if got := ask(page, "GET", target); got.StatusCode != 404 {
			t.Errorf("%s: status %d", target, got.StatusCode)
		}
	}
	stripped := http.StripPrefix("/x/y", page)
	if got := ask(stripped, "GET", "/x/y"); got.StatusCode != 307 || got.Header.Get("Location") != "./y/" {
		t.Errorf("without the slash: status %d, Location %q", got.StatusCode, got.Header.Get("Location"))
	}
	if got := ask(stripped, "GET", "/x/y/"); got.StatusCode != 200 {
		t.Errorf("stripped: status %d", got.StatusCode)
	}
}

func TestInspectFeedIsGuarded(t *testing.T) {
	h := newHub(t, Options{AllowedOrigins: []string{"*"}})
	allowed := true
	l := inspect(t, h, &InspectOptions{Allow: func(*http.Request) bool { return allowed }})
	dial := func(origin string) int {
		c, r, err := Dial(context.Background(), "ws"+strings.TrimPrefix(l.url, "http")+"feed", DialOptions{Header: http.Header{"Origin": {origin}}})
		if err != nil {
			if r == nil {
				t.Fatal(err)
			}
			return r.StatusCode
		}
		c.CloseNow()
		return 101
	}
	if r, err := http.Get(l.url + "feed?EIO=4&transport=polling"); err != nil || r.Body.Close() != nil || r.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a poll: %v, %v", r, err)
	}
	if status := dial("https://evil.example"); status != 403 {
		t.Errorf("another origin: status %d", status)
	}
	if status := dial(strings.TrimSuffix(l.url, "/debug/atrium/")); status != 101 {
		t.Errorf("its own origin: status %d", status)
	}
	allowed = false
	if status := dial(strings.TrimSuffix(l.url, "/debug/atrium/")); status != 403 {
		t.Errorf("not allowed: status %d", status)
	}
}

// hostileNames are of rooms and users.
var hostileNames = []string{
	`<img src=x onerror=alert(1)>`, `"quoted" 'and' ` + "`so`", "line\nbreak\r\n\tand tab", "\u202eright to left\u2066", "\x1b[31mred", "\u2028",
	strings.Repeat("\U0001F469\u200d\U0001F467", 23) + "!!!",
}

func TestInspectLists(t *testing.T) {
	h := newHub(t, Options{})
	l := inspect(t, h, nil)
	var boxes []mailbox
	for i := range 150 {
		box := newMailbox(t, h)
		defer box.drop()
		boxes = append(boxes, box)
		rooms := []string{"all", fmt.Sprintf("Room-%d", i/2)}
		if i < len(hostileNames) {
			rooms = append(rooms, hostileNames[i])
		}
		if err := box.Join(rooms...); err != nil {
			t.Fatal(err)
		}
	}
	l.look()
	first := rowsOf[socketRow](l, view{List: listSockets, Sort: "id"}, 150)
	second := rowsOf[socketRow](l, view{List: listSockets, Sort: "id", Page: 1}, 150)
	var want, got []string
	for _, box := range boxes {
		want = append(want, box.id)
	}
	slices.Sort(want)
	for _, row := range append(first, second...) {
		got = append(got, row.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the pages have %d sockets, of 150, or another order", len(got))
	}
	if rows := rowsOf[socketRow](l, view{List: listSockets, Sort: "id", Page: math.MaxInt}, 150); len(rows) != 50 {
		t.Errorf("beyond the last page: %d rows", len(rows))
	}
	if rows := rowsOf[socketRow](l, view{List: listSockets, Search: "rOOm-7"}, 12); len(rows) != 12 { // 7, 70 to 74
		t.Errorf("by room: %d rows", len(rows))
	}
	if rows := rowsOf[socketRow](l, view{List: listSockets, Search: boxes[9].id}, 1); rows[0].ID != boxes[9].id || rows[0].Rooms != 2 || rows[0].Protocol != "plain" {
		t.Errorf("by id: %+v", rows)
	}
	for i, name := range hostileNames {
		if rows := rowsOf[socketRow](l, view{List: listSockets, Room: name, Namespace: "/"}, 1); rows[0].ID != boxes[i].id {
			t.Errorf("in %q: %+v", name, rows)
		}
	}
	rooms := rowsOf[roomRow](l, view{List: listRooms, Sort: "sockets", Descending: true}, 76+len(hostileNames))
	if rooms[0].Name != "all" || rooms[0].Sockets != 150 || rooms[1].Sockets != 2 {
		t.Errorf("rooms: %+v", rooms[:2])
	}
	rowsOf[roomRow](l, view{List: listRooms, Namespace: "/elsewhere"}, 0)
	for _, bad := range []any{view{List: "secrets"}, view{List: listRooms, Page: -1}, view{List: listRooms, Search: strings.Repeat("x", 300)}, 7} {
		if _, err := Call[any](context.Background(), l.viewer, "view", bad); err == nil {
			t.Errorf("%+v is a view", bad)
		}
	}
}

func TestInspectEvents(t *testing.T) {
	for _, payloads := range []bool{false, true} {
		h := newHub(t, Options{})
		OnCall(h, "ask", func(_ *Socket, text string) (string, error) { return "you said " + text, nil })
		l := inspect(t, h, &InspectOptions{Payloads: payloads})
		l.look()
		c, s := l.dial()
		if d := ask[socketDetail](t, l.viewer, "watch", s.id); d.ID != s.id || d.Agent != "" && d.Agent != "Go-http-client/1.1" || d.Path != "/" {
			t.Errorf("the socket is %+v", d)
		}
		long := strings.Repeat("é", maxTappedData)
		mustWrite(t, c, opText, `{"event":"ask","data":"hi","id":7}`)
		wantMessage(t, c, opText, `{"id":7,"data":"you said hi"}`)
		s.Emit("greeting", long)
		s.Volatile().Emit("cursor", 1)
		h.Emit("to all")
		s.Disconnect()
		var got []string
		for len(got) < 6 {
			for _, e := range within(t, l.events, "events").Events {
				got = append(got, fmt.Sprintf("%v %s %s %d %d", e.Out, e.Kind, e.Name, e.AckID, e.Size))
				if (e.Data != "") != (payloads && e.Size > 0) || len(e.Data) > maxTappedData || strings.Contains(e.Data, "\ufffd") {
					t.Errorf("payloads %v: %d bytes of %q", payloads, len(e.Data), e.Name)
				}
			}
		}
		want := []string{`false event ask 7 4`, `true ack  7 13`, fmt.Sprintf("true event greeting -1 %d", len(long)+2), `true volatile cursor -1 1`,
			`true event to all -1 0`, `false left server namespace disconnect -1 0`}
		if !slices.Equal(got, want) {
			t.Errorf("payloads %v: %q, want %q", payloads, got, want)
		}
		if _, err := Call[any](context.Background(), l.viewer, "watch", s.id); err == nil {
			t.Error("a socket that has left is watched")
		}
		l.viewer.Emit("unwatch")
		eventually(t, "no tap", func() bool { return h.sessions.taps.current.Load() == nil })
	}
}

// TestInspectTapIsBounded: what is too fast to show is counted, and waits for nobody.
func TestInspectTapIsBounded(t *testing.T) {
	h, boxes := newMailboxes(t, 2)
	one, other := &tap{id: boxes[0].id, events: make(chan tapped, maxTapped)}, &tap{id: boxes[0].id, events: make(chan tapped, maxTapped)}
	var v, w viewer
	h.setTap(&v, one)
	h.setTap(&w, other)
	for range maxTapped + 10 {
		h.To("room").Emit("x")
	}
	h.setTap(&w, nil)
	h.To("room").Emit("y")
	for i, tap := range []*tap{one, other} {
		if events, missed := tap.take(); len(events) != maxTapped || missed != int64(11-i) {
			t.Errorf("%d events, %d missed", len(events), missed)
		}
	}
	h.setTap(&v, nil)
	if h.sessions.taps.current.Load() != nil {
		t.Error("a tap is left")
	}
}

func TestInspectActions(t *testing.T) {
	var log bytes.Buffer
	for _, on := range []bool{false, true} {
		h := newHub(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		l := inspect(t, h, &InspectOptions{Actions: on})
		l.look()
		c, s := l.dial()
		event := map[string]any{"id": s.id, "event": "notice", "args": []any{"<b>", 2}}
		if _, err := Call[any](context.Background(), l.viewer, "send-event", event); (err == nil) != on {
			t.Errorf("actions %v: send: %v", on, err)
		}
		if on {
			wantMessage(t, c, opText, `{"event":"notice","args":["<b>",2]}`)
			event["event"] = "connect"
			if _, err := Call[any](context.Background(), l.viewer, "send-event", event); err == nil || !strings.Contains(err.Error(), "reserved") {
				t.Errorf("a reserved event: %v", err)
			}
		}
		if _, err := Call[any](context.Background(), l.viewer, "disconnect-socket", s.id); (err == nil) != on {
			t.Errorf("actions %v: disconnect: %v", on, err)
		}
		if connected := s.isConnected(); connected == on {
			t.Errorf("actions %v: it is connected: %v", on, connected)
		}
		if n := strings.Count(log.String(), "an action of Inspect"); on && n != 3 || !on && n != 0 {
			t.Errorf("actions %v: %d are logged: %s", on, n, &log)
		}
	}
}

// TestInspectEnds: without viewers nothing runs, and Shutdown ends what does.
func TestInspectEnds(t *testing.T) {
	h := newHub(t, Options{})
	l := inspect(t, h, nil)
	running := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.live.inspect) > 0
	}
	for range 2 {
		l.look()
		eventually(t, "the goroutine", running)
		rowsOf[roomRow](l, view{List: listRooms}, 0)
		l.viewer.Close()
		eventually(t, "the goroutine to end", func() bool { return !running() })
		within(t, l.page.done, "its end")
	}
	l.look()
	_, s := l.dial()
	ask[socketDetail](t, l.viewer, "watch", s.id)
	if err := h.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	select {
	case <-l.page.done:
	default:
		t.Error("the goroutine runs after Shutdown")
	}
	within(t, l.reason, "the viewer to be disconnected")
	if running() || h.sessions.taps.current.Load() != nil {
		t.Error("something is left")
	}
	if l.page.add(new(Socket)) {
		t.Error("a viewer is let in after Shutdown")
	}
}

// TestInspectLately: what is refused is kept although the log drops it, and names are harmless.
func TestInspectLately(t *testing.T) {
	h := newHub(t, Options{Limits: Limits{MessageBytes: 1 << 10}})
	l := inspect(t, h, nil)
	h.Use(func(s *Socket) error {
		if room := s.Handshake().URL().Query().Get("room"); room != "" {
			return Errorf("no place in %s", room)
		}
		return nil
	})
	for i, name := range hostileNames {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Origin": {name}}
		r.RemoteAddr = name
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if kept := h.log.lately.list(); w.Code != 403 || len(kept) != i+1 || !strings.Contains(kept[0].What, "refused") || kept[0].Hint == "" {
			t.Fatalf("%q: status %d, %d incidents: %+v", name, w.Code, len(kept), kept)
		}
	}
	l.look()
	c, _ := l.dial()
	mustWrite(t, c, opText, strings.Repeat("x", 2<<10))
	refused, _, err := Dial(context.Background(), "ws"+strings.TrimPrefix(strings.TrimSuffix(l.url, "/debug/atrium/"), "http")+"/?room=%3Cb%3E", DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer refused.CloseNow()
	rows := rowsOf[incident](l, view{List: listLately}, len(hostileNames)+2)
	texts := ""
	for _, row := range rows {
		texts += row.What + "|" + row.Detail + "|" + row.Remote + "\n"
		for _, text := range []string{row.What, row.Detail, row.Remote, row.Hint} {
			if text != printable(text, maxLogged) {
				t.Errorf("%q is shown", text)
			}
		}
	}
	for _, want := range []string{"disconnected a client: message too big|", "refused a client by a Use function|namespace: /, message: no place in <b>|"} {
		if !strings.Contains(texts, want) {
			t.Errorf("no %q among\n%s", want, texts)
		}
	}
	for i := range 3 * maxIncidents {
		h.log.lately.add("atrium: x", fmt.Sprint(i), slog.String("text", strings.Repeat("\U0001F469", 1<<10)))
	}
	if kept := h.log.lately.list(); len(kept) != maxIncidents || len(kept[0].Detail) > maxLogged+8 || kept[0].What != "x" {
		t.Errorf("%d incidents are kept, the last %+v", len(kept), kept[0])
	}
}

func TestInspectNodes(t *testing.T) {
	bus := new(MemoryBus)
	h, other := newHub(t, Options{Bus: bus}), newHub(t, Options{Bus: bus})
	other.Of("/elsewhere")
	eventually(t, "the nodes to know each other", func() bool { return len(h.Nodes().List()) == 1 && len(other.Nodes().List()) == 1 })
	l := inspect(t, h, nil)
	l.look()
	rows := rowsOf[nodeStats](l, view{List: listNodes}, 2)
	if rows[0].Node != h.node || !rows[0].Self || rows[1].Node != other.node || rows[1].Self || rows[0].Stats == nil || rows[1].Stats == nil {
		t.Errorf("the nodes are %+v", rows)
	}
	silent := &fakeNode{bus: bus, node: strings.Repeat("s", nodeIDLength)}
	silent.send(everyNode, clusterMessage{kind: clusterHello})
	rows = rowsOf[nodeStats](l, view{List: listNodes}, 3)
	if rows[2].Node != silent.node || rows[2].Stats != nil {
		t.Errorf("with one that is silent: %+v", rows)
	}
}
