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

// To takes names of rooms and ids of sockets: they share one name space. A prefix separates them:
// the name of a room that a client has chosen always follows public, so that no client can name a
// person's room or the id of a socket.
const (
	public = "room:"   // of the rooms that people talk in
	person = "person:" // of the room with all windows of one person; every node gets the name from it
)

func nameIn(rooms []string) string {
	for _, room := range rooms {
		if name, ok := strings.CutPrefix(room, person); ok {
			return name
		}
	}
	return ""
}

// board tells all clients which rooms there are, and the members of a room who is in it. Each node
// has a board, which asks all nodes and tells the clients of its own. Nobody waits for it: a change
// while it asks is told in the next round.
type board struct {
	hub *atrium.Hub

	mu      sync.Mutex      // guards:
	changed map[string]bool // public rooms whose members have not been told yet
	stale   bool            // there was a change since the last round
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

// change updates the boards of all nodes; without a Bus, of this one.
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

// ask asks all nodes for up to a second. It omits nodes that do not respond: the clients of a node
// that is gone are back soon.
func ask[T any](question func(context.Context) ([]T, error)) []T {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	answers, _ := question(ctx) // the error would name the nodes
	return answers
}
