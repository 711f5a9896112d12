// Package chatroom is rooms, ticks and "is typing", and the tutorial of atrium: read this file from top to bottom.
// Two programs run it: examples/chat on one machine, examples/cluster on many. The other end of the wire is page/chat.js.
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

// 1. Messages are plain structs. If one has a Validate method, atrium calls it before your handler and tells the error to
// whoever sent the message, so a handler only ever sees good data.
type (
	SignIn  struct{ Name, Password string }
	Room    struct{ Room string }
	Message struct {
		Room string    `json:"room"`
		Text string    `json:"text"`
		Key  string    `json:"key"`  // made by the sender: what is sent again after a lost connection is shown once
		From string    `json:"from"` // From and At are for the server to say
		At   time.Time `json:"at"`
	}
)

func (s SignIn) Validate() error  { return check("name", s.Name, 24) }
func (r Room) Validate() error    { return check("room", r.Room, 32) }
func (m Message) Validate() error { return check("message", m.Text, 2000) }

// An *atrium.Error may carry Data beside its message. Here it names the input that the page should point at.
func check(field, text string, most int) error {
	if n := utf8.RuneCountInString(text); n > most {
		return &atrium.Error{Message: fmt.Sprintf("Too long: %d characters, at most %d fit.", n, most), Data: field}
	} else if strings.TrimSpace(text) == "" {
		return &atrium.Error{Message: "Please enter a " + field + ".", Data: field}
	}
	return nil
}

// New returns the chat's hub, which lets in who knows the password.
func New(password string, options atrium.Options) *atrium.Hub {
	h := atrium.New(options)
	nameOf := func(s *atrium.Socket) string { name, _ := atrium.Value[string](s, "name"); return name }
	board := newBoard(h) // of who is where

	// 2. Use comes before a client counts as connected; an error turns it away. What an *atrium.Error says is shown to
	// the client. Any other error is for your log, and the client reads "internal error".
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

	// 3. What happens to one socket happens in order, one thing at a time: Use, OnConnect, its events, OnDisconnect.
	h.OnConnect(func(s *atrium.Socket) { board.change() })

	// 4. On handles an event. To a client that wants an acknowledgement, nil says yes and an error says why not.
	// Rooms need no setting up: a room is there as long as somebody is in it. A name that a client has chosen gets a
	// prefix first: without it, anyone could join "person:Ada" and read what is for Ada's windows only.
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

	// 5. OnCall answers: what it returns is the acknowledgement, and the page draws its tick.
	// s.To(room) is everyone in the room but s; h.To(room) is everyone. Emit asks for nobody's membership: that a client may
	// speak in the room that it names is for you to check.
	atrium.OnCall(h, "say", func(s *atrium.Socket, m Message) (time.Time, error) {
		if !s.In(public + m.Room) {
			return time.Time{}, atrium.Errorf("You are not in this room.")
		}
		m.From, m.At = nameOf(s), time.Now()
		return m.At, s.To(public+m.Room).Emit("said", m)
	})

	// 6. Volatile is for what is worthless when late: a receiver whose connection is busy does not get it.
	atrium.On(h, "typing", func(s *atrium.Socket, r Room) error {
		if !s.In(public + r.Room) {
			return atrium.Errorf("You are not in this room.")
		}
		return s.To(public+r.Room).Volatile().Emit("typing", map[string]string{"room": r.Room, "name": nameOf(s)})
	})

	// 7. A socket that has gone is in no room any more; s.Rooms still says where it was.
	h.OnDisconnect(func(s *atrium.Socket, why atrium.Reason) {
		board.change(s.Rooms()...)
	})
	return h
}

//go:embed page
var page embed.FS

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Handler serves the hub and its page.
func Handler(h *atrium.Hub) http.Handler {
	// 8. A Hub is an http.Handler. Mount it on a mux, beside anything else. The page's client comes with atrium.
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", h)
	mux.Handle("/client.js", atrium.ClientScript())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		http.ServeFileFS(w, r, page, path.Join("page", r.URL.Path))
	})
	return mux
}
