package atrium_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/atrium-go/atrium"
	"golang.org/x/net/websocket"
)

// Two clients in a room: one says something, both hear it, and the sender gets a receipt.
func Example() {
	h := atrium.New(atrium.Options{})
	h.Use(func(s *atrium.Socket) error { return s.Join("lobby") }) // a client that hears that it is connected is in it
	atrium.OnCall(h, "say", func(s *atrium.Socket, text string) (string, error) {
		return "ok", h.To("lobby").Emit("said", text)
	})
	srv := serve(h)
	defer srv.Close()

	ann, bob := srv.connect(), srv.connect()
	ann.say(`{"event":"say","data":"hello","id":1}`)
	fmt.Println("ann:", ann.hear())
	fmt.Println("ann:", ann.hear())
	fmt.Println("bob:", bob.hear())
	// Output:
	// ann: {"event":"said","data":"hello"}
	// ann: {"id":1,"data":"ok"}
	// bob: {"event":"said","data":"hello"}
}

// A client that offers the subprotocol "atrium" sends its credentials first.
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
	srv := serve(h)
	defer srv.Close()

	ali := srv.dial("/", "atrium")
	ali.say(`{"event":"connect","data":{"name":"Ali","password":"sesame"}}`)
	ali.hear() // {"event":"connect","data":{"sid":"…"}}
	ali.say(`{"event":"whoami","id":1}`)
	fmt.Println(ali.hear())

	kasim := srv.dial("/", "atrium")
	kasim.say(`{"event":"connect","data":{"name":"Kasim","password":"barley"}}`)
	fmt.Println(kasim.hear())
	// Output:
	// {"id":1,"data":"Ali"}
	// {"event":"connect_error","data":{"message":"Auth failed"}}
}

type move struct {
	X int `json:"x"`
	Y int `json:"y"`
}

func (m move) Validate() error {
	if m.X < 0 || m.X > 7 || m.Y < 0 || m.Y > 7 {
		return errors.New("expected a square of the board")
	}
	return nil
}

// What a client sends is decoded and validated before the handler sees it.
func ExampleOn() {
	h := atrium.New(atrium.Options{})
	atrium.On(h, "move", func(s *atrium.Socket, m move) error {
		return s.Emit("moved", m.X, m.Y)
	})
	srv := serve(h)
	defer srv.Close()

	c := srv.connect()
	for _, data := range []string{`{"x":1,"y":2}`, `{"x":8,"y":2}`, `{"x":"one"}`} {
		c.say(`{"event":"move","data":` + data + `}`)
		fmt.Println(c.hear())
	}
	// Output:
	// {"event":"moved","args":[1,2]}
	// {"event":"error","data":{"event":"move","message":"expected a square of the board"}}
	// {"event":"error","data":{"event":"move","message":"x: expected an integer, got string"}}
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
	srv := serve(h)
	defer srv.Close()

	c := srv.connect()
	c.say(`{"event":"divide","data":[6,3],"id":1}`)
	fmt.Println(c.hear())
	c.say(`{"event":"divide","data":[6,0],"id":2}`)
	fmt.Println(c.hear())
	// Output:
	// {"id":1,"data":2}
	// {"id":2,"error":{"message":"cannot divide by zero"}}
}

// A handler may ask its own client, and wait.
func ExampleCall() {
	h := atrium.New(atrium.Options{})
	atrium.On(h, "delete", func(s *atrium.Socket, file string) error {
		sure, err := atrium.Call[bool](s.Context(), s, "confirm", "Delete "+file+"?")
		if err != nil {
			return err
		}
		return s.Emit("deleted", sure)
	})
	srv := serve(h)
	defer srv.Close()

	c := srv.connect()
	c.say(`{"event":"delete","data":"notes.txt"}`)
	fmt.Println(c.hear())
	c.say(`{"id":0,"data":true}`)
	fmt.Println(c.hear())
	// Output:
	// {"event":"confirm","data":"Delete notes.txt?","id":0}
	// {"event":"deleted","data":true}
}

// Everyone in a room is asked at once.
func ExampleTarget_Call() {
	h := atrium.New(atrium.Options{})
	h.OnConnect(func(s *atrium.Socket) {
		s.Join("voters")
		s.Emit("ready")
	})
	srv := serve(h)
	defer srv.Close()

	for _, vote := range []string{`"tea"`, `"tea"`, `"coffee"`} {
		c := srv.connect()
		c.hear() // ready
		go func() {
			c.hear() // the question
			c.say(`{"id":0,"data":` + vote + `}`)
		}()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	replies, err := h.To("voters").Call(ctx, "vote", "tea or coffee?")
	if err != nil {
		fmt.Println(err)
	}
	votes := map[string]int{}
	for _, r := range replies {
		votes[string(r.Data)]++
	}
	fmt.Println(votes)
	// Output: map["coffee":1 "tea":2]
}

// A target is a value: rooms add up, exceptions are taken off, and each socket is reached once.
func ExampleTarget() {
	h := atrium.New(atrium.Options{})
	atrium.On(h, "join", func(s *atrium.Socket, rooms []string) error { return s.Join(rooms...) })
	srv := serve(h)
	defer srv.Close()

	for _, rooms := range []string{`["red"]`, `["blue"]`, `["red","blue"]`, `["green"]`} {
		c := srv.connect()
		c.say(`{"event":"join","data":` + rooms + `,"id":1}`)
		c.hear()
	}
	ctx := context.Background()
	for _, t := range []atrium.Target{h.To("red"), h.To("red", "blue"), h.To("red").Except("blue"), h.Except("red"), h.To()} {
		n, _ := t.Count(ctx)
		fmt.Print(n, " ")
	}
	fmt.Println(h.Rooms())
	// Output: 2 3 1 2 0 [{blue 2} {green 1} {red 2}]
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
		e.Reply(a+b, len(e.Args()))
	})
	srv := serve(h)
	defer srv.Close()

	c := srv.connect()
	c.say(`{"event":"sum","args":[1.5,2],"id":1}`)
	fmt.Println(c.hear())
	c.say(`{"event":"sum","args":[1.5,"2"],"id":2}`)
	fmt.Println(c.hear())
	// Output:
	// {"id":1,"args":[3.5,2]}
	// {"id":2,"error":{"message":"argument 2: expected a number, got string"}}
}

// OnDisconnect runs last, and Rooms still tells where the socket was.
func ExampleNamespace_OnDisconnect() {
	h := atrium.New(atrium.Options{})
	h.OnConnect(func(s *atrium.Socket) {
		s.Join("lobby")
		s.Emit("ready")
	})
	h.OnDisconnect(func(s *atrium.Socket, why atrium.Reason) {
		s.To(s.Rooms()...).Emit("left", why)
	})
	srv := serve(h)
	defer srv.Close()

	stays, goes := srv.connect(), srv.connect()
	stays.hear() // ready
	goes.hear()  // ready
	goes.ws.Close()
	fmt.Println(stays.hear())
	// Output: {"event":"left","data":"transport close"}
}

// Accept sees the HTTP request before anything else happens, and may refuse it.
func ExampleOptions_accept() {
	type userKey struct{}
	h := atrium.New(atrium.Options{
		Accept: func(r *http.Request) (context.Context, error) {
			user := r.URL.Query().Get("user")
			if user == "" {
				return nil, &atrium.Error{Message: "who are you?", Status: http.StatusUnauthorized}
			}
			return context.WithValue(r.Context(), userKey{}, user), nil
		},
	})
	h.OnConnect(func(s *atrium.Socket) { s.Emit("welcome", s.Context().Value(userKey{})) })
	srv := serve(h)
	defer srv.Close()

	c := srv.dial("/?user=ann", "")
	c.hear() // connect
	fmt.Println(c.hear())

	r, _ := http.NewRequest("GET", srv.URL, nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	refused, err := http.DefaultClient.Do(r)
	if err != nil {
		panic(err)
	}
	body, _ := io.ReadAll(refused.Body)
	fmt.Print(refused.Status, ": ", string(body))
	// Output:
	// {"event":"welcome","data":"ann"}
	// 401 Unauthorized: who are you?
}

// Conn is a WebSocket connection without a hub.
func ExampleUpgrade() {
	echo := func(w http.ResponseWriter, r *http.Request) {
		c, err := atrium.Upgrade(w, r, nil)
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
	}
	srv := serve(http.HandlerFunc(echo))
	defer srv.Close()

	c := srv.dial("/", "")
	c.say("anybody there?")
	fmt.Println(c.hear())
	// Output: anybody there?
}

// Shutdown comes before http.Server.Shutdown, which does not know of WebSocket connections.
func ExampleHub_Shutdown() {
	h := atrium.New(atrium.Options{})
	h.OnDisconnect(func(s *atrium.Socket, why atrium.Reason) { fmt.Println(why) })
	srv := serve(h)
	defer srv.Close()

	c := srv.connect()
	go c.hear() // a client reads, and so answers the close frame
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		fmt.Println(err)
	}
	if err := srv.Config.Shutdown(ctx); err != nil {
		fmt.Println(err)
	}
	// Output: server shutting down
}

// testServer and peer are for the examples: a client may be any WebSocket.
type testServer struct {
	*httptest.Server
	peers []peer
}

func serve(handler http.Handler) *testServer {
	return &testServer{Server: httptest.NewServer(handler)}
}

func (s *testServer) Close() {
	for _, p := range s.peers {
		p.ws.Close()
	}
	s.Server.Close()
}

func (s *testServer) dial(path, subprotocol string) peer {
	ws, err := websocket.Dial("ws"+strings.TrimPrefix(s.URL, "http")+path, subprotocol, s.URL)
	if err != nil {
		panic(err)
	}
	s.peers = append(s.peers, peer{ws})
	return peer{ws}
}

// connect dials and waits for the hub's first message.
func (s *testServer) connect() peer {
	p := s.dial("/", "")
	p.hear()
	return p
}

type peer struct{ ws *websocket.Conn }

func (p peer) say(message string) {
	if err := websocket.Message.Send(p.ws, message); err != nil {
		panic(err)
	}
}

func (p peer) hear() string {
	var message string
	if err := websocket.Message.Receive(p.ws, &message); err != nil {
		return err.Error()
	}
	return message
}
