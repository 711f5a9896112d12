package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/examples/chat/chatroom"
)

// person is a client of one node.
type person struct {
	t      *testing.T
	client *atrium.Client
	rooms  *atrium.ClientPresence // everyone, with the rooms that they are in
	lobby  *atrium.ClientPresence // who is in the lobby, with whether they are typing
	news   chan struct{}          // something has changed

	mu   sync.Mutex // guards:
	said []string
}

func enter(t *testing.T, n *node, name string) *person {
	t.Helper()
	c := atrium.NewClient(n.url(), atrium.ClientOptions{Auth: chatroom.SignIn{Name: name, Password: "secret"}})
	t.Cleanup(func() { c.Close() })
	p := &person{t: t, client: c, rooms: c.Presence("everyone"), lobby: c.Presence("#lobby"), news: make(chan struct{}, 1)}
	changed := func([]atrium.Present) { p.notify() }
	p.rooms.OnChange(changed)
	p.lobby.OnChange(changed)
	atrium.On(c, "said", func(_ *atrium.Client, m chatroom.Message) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.said = append(p.said, m.Text)
		p.notify()
		return nil
	})
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.ask("join", chatroom.Room{Room: "lobby"}) // from the answer on it hears what is said there, on any node
	return p
}

func (p *person) notify() {
	select {
	case p.news <- struct{}{}:
	default:
	}
}

func (p *person) ask(event string, data any) {
	p.t.Helper()
	if _, err := atrium.Call[any](p.t.Context(), p.client, event, data); err != nil {
		p.t.Fatalf("%s: %v", event, err)
	}
}

// until waits until what is seen is what is wanted.
func (p *person) until(want string, seen func() string) {
	p.t.Helper()
	late := time.After(20 * time.Second)
	for seen() != want {
		select {
		case <-p.news:
		case <-late:
			p.t.Fatalf("%s sees %q, want %q", p.client.ID(), seen(), want)
		}
	}
}

// sees waits until a list has these people, written as Ada[info info].
func (p *person) sees(list *atrium.ClientPresence, want string) {
	p.t.Helper()
	p.until(want, func() string {
		var people []string
		for _, one := range list.List() {
			people = append(people, fmt.Sprintf("%s%s", one.Key, one.Infos))
		}
		return strings.Join(people, " ")
	})
}

func (p *person) hears(texts ...string) {
	p.t.Helper()
	p.until(strings.Join(texts, ", "), func() string {
		p.mu.Lock()
		defer p.mu.Unlock()
		return strings.Join(p.said, ", ")
	})
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
	const silent, typing = `{"typing":false}`, `{"typing":true}`
	for _, p := range []*person{ada, bob, cy} {
		p.sees(p.lobby, "Ada["+silent+"] Bob["+silent+"] Cy["+silent+"]")
	}

	// Ada comes to another node, too. She is one person, who is typing there.
	again := enter(t, nodes[2], "Ada")
	again.ask("typing", chatroom.Typing{Room: "lobby", Typing: true})
	for _, p := range []*person{ada, bob, cy} {
		p.sees(p.lobby, "Ada["+silent+" "+typing+"] Bob["+silent+"] Cy["+silent+"]")
	}
	again.client.Close()
	bob.sees(bob.lobby, "Ada["+silent+"] Bob["+silent+"] Cy["+silent+"]")

	bob.ask("join", chatroom.Room{Room: "kitchen"})
	ada.sees(ada.rooms, `Ada[["#lobby","everyone"]] Bob[["#kitchen","#lobby","everyone"]] Cy[["#lobby","everyone"]]`)

	ada.ask("say", chatroom.Message{Room: "lobby", Text: "hello"})
	bob.hears("hello")
	cy.hears("hello")

	// Her node goes, and with it she does.
	if err := end[0](); err != nil {
		t.Error(err)
	}
	bob.sees(bob.lobby, "Bob["+silent+"] Cy["+silent+"]")
	cy.sees(cy.rooms, `Bob[["#kitchen","#lobby","everyone"]] Cy[["#lobby","everyone"]]`)
}
