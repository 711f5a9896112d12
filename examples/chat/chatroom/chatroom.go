// Package chatroom is a chat with rooms, ticks, and a list of who is here and who is typing. It is
// the tutorial of atrium: read this file from top to bottom. Two programs run it: examples/chat on
// one machine, examples/cluster on many. Its client is page/chat.js.
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
	SignIn struct{ Name, Password string }
	Room   struct{ Room string }
	Typing struct {
		Room   string
		Typing bool
	}
	Message struct {
		Room string    `json:"room,omitempty"`
		To   string    `json:"to,omitempty"` // a person, in place of a room
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

// To take a name from a client, put a prefix before it: then it is the name of no other room.
const (
	public   = "#"        // of the rooms that people talk in
	everyone = "everyone" // the room that all are in while they are connected
)

// New returns the chat's hub, which accepts clients that know the password.
func New(password string, options atrium.Options) *atrium.Hub {
	options.Limits.Rooms = 20 // of one client; the names of so many fit into what Present takes
	h := atrium.New(options)

	// 2. A Use function runs before the client is connected; an error refuses the client. The
	// client gets the message of an *atrium.Error. Any other error is logged, and the client gets
	// "internal error". SetUser says whose the client is: a name is one person, with however many
	// windows.
	h.Use(func(s *atrium.Socket) error {
		var in SignIn
		if err := s.Handshake().Bind(&in); err != nil {
			return err
		}
		if subtle.ConstantTimeCompare([]byte(in.Password), []byte(password)) == 0 {
			return atrium.Errorf("Auth failed")
		}
		if err := s.SetUser(in.Name); err != nil {
			return err
		}
		if err := s.Join(everyone); err != nil {
			return err
		}
		return tellRooms(s)
	})

	// 3. The functions of one socket run in order, one at a time. On handles an event. If the client
	// asks for an acknowledgement, it gets an empty one for nil, or the error. A room exists while
	// it has members.
	atrium.On(h, "join", func(s *atrium.Socket, r Room) error {
		if err := s.Join(public + r.Room); err != nil {
			return err
		}
		if err := tellTyping(s, r.Room, false); err != nil {
			return err
		}
		return tellRooms(s)
	})
	atrium.On(h, "leave", func(s *atrium.Socket, r Room) error {
		s.Leave(public + r.Room)
		return tellRooms(s)
	})
	atrium.On(h, "typing", func(s *atrium.Socket, t Typing) error { return tellTyping(s, t.Room, t.Typing) })

	// 4. OnCall handles an event whose result is the acknowledgement; the page draws a tick for it.
	// s.To(room) is everyone in the room but s, and s.ToUser(name) each window of a person; here it
	// is both persons' windows. Emit does not check membership: whether a client may emit to a room
	// that it names is for you to check.
	atrium.OnCall(h, "say", func(s *atrium.Socket, m Message) (time.Time, error) {
		m.From, m.At = s.User(), time.Now()
		if m.To != "" {
			if n, _ := h.ToUser(m.To).Count(s.Context()); n == 0 {
				return m.At, atrium.Errorf("%s is not here.", m.To)
			}
			return m.At, s.ToUser(m.To, m.From).Emit("said", m)
		}
		if !s.In(public + m.Room) {
			return m.At, atrium.Errorf("You are not in this room.")
		}
		return m.At, s.To(public+m.Room).Emit("said", m)
	})
	return h
}

// 5. Present says that the socket's user is in a room, and what there is to know of them; it says
// so again when that has changed, and ends by itself. The members of the room are told who is
// there, on all nodes, each person once: the page gets the list from socket.presence(room).
func tellTyping(s *atrium.Socket, room string, typing bool) error {
	return s.Present(public+room, "", map[string]bool{"typing": typing})
}

// Everyone is told which rooms each person is in: these are all rooms there are.
func tellRooms(s *atrium.Socket) error { return s.Present(everyone, "", s.Rooms()) }

//go:embed page
var page embed.FS

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Handler returns a handler that serves the hub and its page.
func Handler(h *atrium.Hub) http.Handler {
	// 6. A Hub is an http.Handler: mount it on a mux with other handlers. The page's client script
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
