package atrium_test

import (
	"log"
	"net/http"
	"time"

	"github.com/atrium-go/atrium"
)

// Socket.IO clients that were cut off for up to two minutes go on where they were.
func ExampleOptions_recovery() {
	h := atrium.New(atrium.Options{Recovery: atrium.Recovery{MaxDisconnection: 2 * time.Minute}})
	h.OnConnect(func(s *atrium.Socket) {
		if s.Recovered() {
			return // it is in its rooms, and has what was said there meanwhile
		}
		_ = s.Join("news")
		_ = s.Emit("welcome")
	})
	http.Handle("/socket.io/", h)
	log.Fatal(http.ListenAndServe("localhost:3000", nil))
}
