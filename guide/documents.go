package guide

import (
	"context"
	"net/http"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/promatrium"
	"github.com/atrium-go/atrium/redisbus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Receipt is what a client gets for a message.
type Receipt struct{ At time.Time }

// Hub is of the package comment.
func Hub(ctx context.Context, userOf func(token string) (User, bool)) error {
	// [package hub]
	h := atrium.New(atrium.Options{})

	h.Use(func(s *atrium.Socket) error { // called first for every client
		var auth struct{ Token string }
		if err := s.Handshake().Bind(&auth); err != nil {
			return err
		}
		user, ok := userOf(auth.Token) // identified by the token, not by what the client says
		if !ok {
			return atrium.Errorf("Auth failed") // shown to the client
		}
		s.Set("user", user)
		if err := s.SetUser(user.ID); err != nil {
			return err
		}
		return s.Join("room:lobby")
	})
	atrium.OnCall(h, "send", func(s *atrium.Socket, m ChatMessage) (Receipt, error) {
		room := "room:" + m.Room
		if !s.In(room) { // a client may only emit to its own rooms
			return Receipt{}, atrium.Errorf("room: you are not in it")
		}
		if err := h.To(room).Emit("message", m); err != nil { // s.To excepts the sender
			return Receipt{}, err
		}
		return Receipt{At: time.Now()}, nil // the acknowledgement
	})

	mux := http.NewServeMux()
	mux.Handle("/ws", h)
	srv := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	err := h.Serve(ctx, srv, nil) // until ctx ends, by signal.NotifyContext for example
	// [end]
	return err
}

// Client is of the package comment.
func Client(ctx context.Context, auth any, show func(ChatMessage) error) error {
	// [package client]
	c := atrium.NewClient("https://example.com", atrium.ClientOptions{Auth: auth})
	atrium.On(c, "message", func(_ *atrium.Client, m ChatMessage) error { return show(m) })
	if err := c.Connect(ctx); err != nil {
		return err // an *Error if the server refuses the client
	}
	receipt, err := atrium.Call[Receipt](ctx, c, "send", ChatMessage{Room: "lobby", Text: "hi"})
	// [end]
	_ = receipt
	return err
}

// Machines is of README.md.
func Machines(ctx context.Context) ([]atrium.RoomInfo, error) {
	// [machines]
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"redis.example.com:6379"}})
	defer client.Close()                                       // after the hub's Shutdown
	h := atrium.New(atrium.Options{Bus: redisbus.New(client)}) // or natsbus.New(conn)
	h.To("lobby").Emit("said", "hello")                        // on every machine
	rooms, err := h.Rooms(ctx)                                 // err names the machines that have not answered
	// [end]
	return rooms, err
}

// Inside is of README.md.
func Inside(h *atrium.Hub, mux *http.ServeMux) {
	// [inside]
	mux.Handle("/debug/atrium/", atrium.Inspect(h, nil)) // a live page, for this machine only unless you allow more
	prometheus.MustRegister(promatrium.New(h))           // or expvar, or your own: h.Stats() is a struct
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	// [end]
}

// Cluster is of CLUSTER.md.
func Cluster() *atrium.Hub {
	// [cluster]
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"redis.example.com:6379"}})
	defer client.Close() // after the hub's Shutdown

	h := atrium.New(atrium.Options{Bus: redisbus.New(client)})
	// [end]
	return h
}

// GoClient is of README.md.
func GoClient(ctx context.Context, token string, show func(ChatMessage) error) error {
	// [client]
	c := atrium.NewClient("https://example.com", atrium.ClientOptions{Auth: map[string]string{"token": token}, CallRetries: 3})
	defer c.Close()
	c.OnConnect(func(*atrium.Client) { c.Emit("join", "lobby") }) // each time
	atrium.On(c, "said", func(_ *atrium.Client, m ChatMessage) error { return show(m) })
	if err := c.Connect(ctx); err != nil { // an *atrium.Error is a refusal; anything else was tried until ctx ended
		return err
	}
	receipt, err := atrium.Call[Receipt](ctx, c, "say", "hello")
	// [end]
	_ = receipt
	return err
}

// SocketIO is of SOCKETIO.md.
func SocketIO(mux *http.ServeMux) {
	// [socketio]
	h := atrium.New(atrium.Options{AllowedOrigins: []string{"https://app.example.com"}})
	mux.Handle("/socket.io/", h)
	// [end]
}
