package main

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

// person is a plain client of one node, and what it was told.
type person struct {
	t     *testing.T
	conn  *atrium.Conn
	asked int // the id of the last event sent

	answered int
	people   []string // in the lobby, by name
	said     []string
	rooms    string
}

func enter(t *testing.T, n *node, name string) *person {
	t.Helper()
	url := "ws" + strings.TrimPrefix(n.url(), "http") + "socket.io/"
	conn, _, err := atrium.Dial(t.Context(), url, atrium.DialOptions{Subprotocols: []string{"atrium"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	p := &person{t: t, conn: conn}
	p.write(map[string]any{"event": "connect", "data": map[string]string{"name": name, "password": "secret"}})
	p.ask("join", map[string]string{"room": "lobby"}) // from the answer on it hears what is said there, on any node
	return p
}

func (p *person) write(message map[string]any) {
	p.t.Helper()
	b, err := json.Marshal(message)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.conn.Write(p.t.Context(), atrium.MessageText, b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *person) ask(event string, data any) {
	p.t.Helper()
	p.asked++
	p.write(map[string]any{"event": event, "data": data, "id": p.asked})
	p.until("the answer to "+event, func() bool { return p.answered == p.asked })
}

// until reads until something is so.
func (p *person) until(what string, so func() bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	for !so() {
		_, b, err := p.conn.Read(ctx)
		if err != nil {
			p.t.Fatalf("waiting for %s: %v", what, err)
		}
		var m struct {
			ID    int
			Error json.RawMessage
			Event string
			Data  json.RawMessage
		}
		var people struct{ People map[string]string }
		var said struct{ Text string }
		err = json.Unmarshal(b, &m)
		switch {
		case m.Error != nil:
			p.t.Fatalf("%s", b)
		case m.ID != 0:
			p.answered = m.ID
		case m.Event == "people":
			err = json.Unmarshal(m.Data, &people)
			p.people = slices.Sorted(maps.Values(people.People))
		case m.Event == "said":
			err = json.Unmarshal(m.Data, &said)
			p.said = append(p.said, said.Text)
		case m.Event == "rooms":
			p.rooms = string(m.Data)
		}
		if err != nil {
			p.t.Fatalf("%s: %v", b, err)
		}
	}
}

func (p *person) sees(names ...string) {
	p.t.Helper()
	p.until("the sight of "+strings.Join(names, ", "), func() bool { return slices.Equal(p.people, names) })
}

func (p *person) hears(text string) {
	p.t.Helper()
	p.until("the words "+text, func() bool { return slices.Contains(p.said, text) })
}

func TestThreeNodesAreOneChat(t *testing.T) {
	bus := new(atrium.MemoryBus)
	nodes := make([]*node, 3)
	end := make([]func() error, 3) // of each node
	for i := range nodes {
		n, err := listen("127.0.0.1:0", "secret", bus)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- n.serve(ctx) }()
		nodes[i], end[i] = n, sync.OnceValue(func() error { stop(); return <-served })
		t.Cleanup(func() { end[i]() })
	}
	ada, bob, cy := enter(t, nodes[0], "Ada"), enter(t, nodes[1], "Bob"), enter(t, nodes[2], "Cy")
	for _, p := range []*person{ada, bob, cy} {
		p.sees("Ada", "Bob", "Cy")
	}
	ada.ask("say", map[string]string{"room": "lobby", "text": "hello"})
	bob.hears("hello")
	cy.hears("hello")

	if err := end[0](); err != nil {
		t.Error(err)
	}
	bob.sees("Bob", "Cy")
	cy.sees("Bob", "Cy")
	cy.until("the list of rooms", func() bool { return cy.rooms == `[{"name":"lobby","sockets":2}]` })
}
