package guide

import "github.com/atrium-go/atrium"

// ChatMessage is what a client says.
type ChatMessage struct{ Room, Text string }

// MayJoin says who may be in a room.
type MayJoin func(user User, room string) bool

func handleRooms(h *atrium.Hub, mayJoin MayJoin) {
	// [rooms]
	atrium.On(h, "join", func(s *atrium.Socket, name string) error {
		user, _ := atrium.Value[User](s, "user")
		if !mayJoin(user, name) {
			return atrium.Errorf("room: you may not join it")
		}
		return s.Join("room:" + name)
	})
	atrium.On(h, "say", func(s *atrium.Socket, m ChatMessage) error {
		room := "room:" + m.Room
		if !s.In(room) {
			return atrium.Errorf("room: you are not in it")
		}
		return h.To(room).Emit("said", m)
	})
	// [end]
}
