package guide

import (
	"context"

	"github.com/atrium-go/atrium"
)

// [history]

// Entry is a message as the store has it. The store gives it its ID.
type Entry struct {
	ID   int64  `json:"id,string"` // a string: JavaScript's numbers end at 2^53
	Room string `json:"room"`
	Text string `json:"text"`
}

// Store keeps messages.
type Store interface {
	Add(ctx context.Context, e Entry) (Entry, error)
	Since(ctx context.Context, room string, id int64) ([]Entry, error) // those with greater IDs, in order
}

func handleHistory(h *atrium.Hub, store Store) {
	// Join first, then read: what is stored before the read is in the answer, and what is emitted
	// after the join comes as an event. A message may be both, never neither.
	atrium.OnCall(h, "enter", func(s *atrium.Socket, from struct {
		Room string
		ID   int64 `json:",string"` // the last that the client has; "0" for all
	}) ([]Entry, error) {
		room := "room:" + from.Room // and decide who may join
		if err := s.Join(room); err != nil {
			return nil, err
		}
		return store.Since(s.Context(), from.Room, from.ID)
	})
	// Store first, then emit.
	atrium.OnCall(h, "post", func(s *atrium.Socket, m ChatMessage) (Entry, error) {
		room := "room:" + m.Room
		if !s.In(room) {
			return Entry{}, atrium.Errorf("room: you are not in it")
		}
		entry, err := store.Add(s.Context(), Entry{Room: m.Room, Text: m.Text})
		if err != nil {
			return Entry{}, err
		}
		return entry, h.To(room).Emit("posted", entry)
	})
}

// [end]
