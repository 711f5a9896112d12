package main

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

// person is a plain client of one node.
type person struct {
	t    *testing.T
	conn *atrium.Conn
	id   int
}

type message struct {
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

func enter(t *testing.T, n *node, name string) *person {
	t.Helper()
	url := "ws" + strings.TrimPrefix(n.url, "http") + "socket.io/"
	conn, _, err := atrium.Dial(t.Context(), url, &atrium.DialOptions{Subprotocols: []string{"atrium"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	p := &person{t: t, conn: conn}
	p.send("connect", map[string]string{"name": name, "password": "secret"})
	p.until("connect", func(json.RawMessage) bool { return true })
	p.send("join", map[string]string{"room": "lobby"})
	return p
}

func (p *person) send(event string, data any) {
	p.t.Helper()
	p.id++
	msg := map[string]any{"event": event, "data": data}
	if event != "connect" {
		msg["id"] = p.id
	}
	b, err := json.Marshal(msg)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.conn.Write(p.t.Context(), atrium.OpText, b); err != nil {
		p.t.Fatal(err)
	}
}

// until reads until an event is as wanted.
func (p *person) until(event string, wanted func(json.RawMessage) bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	for {
		_, b, err := p.conn.Read(ctx)
		if err != nil {
			p.t.Fatalf("waiting for %q: %v", event, err)
		}
		var m message
		if err := json.Unmarshal(b, &m); err != nil {
			p.t.Fatal(err)
		}
		if m.Event == event && wanted(m.Data) {
			return
		}
	}
}

// sees waits for the word that those are in the lobby.
func (p *person) sees(names ...string) {
	p.t.Helper()
	p.until("people", func(data json.RawMessage) bool {
		var in struct{ People map[string]string }
		return json.Unmarshal(data, &in) == nil && slices.Equal(slices.Sorted(maps.Values(in.People)), names)
	})
}

func (p *person) hears(text string) {
	p.t.Helper()
	p.until("said", func(data json.RawMessage) bool {
		var in struct{ Text string }
		return json.Unmarshal(data, &in) == nil && in.Text == text
	})
}

func TestThreeNodesAreOneChat(t *testing.T) {
	bus := atrium.NewMemoryBus()
	nodes := make([]*node, 3)
	for i := range nodes {
		n, err := start("127.0.0.1:0", "secret", bus)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.shutdown(context.Background()) })
		nodes[i] = n
	}
	ada, bob, cy := enter(t, nodes[0], "Ada"), enter(t, nodes[1], "Bob"), enter(t, nodes[2], "Cy")
	for _, p := range []*person{ada, bob, cy} {
		p.sees("Ada", "Bob", "Cy")
	}
	ada.send("say", map[string]string{"room": "lobby", "text": "hello"})
	bob.hears("hello")
	cy.hears("hello")

	if err := nodes[0].shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	bob.sees("Bob", "Cy")
	cy.sees("Bob", "Cy")
	cy.until("rooms", func(data json.RawMessage) bool {
		return string(data) == `[{"name":"lobby","sockets":2}]`
	})
}
