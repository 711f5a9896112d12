package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/atrium-go/atrium"
)

// TestEveryKindOfClientInTheChat: Ada has the chat's page, and so client.js, Ben has Socket.IO's
// client in Node, and Cleo a plain WebSocket. They are in one room, and all hear all.
func TestEveryKindOfClientInTheChat(t *testing.T) {
	t.Parallel()
	s := start(t)
	ada := enter(t, s, "Ada", "lobby")
	cleo := comePlain(t, s, "Cleo", "lobby")
	ben := node(t, "socketio-chat.mjs", s.url)
	said := make(chan string, 1)
	go func() {
		out, err := ben.Output()
		said <- fmt.Sprintf("%s%v", out, err)
	}()
	ada.until(isHere("Ada", "Ben", "Cleo"))
	ada.until(shows("Hello from Socket.IO"))
	cleo.hears("Ben", "Hello from Socket.IO")

	ada.say("Hello from client.js")
	ada.until(mine("Hello from client.js", "sent"))
	cleo.hears("Ada", "Hello from client.js")
	ada.until(shows("Ada said: Hello from client.js"))
	cleo.hears("Ben", "Ada said: Hello from client.js")

	cleo.say("Hello from a WebSocket")
	ada.until(shows("Hello from a WebSocket"))
	ada.until(shows("Cleo said: Hello from a WebSocket"))
	cleo.hears("Ben", "Cleo said: Hello from a WebSocket")

	ada.until(isHere("Ada", "Cleo"))
	if got := <-said; got != "ok\n<nil>" {
		t.Errorf("Ben: %s", got)
	}
}

// plainUser is somebody in the chat with a plain WebSocket.
type plainUser struct {
	t    *testing.T
	room string
	conn *atrium.Conn
}

func comePlain(t *testing.T, s *server, name, room string) *plainUser {
	t.Helper()
	c, _, err := atrium.Dial(t.Context(), "ws://"+s.addr+"/socket.io/", atrium.DialOptions{Subprotocols: []string{"atrium"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseNow() })
	g := &plainUser{t, room, c}
	g.send("connect", map[string]string{"name": name, "password": password})
	g.send("join", map[string]string{"room": room})
	return g
}

func (g *plainUser) send(event string, data any) {
	g.t.Helper()
	message, err := json.Marshal(map[string]any{"event": event, "data": data})
	if err == nil {
		err = g.conn.Write(g.t.Context(), atrium.MessageText, message)
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *plainUser) say(text string) {
	g.t.Helper()
	g.send("say", map[string]string{"room": g.room, "text": text, "key": text})
}

// hears fails the test unless this is the next that is said.
func (g *plainUser) hears(from, text string) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), patience)
	defer cancel()
	var m struct {
		Event string
		Data  json.RawMessage
	}
	for m.Event != "said" {
		_, message, err := g.conn.Read(ctx)
		if err == nil {
			err = json.Unmarshal(message, &m)
		}
		if err != nil {
			g.t.Fatalf("waiting for %q: %v", text, err)
		}
	}
	var got struct{ From, Text string }
	if err := json.Unmarshal(m.Data, &got); err != nil || got.From != from || got.Text != text {
		g.t.Fatalf("heard %s (%v), want %q from %s", m.Data, err, text, from)
	}
}

const socketIOClient = "node_modules/socket.io-client/dist"

// come opens the page of the Socket.IO example and enters its lobby.
func come(t *testing.T, s *server, name string) *tab {
	t.Helper()
	p := open(t, s.url)
	p.comeIn(name, password)
	p.until(`document.querySelector('#write').checkVisibility() && document.querySelector('#state').textContent === 'online'`)
	return p
}

func (p *tab) comeIn(name, token string) {
	p.t.Helper()
	p.fill("#name", name)
	p.fill("#token", token)
	p.click("#enter button")
}

func logs(line string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('#log li')].some((item) => item.textContent === %s)`, js(line))
}

func TestSocketIOExample(t *testing.T) {
	t.Parallel()
	s := run(t, binary(t, buildSocketIO), "-client", socketIOClient, "-addr", quietAddr(t))
	ada := open(t, s.url)
	ada.comeIn("Ada", "sesame")
	ada.until(`document.querySelector('#wrong').textContent === 'Auth failed'`)
	ada.comeIn("Ada", password)
	ada.until(`document.querySelector('#state').textContent === 'online' && document.querySelector('#wrong').textContent === ''`)
	ben := come(t, s, "Ben")
	ada.until(logs("Ben is here"))
	ben.say("Hello <b>Ada</b> 🌿")
	for _, p := range []*tab{ada, ben} {
		p.until(logs("Ben: Hello <b>Ada</b> 🌿"))
		for _, size := range []size{phone, laptop} {
			p.size(size)
			if over := read[int](p, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
				t.Errorf("on a %s the page is %d pixels too wide", size.name, over)
			}
		}
	}
	ada.fill("#text", "Hm")
	ben.until(`document.querySelector('#typing').textContent === 'Ada is typing…'`)
	ada.say(" ")
	ada.until(`document.querySelector('#wrong').textContent === 'Invalid'`)

	ada.tolerate = []string{"WebSocket connection to", "Failed to load resource"}
	ben.tolerate = ada.tolerate
	s.kill()
	ada.until(`document.querySelector('#state').textContent === 'offline: transport close'`)
	ada.say("Still there?") // and it stays where it was written
	run(t, binary(t, buildSocketIO), "-client", socketIOClient, "-addr", s.addr)
	for _, p := range []*tab{ada, ben} {
		p.until(`document.querySelector('#state').textContent === 'online'`)
	}
	ada.press("\r")
	ben.until(logs("Ada: Still there?"))

	ada.close()
	ben.until(logs("Ada has gone"))
}

// TestSocketIOExampleWithoutClient: the page says what is missing, and how to get it.
func TestSocketIOExampleWithoutClient(t *testing.T) {
	t.Parallel()
	s := run(t, binary(t, buildSocketIO), "-client", t.TempDir())
	p := open(t, s.url)
	p.tolerate = []string{"Failed to load resource", "Refused to execute script"}
	p.until(`document.querySelector('#missing').checkVisibility() && !document.querySelector('#enter').checkVisibility()`)
	if text := read[string](p, `document.querySelector('#missing').innerText`); !strings.Contains(text, "npm install socket.io-client") {
		t.Errorf("the page says %q", text)
	}
}

// TestTabCloses: a page that is closed says nothing to the server; its browser ends the
// connections.
func TestTabCloses(t *testing.T) {
	t.Parallel()
	for transports, want := range map[string]string{"polling": "transport error", "websocket": "transport close"} {
		t.Run(transports, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			p := open(t, l.url+"/")
			p.tolerate = []string{"request to another host: http://127.0.0.1:", "request to another host: ws://127.0.0.1:"}
			p.until(`window.io !== undefined`)
			id := read[string](p, `new Promise(async (done) => {
				const { url } = await (await fetch('/lab/start', { method: 'POST' })).json();
				const socket = io(url, { auth: { token: 'ok' }, transports: [`+js(transports)+`] });
				socket.on('connect', () => socket.emit('echo', () => done(socket.id)));
			})`)
			p.close()
			if got := l.hubs[0].left(id); fmt.Sprint(got) != fmt.Sprint(map[string]string{"reason": want}) {
				t.Errorf("the server saw %v, want %s", got, want)
			}
		})
	}
}
