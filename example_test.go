package atrium_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/atrium-go/atrium"
)

// Two clients in a room: one says something, both hear it, and the sender gets a receipt.
func Example() {
	h := atrium.New(atrium.Options{})
	h.Use(func(s *atrium.Socket) error { return s.Join("lobby") }) // a client that hears that it is connected is in it
	atrium.OnCall(h, "say", func(s *atrium.Socket, text string) (string, error) {
		return "delivered", h.To("lobby").Emit("said", text)
	})
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ann, bob := atrium.NewClient(srv.URL, atrium.ClientOptions{}), atrium.NewClient(srv.URL, atrium.ClientOptions{})
	heard := make(chan string)
	for _, c := range []*atrium.Client{ann, bob} {
		defer c.Close()
		atrium.On(c, "said", func(_ *atrium.Client, text string) error {
			heard <- text
			return nil
		})
		if err := c.Connect(ctx); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(atrium.Call[string](ctx, ann, "say", "hello"))
	fmt.Println(<-heard, <-heard)
	// Output:
	// delivered <nil>
	// hello hello
}

// Anything that has a WebSocket is a client: a message is one JSON object.
func ExampleHub() {
	h := atrium.New(atrium.Options{})
	atrium.OnCall(h, "double", func(s *atrium.Socket, n int) (int, error) { return 2 * n, nil })
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, _, err := atrium.Dial(ctx, "ws"+strings.TrimPrefix(srv.URL, "http"), atrium.DialOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer ws.CloseNow()
	if _, _, err := ws.Read(ctx); err != nil { // {"event":"connect","data":{"sid":"…"}}
		log.Fatal(err)
	}
	for _, message := range []string{`{"event":"double","data":21,"id":1}`, `{"event":"double","data":"21"}`} {
		if err := ws.Write(ctx, atrium.MessageText, []byte(message)); err != nil {
			log.Fatal(err)
		}
		_, answer, err := ws.Read(ctx)
		fmt.Println(string(answer), err)
	}
	// Output:
	// {"id":1,"data":42} <nil>
	// {"event":"error","data":{"event":"double","message":"data: expected an integer, got string"}} <nil>
}

// Use asks each client who it is.
func ExampleNamespace_Use() {
	h := atrium.New(atrium.Options{})
	h.Use(func(s *atrium.Socket) error {
		var auth struct{ Name, Password string }
		if err := s.Handshake().Bind(&auth); err != nil {
			return err
		}
		if auth.Password != "sesame" {
			return atrium.Errorf("Auth failed")
		}
		s.Set("name", auth.Name)
		return nil
	})
	atrium.OnCall(h, "whoami", func(s *atrium.Socket, _ any) (string, error) {
		name, _ := atrium.Value[string](s, "name")
		return name, nil
	})
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ali := atrium.NewClient(srv.URL, atrium.ClientOptions{Auth: map[string]string{"name": "Ali", "password": "sesame"}})
	defer ali.Close()
	if err := ali.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(atrium.Call[string](ctx, ali, "whoami"))

	kasim := atrium.NewClient(srv.URL, atrium.ClientOptions{Auth: map[string]string{"name": "Kasim", "password": "barley"}})
	defer kasim.Close()
	fmt.Println(kasim.Connect(ctx))
	// Output:
	// Ali <nil>
	// Auth failed
}

// A square of a chessboard.
type square struct {
	X int `json:"x"`
	Y int `json:"y"`
}

func (s square) Validate() error {
	if s.X < 0 || s.X > 7 || s.Y < 0 || s.Y > 7 {
		return atrium.Errorf("expected a square of the board")
	}
	return nil
}

// What a client sends is decoded and validated before the handler sees it.
func ExampleOn() {
	h := atrium.New(atrium.Options{})
	atrium.On(h, "move", func(s *atrium.Socket, to square) error {
		fmt.Println("moved to", to.X, to.Y)
		return nil
	})
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := atrium.NewClient(srv.URL, atrium.ClientOptions{})
	defer c.Close()
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	for _, to := range []any{square{1, 2}, square{8, 2}, map[string]any{"x": "one"}} {
		if _, err := atrium.Call[any](ctx, c, "move", to); err != nil { // Emit would not wait for the answer
			fmt.Println(err)
		}
	}
	// Output:
	// moved to 1 2
	// expected a square of the board
	// x: expected an integer, got string
}

// The handler's result is the acknowledgement; an *Error is shown, any other error is not.
func ExampleOnCall() {
	h := atrium.New(atrium.Options{})
	atrium.OnCall(h, "divide", func(s *atrium.Socket, pair [2]int) (int, error) {
		if pair[1] == 0 {
			return 0, atrium.Errorf("cannot divide by zero")
		}
		return pair[0] / pair[1], nil
	})
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := atrium.NewClient(srv.URL, atrium.ClientOptions{})
	defer c.Close()
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(atrium.Call[int](ctx, c, "divide", [2]int{6, 3}))
	fmt.Println(atrium.Call[int](ctx, c, "divide", [2]int{6, 0}))
	// Output:
	// 2 <nil>
	// 0 cannot divide by zero
}

// Work that takes a while is done elsewhere: the handler returns, its client's next events are
// handled meanwhile, and the answer comes when it is there.
func ExampleOnAck() {
	type work struct {
		text string
		ack  *atrium.Ack
	}
	queue := make(chan work, 100) // the bound: OnAck has none
	h := atrium.New(atrium.Options{})
	atrium.OnAck(h, "shout", func(s *atrium.Socket, text string, ack *atrium.Ack) error {
		select {
		case queue <- work{text, ack}:
			return nil
		default:
			return atrium.Errorf("too much to do")
		}
	})
	go func() {
		for w := range queue {
			if err := w.ack.Reply(strings.ToUpper(w.text)); err != nil {
				log.Print(err)
			}
		}
	}()
	defer close(queue)
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := atrium.NewClient(srv.URL, atrium.ClientOptions{})
	defer c.Close()
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(atrium.Call[string](ctx, c, "shout", "hello"))
	// Output: HELLO <nil>
}

// A handler may ask its own client, and wait.
func ExampleCall() {
	h := atrium.New(atrium.Options{})
	atrium.OnCall(h, "delete", func(s *atrium.Socket, file string) (string, error) {
		sure, err := atrium.Call[bool](s.Context(), s, "confirm", "Delete "+file+"?")
		if err != nil {
			return "", err
		}
		if !sure {
			return file + " stays", nil
		}
		return file + " is deleted", nil
	})
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := atrium.NewClient(srv.URL, atrium.ClientOptions{})
	defer c.Close()
	atrium.OnCall(c, "confirm", func(_ *atrium.Client, question string) (bool, error) {
		fmt.Println(question)
		return true, nil
	})
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(atrium.Call[string](ctx, c, "delete", "notes.txt"))
	// Output:
	// Delete notes.txt?
	// notes.txt is deleted <nil>
}

// Everyone in a room is asked at once.
func ExampleTarget_Call() {
	h := atrium.New(atrium.Options{})
	h.Use(func(s *atrium.Socket) error { return s.Join("voters") })
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, vote := range []string{"tea", "tea", "coffee"} {
		c := atrium.NewClient(srv.URL, atrium.ClientOptions{})
		defer c.Close()
		atrium.OnCall(c, "vote", func(_ *atrium.Client, question string) (string, error) { return vote, nil })
		if err := c.Connect(ctx); err != nil {
			log.Fatal(err)
		}
	}
	replies, err := h.To("voters").Call(ctx, "vote", "tea or coffee?")
	if err != nil {
		log.Fatal(err)
	}
	votes := map[string]int{}
	for _, r := range replies {
		votes[string(r.Data)]++ // r.Err is for those who have not answered
	}
	fmt.Println(votes)
	// Output: map["coffee":1 "tea":2]
}

// A target is a value: rooms add up, exceptions are taken off, and each socket is reached once.
func ExampleTarget() {
	rooms := map[string][]string{"Ann": {"red"}, "Bob": {"blue"}, "Cid": {"red", "blue"}, "Dot": {"green"}}
	h := atrium.New(atrium.Options{})
	h.Use(func(s *atrium.Socket) error {
		var auth struct{ Name string }
		if err := s.Handshake().Bind(&auth); err != nil {
			return err
		}
		return s.Join(rooms[auth.Name]...)
	})
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for name := range rooms {
		c := atrium.NewClient(srv.URL, atrium.ClientOptions{Auth: map[string]string{"name": name}})
		defer c.Close()
		if err := c.Connect(ctx); err != nil {
			log.Fatal(err)
		}
	}
	for _, t := range []atrium.Target{h.To("red"), h.To("red", "blue"), h.To("red").Except("blue"), h.Except("red"), h.To()} {
		n, _ := t.Count(ctx)
		fmt.Print(n, " ")
	}
	fmt.Println(h.LocalRooms())
	// Output: 2 3 1 2 0 [{blue 2} {green 1} {red 2}]
}

// Who is in a room, on every node, by a value that the sockets show.
func ExampleSocket_SetPublic() {
	h := atrium.New(atrium.Options{})
	h.Use(func(s *atrium.Socket) error {
		var auth struct{ Name string }
		if err := s.Handshake().Bind(&auth); err != nil {
			return err
		}
		if err := s.SetPublic("name", auth.Name); err != nil {
			return err
		}
		return s.Join("lobby")
	})
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := atrium.NewClient(srv.URL, atrium.ClientOptions{Auth: map[string]string{"name": "Ada"}})
	defer c.Close()
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	sockets, err := h.To("lobby").Sockets(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range sockets {
		fmt.Printf("%s\n", s.Values["name"])
	}
	// Output: "Ada"
}

// A client that is put out learns why. A plain client reads the same from its close frame.
func ExampleSocket_DisconnectWith() {
	h := atrium.New(atrium.Options{})
	atrium.On(h, "spam", func(s *atrium.Socket, _ any) error { return s.DisconnectWith(4001, "banned") })
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := atrium.NewClient(srv.URL, atrium.ClientOptions{})
	defer c.Close()
	type reason struct {
		Code   atrium.StatusCode
		Reason string
	}
	atrium.On(c, "disconnect_reason", func(_ *atrium.Client, why reason) error {
		fmt.Println(why.Code, why.Reason)
		return nil
	})
	gone := make(chan struct{})
	c.OnDisconnect(func(*atrium.Client, atrium.Reason) { close(gone) })
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	if err := c.Emit("spam"); err != nil {
		log.Fatal(err)
	}
	<-gone
	// Output: 4001 banned
}

// A room that a client names: behind a prefix, so that it is no other room, and only if the client
// is in it.
func ExampleSocket_In() {
	h := atrium.New(atrium.Options{})
	h.Use(func(s *atrium.Socket) error { return s.Join("staff", "room:lobby") })
	atrium.OnCall(h, "say", func(s *atrium.Socket, m struct{ Room, Text string }) (string, error) {
		room := "room:" + m.Room
		if !s.In(room) {
			return "", atrium.Errorf("room: you are not in it")
		}
		return "delivered", h.To(room).Emit("said", m.Text)
	})
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := atrium.NewClient(srv.URL, atrium.ClientOptions{})
	defer c.Close()
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	for _, room := range []string{"lobby", "kitchen", "staff"} {
		fmt.Println(atrium.Call[string](ctx, c, "say", map[string]string{"room": room, "text": "hello"}))
	}
	// Output:
	// delivered <nil>
	//  room: you are not in it
	//  room: you are not in it
}

// A user on two devices: what one has read is read on the other.
func ExampleSocket_SetUser() {
	h := atrium.New(atrium.Options{})
	h.Use(func(s *atrium.Socket) error {
		var auth struct{ User string } // in earnest: a token, or what Accept has found
		if err := s.Handshake().Bind(&auth); err != nil {
			return err
		}
		return s.SetUser(auth.User)
	})
	atrium.OnCall(h, "read", func(s *atrium.Socket, message int) (string, error) {
		return "ok", s.ToUser(s.User()).Emit("read", message) // to the user's other sockets
	})
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	auth := map[string]string{"user": "7"}
	phone := atrium.NewClient(srv.URL, atrium.ClientOptions{Auth: auth})
	desk := atrium.NewClient(srv.URL, atrium.ClientOptions{Auth: auth})
	read := make(chan int, 1)
	atrium.On(phone, "read", func(_ *atrium.Client, message int) error { read <- message; return nil })
	for _, c := range []*atrium.Client{phone, desk} {
		defer c.Close()
		if err := c.Connect(ctx); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(atrium.Call[string](ctx, desk, "read", 41))
	fmt.Println(<-read)
	fmt.Println(h.ToUser("7").Count(ctx))
	// Output:
	// ok <nil>
	// 41
	// 2 <nil>
}

// In a room, a user with two tabs is there once, with what each tab says.
func ExampleSocket_Present() {
	h := atrium.New(atrium.Options{})
	h.Use(func(s *atrium.Socket) error {
		var auth struct{ User, Doing string }
		if err := s.Handshake().Bind(&auth); err != nil {
			return err
		}
		if err := s.SetUser(auth.User); err != nil {
			return err
		}
		if err := s.Join("lobby"); err != nil {
			return err
		}
		return s.Present("lobby", "", auth.Doing) // no key: as the user
	})
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, auth := range []map[string]string{
		{"user": "Ada", "doing": "reading"}, {"user": "Ada", "doing": "writing"}, {"user": "Ben", "doing": "reading"},
	} {
		c := atrium.NewClient(srv.URL, atrium.ClientOptions{Auth: auth})
		defer c.Close()
		if err := c.Connect(ctx); err != nil {
			log.Fatal(err)
		}
	}
	for _, user := range h.Presence("lobby") {
		fmt.Printf("%s %s\n", user.Key, user.Infos)
	}
	// Output:
	// Ada ["reading" "writing"]
	// Ben ["reading"]
}

// The server is told of users, not of sockets: of a second tab it is told nothing.
func ExampleNamespace_OnPresence() {
	h := atrium.New(atrium.Options{Presence: atrium.PresenceOptions{Grace: time.Millisecond}}) // in earnest 2 s
	told := make(chan string)
	h.OnPresence(func(room string, joined, left []atrium.Present) {
		for _, user := range joined {
			told <- user.Key + " has come to the " + room
		}
		for _, user := range left {
			told <- user.Key + " has left the " + room
		}
	})
	h.OnConnect(func(s *atrium.Socket) {
		_ = s.Join("lobby")
		_ = s.Present("lobby", "Ada", nil)
	})
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var tabs [2]*atrium.Client
	for i := range tabs {
		tabs[i] = atrium.NewClient(srv.URL, atrium.ClientOptions{})
		if err := tabs[i].Connect(ctx); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(<-told)
	for _, tab := range tabs {
		tab.Close()
	}
	fmt.Println(<-told)
	// Output:
	// Ada has come to the lobby
	// Ada has left the lobby
}

// The raw form of a handler sees all arguments and answers by itself.
func ExampleNamespace_Handle() {
	h := atrium.New(atrium.Options{})
	h.Handle("sum", func(e *atrium.Event) {
		var a, b float64
		if err := e.Bind(&a, &b); err != nil {
			e.ReplyError(err)
			return
		}
		if err := e.Reply(a + b); err != nil {
			log.Print(err) // there was no acknowledgement asked for
		}
	})
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := atrium.NewClient(srv.URL, atrium.ClientOptions{})
	defer c.Close()
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(atrium.Call[float64](ctx, c, "sum", 1.5, 2))
	fmt.Println(atrium.Call[float64](ctx, c, "sum", 1.5, "2"))
	// Output:
	// 3.5 <nil>
	// 0 argument 2: expected a number, got string
}

// OnDisconnect runs last, and Rooms still tells where the socket was.
func ExampleNamespace_OnDisconnect() {
	h := atrium.New(atrium.Options{})
	h.Use(func(s *atrium.Socket) error { return s.Join("lobby") })
	h.OnDisconnect(func(s *atrium.Socket, why atrium.Reason) {
		if err := s.To(s.Rooms()...).Emit("left", why); err != nil {
			log.Print(err)
		}
	})
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	stays, goes := atrium.NewClient(srv.URL, atrium.ClientOptions{}), atrium.NewClient(srv.URL, atrium.ClientOptions{})
	defer stays.Close()
	left := make(chan atrium.Reason)
	atrium.On(stays, "left", func(_ *atrium.Client, why atrium.Reason) error {
		left <- why
		return nil
	})
	if err := errors.Join(stays.Connect(ctx), goes.Connect(ctx)); err != nil {
		log.Fatal(err)
	}
	if err := goes.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-left)
	// Output: client namespace disconnect
}

// Accept sees the HTTP request before anything else happens, and may refuse it.
func ExampleOptions_accept() {
	type userKey struct{}
	h := atrium.New(atrium.Options{
		Accept: func(r *http.Request) (context.Context, error) {
			user, _, _ := r.BasicAuth() // and look at the password
			if user == "" {
				return nil, &atrium.Error{Message: "who are you?", Status: http.StatusUnauthorized}
			}
			return context.WithValue(r.Context(), userKey{}, user), nil
		},
	})
	atrium.OnCall(h, "whoami", func(s *atrium.Socket, _ any) (any, error) { return s.Context().Value(userKey{}), nil })
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	host := strings.TrimPrefix(srv.URL, "http://")
	c := atrium.NewClient("http://ann:secret@"+host, atrium.ClientOptions{})
	defer c.Close()
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(atrium.Call[string](ctx, c, "whoami"))

	_, _, err := atrium.Dial(ctx, "ws://"+host, atrium.DialOptions{})
	if refused, ok := errors.AsType[*atrium.HandshakeError](err); ok {
		fmt.Println(refused)
	}
	// Output:
	// ann <nil>
	// the server answers with status "401 Unauthorized" instead of 101: "who are you?"
}

// Conn is a WebSocket connection without a hub.
func ExampleUpgrade() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := atrium.Upgrade(w, r, atrium.UpgradeOptions{})
		if err != nil {
			return // Upgrade has answered
		}
		defer c.CloseNow()
		for {
			op, message, err := c.Read(context.Background())
			if err != nil {
				return
			}
			if err := c.Write(context.Background(), op, message); err != nil {
				return
			}
		}
	}))
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ws, _, err := atrium.Dial(ctx, "ws"+strings.TrimPrefix(srv.URL, "http"), atrium.DialOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer ws.CloseNow()
	if err := ws.Write(ctx, atrium.MessageText, []byte("anybody there?")); err != nil {
		log.Fatal(err)
	}
	_, echo, err := ws.Read(ctx)
	fmt.Println(string(echo), err)
	// Output: anybody there? <nil>
}

// Shutdown comes before http.Server.Shutdown, which does not know of WebSocket connections.
func ExampleHub_Shutdown() {
	h := atrium.New(atrium.Options{})
	h.OnDisconnect(func(s *atrium.Socket, why atrium.Reason) { fmt.Println(why) })
	srv := httptest.NewServer(h)
	defer srv.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := atrium.NewClient(srv.URL, atrium.ClientOptions{})
	defer c.Close()
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(h.Shutdown(ctx))
	fmt.Println(srv.Config.Shutdown(ctx))
	// Output:
	// server shutting down
	// <nil>
	// <nil>
}
