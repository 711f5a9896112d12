package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// crowd lets many people in, each over a WebSocket of their own, and lets them talk. Who is in
// already just does more. It returns when the last word is acknowledged.
const crowd = `(async (url, people) => {
	window.crowd ??= new Map(); // name → call
	for (const { name, rooms, says } of people) {
		if (!crowd.has(name)) {
			const socket = new WebSocket(url, 'atrium');
			const waiting = new Map();
			let id = 0;
			const call = (event, data) => new Promise(done => { waiting.set(++id, done); socket.send(JSON.stringify({ event, data, id })); });
			await new Promise(done => {
				socket.onopen = () => socket.send(JSON.stringify({ event: 'connect', data: { name, password: 'atrium' } }));
				socket.onmessage = ({ data }) => {
					const message = JSON.parse(data);
					if (message.event === 'connect') done();
					else waiting.get(message.id)?.();
				};
			});
			crowd.set(name, call);
		}
		const call = crowd.get(name);
		for (const room of rooms ?? []) await call('join', { room });
		for (const [room, text] of says ?? []) await call('say', { room, text, key: Math.random().toString() });
	}
	return true;
})`

type person struct {
	Name  string      `json:"name"`
	Rooms []string    `json:"rooms"`
	Says  [][2]string `json:"says"`
}

// TestBusyChat fills the page with what is awkward to lay out: fifty rooms, long names, long
// words, emoji, text from right to left. Nothing may stick out. With ATRIUM_SCREENSHOTS set to a
// directory, it leaves pictures there.
func TestBusyChat(t *testing.T) {
	t.Parallel()
	s := start(t)
	shots := os.Getenv("ATRIUM_SCREENSHOTS")
	look := func(p *tab, name string) {
		t.Helper()
		for _, size := range []size{phone, laptop} {
			p.size(size)
			p.until(`innerWidth === ` + map[string]string{"phone": "360", "laptop": "1280"}[size.name])
			for _, scheme := range []string{"light", "dark"} {
				p.scheme(scheme)
				if over := read[int](p, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
					t.Errorf("%s on a %s: the page is %d pixels too wide", name, size.name, over)
				}
				if shots == "" {
					continue
				}
				picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
				if err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(shots, strings.Join([]string{name, size.name, scheme}, "-")+".png")
				if err := os.WriteFile(path, picture, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		p.size(laptop)
	}

	host := open(t, s.url)
	look(host, "sign-in")
	host.signIn("", "wrong")
	host.until(complains("#name", "name-error", "name"))
	look(host, "sign-in-refused")

	empty := enter(t, s, "Ada", "lobby")
	look(empty, "first")

	people := []person{
		{Name: "Grace Hopper", Rooms: []string{"garden", "library"}},
		{Name: "محمد الخوارزمي", Rooms: []string{"garden", "סלון"}},
		{Name: "Wolfeschlegelsteinhausen", Rooms: []string{"garden"}},
		{Name: "Zoë 🌿", Rooms: []string{"garden", "library"}},
		{Name: "עדה", Rooms: []string{"garden"}},
		{Name: "Alan", Rooms: []string{"garden"}},
		{Name: "Katherine Johnson", Rooms: []string{"garden"}},
	}
	rooms := []string{"donaudampfschifffahrtsgesellscha", "🪴 plants", "قاعة", "会议室", "two words", "UPPER"}
	for len(rooms) < 48 {
		rooms = append(rooms, "room "+string(rune('a'+len(rooms)%26))+string(rune('a'+len(rooms)/26)))
	}
	for some := range slices.Chunk(rooms, 16) {
		people = append(people, person{Name: "Keeper of " + some[len(some)-1], Rooms: some})
	}
	populate := func(people []person) {
		t.Helper()
		all, err := json.Marshal(people)
		if err != nil {
			t.Fatal(err)
		}
		read[bool](host, crowd+`(location.origin.replace('http', 'ws') + '/socket.io/', `+string(all)+`)`)
	}
	populate(people)

	ada := empty
	for _, room := range []string{"library", "garden"} {
		ada.fill("#room", room)
		ada.press("\r")
		ada.until(inRoom(room))
	}
	ada.until(`document.querySelectorAll('.room-link').length > 50 && document.querySelectorAll('.person').length === 8`)
	populate([]person{
		{Name: "Grace Hopper", Says: [][2]string{
			{"garden", "Has anyone watered the olive tree this week?"},
			{"garden", "It looks a little sad."},
		}},
		{Name: "Zoë 🌿", Says: [][2]string{{"garden", "I did, on Tuesday 🙂"}}},
	})
	ada.say("Once a week is plenty, as long as the soil is dry two fingers deep. I wrote down what the gardener told us:\n\n" +
		"• olive: once a week\n• lemon: twice, and never at noon\n• rosemary: forget about it")
	populate([]person{
		{Name: "محمد الخوارزمي", Says: [][2]string{{"garden", "شكراً لكِ! سأهتم بشجرة الليمون غداً صباحاً."}}},
		{Name: "Wolfeschlegelsteinhausen", Says: [][2]string{
			{"garden", "https://example.org/" + strings.Repeat("a-very-long-address-without-a-break/", 4)},
			{"garden", "That is " + strings.Repeat("really ", 24) + "long, sorry."},
		}},
		{Name: "עדה", Rooms: []string{"library"}, Says: [][2]string{{"garden", "👏👏🏽👩‍🌾"}, {"library", "שלום"}, {"library", "psst"}}},
	})
	ada.say("😀")
	ada.until(mine("😀", "sent"))
	ada.until(`[...document.querySelectorAll('#mine .unread')].some(e => e.textContent === '2 new')`)
	read[bool](host, `Promise.all(['Alan', 'עדה'].map(name => crowd.get(name)('typing', { room: 'garden', typing: true }))).then(() => true)`)
	ada.until(`document.querySelector('#typing').checkVisibility({visibilityProperty: true})`)
	look(ada, "busy")

	// The list of rooms on a phone, and the people of a room there.
	ada.size(phone)
	ada.click("#show-people")
	ada.until(`document.querySelector('#people').checkVisibility()`)
	ada.size(phone)
	look(ada, "people")
	ada.size(phone)
	ada.click("#back")
	ada.until(`document.querySelector('#mine').checkVisibility() && !document.querySelector('#conversation').checkVisibility()`)
	look(ada, "rooms")

	ada.tolerate = []string{"WebSocket connection to"} // refused, once the chat is gone
	host.tolerate = ada.tolerate
	ada.click(`#mine a[title="garden"]`)
	ada.until(inRoom("garden"))
	s.kill()
	ada.until(`document.querySelector('#offline').checkVisibility()`)
	ada.say("Are you still there?")
	ada.until(mine("Are you still there?", "waiting"))
	look(ada, "offline")
}
