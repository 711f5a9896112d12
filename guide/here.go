package guide

import (
	"context"
	"encoding/json"
	"log"
	"time"

	"github.com/atrium-go/atrium"
)

// [profile]

// Profile is what the members of a room see of a user there.
type Profile struct {
	Name   string `json:"name"`
	Typing bool   `json:"typing,omitempty"`
}

// [end]

// tellWhoIsHere registers what has to do with it.
func (a *app) tellWhoIsHere() {
	h := a.hub

	// [typing]
	atrium.On(h, "typing", func(s *atrium.Socket, typing bool) error {
		user, _ := atrium.Value[User](s, "user")
		return s.Present("room:lobby", "", Profile{user.Name, typing}) // in place of what it was
	})
	// [end]

	// [joined]
	h.OnPresence(func(room string, joined, left []atrium.Present) {
		for _, user := range joined {
			h.To(room).Local().Emit("note", profile(user).Name+" has come") // other nodes tell their members
		}
	})
	// [end]

	// [seen]
	seen := func(user string) {
		if err := a.users.Seen(context.Background(), user, time.Now()); err != nil {
			log.Printf("seen: %v", err)
		}
	}
	h.OnUserOnline(seen) // so that there is a time even if all nodes crash
	h.OnUserOffline(seen)
	// [end]

	atrium.OnCall(h, "people", func(s *atrium.Socket, room string) ([]string, error) {
		if !s.In("room:" + room) {
			return nil, atrium.Errorf("room: you are not in it")
		}
		return a.people("room:" + room), nil
	})
}

// [people]

// people lists who is in a room: each once, with however many devices.
func (a *app) people(room string) (names []string) {
	for _, user := range a.hub.Presence(room) {
		names = append(names, profile(user).Name)
	}
	return names
}

// profile returns what one of a user's devices has told: there is an info for each.
func profile(user atrium.Present) (p Profile) {
	_ = json.Unmarshal(user.Infos[0], &p) // which Present has made of a Profile
	return p
}

// [end]

// [online]

// online reports whether a user has a device connected, to any node.
func (a *app) online(ctx context.Context, id string) (bool, error) {
	n, err := a.hub.ToUser(id).Count(ctx) // with an error, those that have not answered are not counted
	return n > 0, err
}

// [end]

// watch prints who is in the lobby, in a Go client.
func watch(c *atrium.Client) {
	// [client]
	here := c.Presence("room:lobby")
	here.OnChange(func(users []atrium.Present) {
		log.Printf("%d here, %d of them listed", here.Count(), len(users))
	})
	// [end]
}
