package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/atrium-go/atrium"
	"github.com/chromedp/chromedp"
)

// present is what a client of the lab asks to be in a room.
type present struct {
	Room string `json:"room"`
	Key  string `json:"key"`
	Info any    `json:"info"`
}

// house is a hub of the lab with a room of which people keep who is there.
type house struct {
	*lab
	*labHub
	url, proxied string
}

func openHouse(t *testing.T, options string) *house {
	t.Helper()
	l := newLab(t)
	started, ok := l.start(httptest.NewRequest("POST", "/lab/start?"+options, nil)).(map[string]any)
	if !ok {
		t.Fatal("the lab has no hub")
	}
	return &house{l, l.hubs[0], started["url"].(string), started["proxied"].(string)}
}

// attend opens a tab in which somebody is in the room, as its page says with client.js.
func (h *house) attend(address, key string, info any) *tab {
	p := openClient(h.lab.t, h.lab)
	p.attend(address, key, info)
	return p
}

// attend is what the page does whenever it is loaded. It keeps the story of the events: "all" for
// the state, +Ada for who has joined, ~Ada for who has changed, -Ada for who has left.
func (p *tab) attend(address, key string, info any) {
	p.t.Helper()
	who, _ := json.Marshal(present{"r", key, info})
	read[bool](p, fmt.Sprintf(`(() => {
		window.socket = connect(%s, { auth: { token: 'ok' }, reconnect: { min: 20, max: 200 } });
		window.here = socket.presence('r');
		window.told = [];
		here.onchange = (list) => told.push(list === here.list && list.length === here.count);
		window.story = [];
		socket.on('presence', ({ state, joined = [], changed = [], left = [] }) => story.push(...(state ? ['all'] : []),
			...joined.map(({ key }) => '+' + key), ...changed.map(({ key }) => '~' + key), ...left.map((key) => '-' + key)));
		window.enters = true;
		socket.on('connect', () => socket.recovered || enters && socket.emit('present', %s));
		window.sees = () => here.list.map(({ key, infos }) => key + JSON.stringify(infos)).join(' ');
		return true;
	})()`, js(address+"/socket.io/"), who))
}

// sees waits until the tab's list is that, written as "Ada[1,2] Ben[1]".
func (p *tab) sees(list string) {
	p.t.Helper()
	p.until(`sees() === ` + js(list))
	if !read[bool](p, `told.length > 0 && told.every(Boolean)`) {
		p.t.Error("onchange was not called with the list")
	}
}

// story returns the tab's, and begins it anew.
func (p *tab) story() string {
	p.t.Helper()
	return read[string](p, `story.splice(0).join(' ')`)
}

// TestPresenceInTabs: two tabs of Ada are one Ada, until both are closed.
func TestPresenceInTabs(t *testing.T) {
	t.Parallel()
	h := openHouse(t, "grace=50")
	eve := h.attend(h.url, "Eve", 0)
	eve.sees("Eve[0]")
	eve.story()
	one := h.attend(h.url, "Ada", 1)
	eve.sees("Ada[1] Eve[0]")
	two := h.attend(h.url, "Ada", 2)
	for _, p := range []*tab{eve, one, two} {
		p.sees("Ada[1,2] Eve[0]")
	}
	one.close()
	for _, p := range []*tab{eve, two} {
		p.sees("Ada[2] Eve[0]")
	}
	two.close()
	eve.sees("Eve[0]")
	if got := eve.story(); got != "+Ada ~Ada ~Ada -Ada" {
		t.Errorf("Eve was told %q", got)
	}
	if got := read[string](eve, `(here.close(), socket.emit('present', { room: 'r', key: 'Eve', info: 1 }),
		new Promise((done) => socket.on('presence', () => done(sees()))))`); got != "Eve[0]" {
		t.Errorf("a list that was closed has become %q", got)
	}
}

// TestPresenceOfReloadedPage: for the others, a page that is loaded anew has not gone and not come.
func TestPresenceOfReloadedPage(t *testing.T) {
	t.Parallel()
	h := openHouse(t, "grace=600000") // however long that takes
	eve := h.attend(h.url, "Eve", 0)
	ada := h.attend(h.url, "Ada", 1)
	for _, p := range []*tab{eve, ada} {
		p.sees("Ada[1] Eve[0]")
	}
	eve.story()
	for load := 2; load < 5; load++ {
		id := read[string](ada, `socket.id`)
		ada.do("reload", chromedp.Reload())
		ada.until(`window.run !== undefined`)
		if wrong, bad := h.left(id).(error); bad {
			t.Fatal(wrong)
		}
		ada.attend(h.url, "Ada", load)
		for _, p := range []*tab{eve, ada} {
			p.sees(fmt.Sprintf("Ada[%d] Eve[0]", load))
		}
	}
	if got := eve.story(); got != "~Ada ~Ada ~Ada" {
		t.Errorf("Eve was told %q", got)
	}
}

// TestPresenceAfterCut: a tab whose network was away has the truth again, whether the hub has kept
// its socket or not.
func TestPresenceAfterCut(t *testing.T) {
	t.Parallel()
	for recovery, options := range map[bool]string{true: "grace=50&recovery=600000", false: "grace=50"} {
		t.Run(fmt.Sprint("recovery ", recovery), func(t *testing.T) {
			t.Parallel()
			h := openHouse(t, options)
			ada := h.attend(h.proxied, "Ada", 0)
			ben := h.attend(h.url, "Ben", 1)
			cleo := h.attend(h.url, "Cleo", 1)
			for _, p := range []*tab{ada, ben, cleo} {
				p.sees("Ada[0] Ben[1] Cleo[1]")
			}
			ada.story()
			h.proxy.down()
			ben.sees("Ben[1] Cleo[1]")
			cleo.close()
			dan := h.attend(h.url, "Dan", 1)
			read[bool](ben, `socket.emit('present', { room: 'r', key: 'Ben', info: 2 })`)
			dan.sees("Ben[2] Dan[1]")
			if got := read[string](ada, `sees()`); got != "Ada[0] Ben[1] Cleo[1]" {
				t.Errorf("without a connection Ada's list is %q, want what it was last", got)
			}

			if err := h.proxy.listen(h.proxy.target); err != nil {
				t.Fatal(err)
			}
			for _, p := range []*tab{ada, ben, dan} {
				p.sees("Ada[0] Ben[2] Dan[1]")
			}
			if got := read[bool](ada, `socket.recovered`); got != recovery {
				t.Errorf("recovered: %v", got)
			}
			if got := ada.story(); !strings.HasPrefix(got, "all") {
				t.Errorf("back again, Ada was told %q, want all before what changes", got)
			}
			read[bool](ben, `socket.emit('present', { room: 'r', key: 'Ben', info: 3 })`)
			ada.sees("Ada[0] Ben[3] Dan[1]")
		})
	}
}

// TestPresenceOfOutsider: a tab that is back, and not in the room any more, sees nobody there.
func TestPresenceOfOutsider(t *testing.T) {
	t.Parallel()
	h := openHouse(t, "grace=50")
	ada := h.attend(h.proxied, "Ada", 0)
	ben := h.attend(h.url, "Ben", 0)
	for _, p := range []*tab{ada, ben} {
		p.sees("Ada[0] Ben[0]")
	}
	read[bool](ada, `(enters = false, true)`)
	h.proxy.down()
	ben.sees("Ben[0]")
	if err := h.proxy.listen(h.proxy.target); err != nil {
		t.Fatal(err)
	}
	ada.sees("")
	read[bool](ada, `(enters = true, socket.close().connect(), true)`)
	for _, p := range []*tab{ada, ben} {
		p.sees("Ada[0] Ben[0]")
	}
}

// TestPresenceAfterRestart: a hub that starts anew knows nobody, and tells who has come back.
func TestPresenceAfterRestart(t *testing.T) {
	t.Parallel()
	h := openHouse(t, "recovery=600000")
	ada := h.attend(h.proxied, "Ada", 0)
	ben := h.attend(h.proxied, "Ben", 0)
	cleo := h.attend(h.url, "Cleo", 0) // who does not come to the next one
	for _, p := range []*tab{ada, ben, cleo} {
		p.sees("Ada[0] Ben[0] Cleo[0]")
	}
	cleo.close()
	h.proxy.down()
	h.kill()
	addr, err := h.begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.proxy.listen(addr); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*tab{ada, ben} {
		p.sees("Ada[0] Ben[0]")
	}
	read[bool](ben, `socket.emit('present', { room: 'r', key: 'Ben', info: 1 })`)
	for _, p := range []*tab{ada, ben} {
		p.sees("Ada[0] Ben[1]")
	}
}

// TestPresenceGap: client.js notices that a change is missing, and asks for all.
func TestPresenceGap(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := atrium.Upgrade(w, r, atrium.UpgradeOptions{AllowedOrigins: []string{l.url}})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		say := func(messages ...string) {
			for _, m := range messages {
				c.Write(r.Context(), atrium.MessageText, []byte(m)) // if it fails, so does Read
			}
		}
		say(`0{"pingInterval":25000,"pingTimeout":20000}`)
		for {
			switch _, b, err := c.Read(r.Context()); {
			case err != nil:
				return
			case strings.HasPrefix(string(b), "40"):
				say(`40{"sid":"x"}`,
					`42["presence",{"room":"r","version":6,"joined":[{"key":"Nobody","infos":[0]}]}]`, // of what was before
					`42["presence",{"room":"r","version":7,"state":[{"key":"Ada","infos":[1]}]}]`,
					`42["presence",{"room":"other","version":1,"state":[]}]`,
					`42["presence",{"room":"r","version":8,"joined":[{"key":"Ben","infos":[1]}]}]`,
					`42["presence",{"room":"r","version":10,"left":["Ada"]}]`,
					`42["presence",{"room":"r","version":11,"joined":[{"key":"Nobody","infos":[0]}]}]`)
			case strings.HasSuffix(string(b), `["presence",{"room":"r"}]`):
				if asked++; asked == 1 { // as it is connected
					continue
				}
				say(`42["presence",{"room":"r","version":11,"state":[{"key":"Cleo","infos":[1]}],"part":0,"parts":2}]`,
					`42["presence",{"room":"r","version":11,"state":[{"key":"Dan","infos":[1]}],"part":1,"parts":2}]`,
					`42["presence",{"room":"r","version":12,"left":["Dan"]}]`)
			}
		}
	}))
	t.Cleanup(srv.Close)
	p := openClient(t, l)
	p.attend(srv.URL, "", 0)
	p.sees("Cleo[1]")
	if got := p.story(); got != "+Nobody all all +Ben -Ada +Nobody all all -Dan" {
		t.Errorf("the page was told %q", got)
	}
	if got := read[int](p, `told.length`); got != 4 {
		t.Errorf("its list changed %d times, want 4: once for all parts together", got)
	}
	read[bool](p, `(socket.close(), true)`)
}

// presenceEvent is the data of the event, as doc.go says.
type presenceEvent struct {
	Room                   string
	Version                int
	State, Joined, Changed []atrium.Present
	Part, Parts            int
	Left                   []string
}

// keepers are people in a room, each with another kind of client, who keep who is there.
type keepers struct {
	*house
	page *tab

	mu    sync.Mutex // guards:
	lists map[string]string
}

// note notes a list. An info that is a string is written as its length.
func (k *keepers) note(name string, list []atrium.Present) {
	var people []string
	for _, person := range list {
		infos := make([]string, len(person.Infos))
		for i, info := range person.Infos {
			if infos[i] = string(info); infos[i][0] == '"' {
				infos[i] = fmt.Sprint(len(infos[i]) - len(`""`))
			}
		}
		people = append(people, person.Key+"["+strings.Join(infos, ",")+"]")
	}
	slices.Sort(people)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lists[name] = strings.Join(people, " ")
}

// see waits until all keep that list: of those people, and the crowd.
func (k *keepers) see(crowd []string, people ...string) {
	k.page.t.Helper()
	want := strings.Join(slices.Sorted(slices.Values(slices.Concat(crowd, people))), " ")
	k.page.until(`here.list.map(({ key, infos }) => key + '[' + infos.map((info) => info.length ?? info) + ']').join(' ') === ` + js(want))
	for _, name := range []string{"Plain", "Node", "Go"} {
		waitUntil(k.page.t, name+" sees "+want, func() bool {
			k.mu.Lock()
			defer k.mu.Unlock()
			return k.lists[name] == want
		})
	}
}

// plain keeps the list with a WebSocket, as doc.go says.
func (k *keepers) plain() {
	t := k.page.t
	c, _, err := atrium.Dial(t.Context(), strings.Replace(k.url, "http", "ws", 1)+"/socket.io/", atrium.DialOptions{Subprotocols: []string{"atrium"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	send := func(event string, data any) {
		b, _ := json.Marshal(map[string]any{"event": event, "data": data})
		if err := c.Write(t.Context(), atrium.MessageText, b); err != nil {
			t.Error(err)
		}
	}
	send("connect", map[string]string{"token": "ok"})
	send("present", present{"r", "Plain", 1})
	go func() {
		people, version := make(map[string]atrium.Present), -1
		for {
			_, b, err := c.Read(t.Context())
			if err != nil {
				return
			}
			var m struct {
				Event string
				Data  presenceEvent
			}
			if err := json.Unmarshal(b, &m); err != nil {
				t.Error(err)
			}
			e := m.Data
			switch {
			case m.Event != "presence" || e.Room != "r":
				continue
			case e.State != nil:
				if e.Part == 0 {
					clear(people)
				}
			case e.Version != version+1:
				t.Errorf("version %d follows %d", e.Version, version)
			}
			version = e.Version
			for _, person := range slices.Concat(e.State, e.Joined, e.Changed) {
				people[person.Key] = person
			}
			for _, key := range e.Left {
				delete(people, key)
			}
			if e.Part+1 < e.Parts {
				continue
			}
			list := make([]atrium.Present, 0, len(people))
			for _, person := range people {
				list = append(list, person)
			}
			k.note("Plain", list)
		}
	}()
}

// node keeps it with Socket.IO's own client, as SOCKETIO.md says.
func (k *keepers) node() {
	t := k.page.t
	program := node(t, "socketio-presence.mjs", k.url, "r", "Node", "1")
	in, wrongIn := program.StdinPipe()
	out, wrongOut := program.StdoutPipe()
	if err := errors.Join(wrongIn, wrongOut, program.Start()); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for lines := json.NewDecoder(out); ; {
			var list []atrium.Present
			if lines.Decode(&list) != nil {
				return // the program has ended
			}
			k.note("Node", list)
		}
	})
	t.Cleanup(func() {
		in.Close()
		reading.Wait()
		if err := program.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// client connects a Go client.
func (k *keepers) client() *atrium.Client {
	c := atrium.NewClient(k.url, atrium.ClientOptions{Auth: token})
	k.page.t.Cleanup(func() { c.Close() })
	connect(k.page.t, c)
	return c
}

// TestPresenceForEveryKindOfClient: client.js, npm's socket.io-client, a plain WebSocket and the Go
// client keep one list, of so many people that it comes in parts.
func TestPresenceForEveryKindOfClient(t *testing.T) {
	t.Parallel()
	h := openHouse(t, "grace=50")
	k := &keepers{house: h, page: h.attend(h.url, "Page", 1), lists: make(map[string]string)}
	emit := func(c *atrium.Client, key string, info any) {
		t.Helper()
		if err := c.Emit("present", present{"r", key, info}); err != nil {
			t.Fatal(err)
		}
	}
	var crowd []string
	var last *atrium.Client
	for i := range 80 {
		last = k.client()
		key := fmt.Sprintf("crowd %02d", i)
		emit(last, key, strings.Repeat("x", 4000))
		crowd = append(crowd, key+"[4000]")
	}
	k.plain()
	k.node()
	golang := k.client()
	golang.Presence("r").OnChange(func(list []atrium.Present) { k.note("Go", list) })
	emit(golang, "Go", 1)
	k.see(crowd, "Go[1]", "Node[1]", "Page[1]", "Plain[1]")

	emit(last, "Latest", 1)
	k.see(crowd[:79], "Go[1]", "Latest[1]", "Node[1]", "Page[1]", "Plain[1]")
	again := k.attend(k.url, "Page", 2)
	k.see(crowd[:79], "Go[1]", "Latest[1]", "Node[1]", "Page[1,2]", "Plain[1]")
	again.close()
	last.Close()
	k.see(crowd[:79], "Go[1]", "Node[1]", "Page[1]", "Plain[1]")
}
