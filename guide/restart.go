package guide

import (
	"time"

	"github.com/atrium-go/atrium"
)

// [restart]

// newChat makes a hub that goes on where the one before it has ended.
func newChat(stateDir string) *atrium.Hub {
	h := atrium.New(atrium.Options{Recovery: atrium.Recovery{
		MaxDisconnection: 2 * time.Minute,
		Path:             stateDir + "/chat.state", // written by Shutdown, read by New
	}})
	h.OnExpire(func(s *atrium.Socket) { // it is not coming back, to this process or the next
		user, _ := atrium.Value[User](s, "user") // decoded, after a restart
		_ = h.To("lobby").Emit("gone", user.Name)
	})
	return h
}

// [end]
