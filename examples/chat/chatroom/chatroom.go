// Package chatroom is a chat with rooms, ticks and "is typing". It is the tutorial of atrium: read
// this file from top to bottom. Two programs run it: examples/chat on one machine, examples/cluster
// on many. Its client is page/chat.js.
package chatroom

import (
	"crypto/subtle"
	"embed"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/atrium-go/atrium"
)

// 1. Messages are plain structs. If one has a Validate method, atrium calls it before your handler
// and sends the error to the client that sent the message, so that a handler only gets valid data.
type (
	SignIn  struct{ Name, Password string }
	Room    struct{ Room string }
	Message struct {
		Room string    `json:"room"`
		Text string    `json:"text"`
		Key  string    `json:"key"`  // made by the sender: a message sent again is shown once
		From string    `json:"from"` // From and At are set by the server
		At   time.Time `json:"at"`
	}
)

func (s SignIn) Validate() error  { return check("name", s.Name, 24) }
func (r Room) Validate() error    { return check("room", r.Room, 32) }
func (m Message) Validate() error { return check("message", m.Text, 2000) }

// An *atrium.Error may have Data besides its message. Here it names the input that the page
// highlights.
func check(field, text string, most int) error {
	if n := utf8.RuneCountInString(text); n > most {
		return &atrium.Error{Message: fmt.Sprintf("Too long: %d characters, at most %d fit.", n, most), Data: field}
	} else if strings.TrimSpace(text) == "" {
		return &atrium.Error{Message: "Please enter a " + field + ".", Data: field}
	}
	return nil
}

// New returns the chat's hub, which accepts clients that know the password.
func New(password string, options atrium.Options) *atrium.Hub {
	h := atrium.New(options)
	nameOf := func(s *atrium.Socket) string { name, _ := atrium.Value[string](s, "name"); return name }
	board := newBoard(h) // of who is where

	// 2. A Use function runs before the client is connected; an error refuses the client. The
	// client gets the message of an *atrium.Error. Any other error is logged, and the client gets
	// "internal error".
	h.Use(func(s *atrium.Socket) error {
		var in SignIn
		if err := s.Handshake().Bind(&in); err != nil {
			return err
		}
		if subtle.ConstantTimeCompare([]byte(in.Password), []byte(password)) == 0 {
			return atrium.Errorf("Auth failed")
		}
		s.Set("name", in.Name) // stays with the socket; atrium.Value reads it back
		return s.Join(person + in.Name)
	})

	// 3. The functions of one socket run in order, one at a time: Use, OnConnect, its events,
	// OnDisconnect. With Options.Recovery a client that comes back is in its rooms already.
	h.OnConnect(func(s *atrium.Socket) { board.change(s.Rooms()...) })

	// 4. On handles an event. If the client asks for an acknowledgement, it gets an empty one for
	// nil, or the error. A room exists while it has members. A name that a client has chosen gets a
	// prefix first: without it, anyone could join "person:Ada" and read what is for Ada's windows
	// only.
	atrium.On(h, "join", func(s *atrium.Socket, r Room) error {
		if err := s.Join(public + r.Room); err != nil {
			return err
		}
		board.change(public + r.Room)
		return nil
	})
	atrium.On(h, "leave", func(s *atrium.Socket, r Room) error {
		s.Leave(public + r.Room)
		board.change(public + r.Room)
		return nil
	})

	// 5. OnCall handles an event whose result is the acknowledgement; the page draws a tick for it.
	// s.To(room) is everyone in the room but s; h.To(room) is everyone. Emit does not check
	// membership: whether a client may emit to a room that it names is for you to check.
	atrium.OnCall(h, "say", func(s *atrium.Socket, m Message) (time.Time, error) {
		if !s.In(public + m.Room) {
			return time.Time{}, atrium.Errorf("You are not in this room.")
		}
		m.From, m.At = nameOf(s), time.Now()
		return m.At, s.To(public+m.Room).Emit("said", m)
	})

	// 6. A Volatile event is dropped for receivers whose connection is busy: it is for what is
	// worthless when late.
	atrium.On(h, "typing", func(s *atrium.Socket, r Room) error {
		if !s.In(public + r.Room) {
			return atrium.Errorf("You are not in this room.")
		}
		return s.To(public+r.Room).Volatile().Emit("typing", map[string]string{"room": r.Room, "name": nameOf(s)})
	})

	// 7. In OnDisconnect a socket is in no room any more; s.Rooms returns the rooms that it was in.
	h.OnDisconnect(func(s *atrium.Socket, why atrium.Reason) {
		board.change(s.Rooms()...)
	})
	return h
}

//go:embed page
var page embed.FS

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Handler returns a handler that serves the hub and its page.
func Handler(h *atrium.Hub) http.Handler {
	// 8. A Hub is an http.Handler: mount it on a mux with other handlers. The page's client script
	// comes with atrium.
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", h)
	mux.Handle("/client.js", atrium.ClientScript())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		http.ServeFileFS(w, r, page, path.Join("page", r.URL.Path))
	})
	return mux
}
