package chatroom

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atrium-go/atrium"
)

// Rooms, socket ids and whatever else To takes are names in one space. Prefixes keep apart what is whose: a room that
// clients name is always behind public, so that no name that they could choose is a person's room or a socket's id.
const (
	public = "room:"   // the rooms that people talk in
	person = "person:" // all windows of one person; it tells the name wherever a socket's rooms are known: on every machine
)

func nameIn(rooms []string) string {
	for _, room := range rooms {
		if name, ok := strings.CutPrefix(room, person); ok {
			return name
		}
	}
	return ""
}

// board tells everyone which rooms there are, and the members of a room who is in it. Each node has one, and tells its own
// people, but of all nodes. Nobody waits for it: what changes while it asks the others is told next.
type board struct {
	hub *atrium.Hub

	mu      sync.Mutex      // guards:
	changed map[string]bool // the public rooms that are still to be told of
	stale   bool            // something has changed
	telling bool            // the goroutine exists
}

func newBoard(h *atrium.Hub) *board {
	b := &board{hub: h, changed: make(map[string]bool)}
	atrium.On(h.Nodes(), "changed", func(node string, rooms []string) error {
		b.update(rooms)
		return nil
	})
	return b
}

// change updates the boards of all nodes. Without a Bus this is the only one.
func (b *board) change(rooms ...string) {
	b.hub.Nodes().Emit("changed", rooms)
	b.update(rooms)
}

func (b *board) update(rooms []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stale = true
	for _, room := range rooms {
		if strings.HasPrefix(room, public) {
			b.changed[room] = true
		}
	}
	if !b.telling {
		b.telling = true
		go b.tell()
	}
}

func (b *board) tell() {
	for {
		b.mu.Lock()
		stale := b.stale
		b.telling = stale
		rooms := slices.Collect(maps.Keys(b.changed))
		clear(b.changed)
		b.stale = false
		b.mu.Unlock()
		if !stale {
			return
		}
		b.tellOf(rooms)
	}
}

func (b *board) tellOf(changed []string) {
	for _, room := range changed {
		people := make(map[string]string) // by socket id
		for _, s := range ask(b.hub.To(room).Sockets) {
			people[s.ID] = nameIn(s.Rooms)
		}
		b.hub.To(room).Local().Emit("people", map[string]any{"room": strings.TrimPrefix(room, public), "people": people})
	}
	rooms := []atrium.RoomInfo{}
	for _, room := range ask(b.hub.Rooms) {
		if name, ok := strings.CutPrefix(room.Name, public); ok {
			rooms = append(rooms, atrium.RoomInfo{Name: name, Sockets: room.Sockets})
		}
	}
	b.hub.Local().Emit("rooms", rooms)
}

// ask asks all nodes. It leaves out what a node does not answer within a second: if it is gone, its people are back soon.
func ask[T any](question func(context.Context) ([]T, error)) []T {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	answers, _ := question(ctx) // the error would name the nodes
	return answers
}
