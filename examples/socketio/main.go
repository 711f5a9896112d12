// Socketio is the usual first chat server of Socket.IO, in Go: each part has its JavaScript in a
// comment. Its page uses Socket.IO's own client, unmodified:
//
//	npm install socket.io-client
//	go run ./examples/socketio -client node_modules/socket.io-client/dist
package main

import (
	"context"
	"embed"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/atrium-go/atrium"
)

type (
	Message struct {
		Room string `json:"room"`
		Text string `json:"text"`
		From string `json:"from"` // From and ID are set by the server
		ID   int64  `json:"id"`
	}
	Receipt struct {
		Success bool  `json:"success"`
		ID      int64 `json:"id"`
	}
)

// A room that a client names gets a prefix, so that it cannot be "user:7" or the id of a socket.
const public = "room:"

// if (!room || !text.trim()) return callback({ error: { message: "Invalid" } });
func (m Message) Validate() error {
	if m.Room == "" || strings.TrimSpace(m.Text) == "" {
		return atrium.Errorf("Invalid")
	}
	return nil
}

// const io = new Server(server);
func newHub(token string) *atrium.Hub {
	io := atrium.New(atrium.Options{})
	name := func(s *atrium.Socket) string { name, _ := atrium.Value[string](s, "name"); return name }
	var lastID atomic.Int64

	// io.use((socket, next) => {
	//   const { token, name } = socket.handshake.auth;
	//   if (!valid(token)) return next(new Error("Auth failed"));
	//   socket.data.name = name; next(); });
	io.Use(func(s *atrium.Socket) error {
		var auth struct{ Token, Name string }
		if err := s.Handshake().Bind(&auth); err != nil || auth.Token != token || auth.Name == "" {
			return atrium.Errorf("Auth failed")
		}
		s.Set("name", auth.Name)
		return nil
	})

	// io.on("connection", (socket) => { console.log(…);
	io.OnConnect(func(s *atrium.Socket) { fmt.Println("connected:", name(s)) })

	//   socket.on("join-room", (room) => { socket.join(room); socket.to(room).emit("user-joined", …); });
	atrium.On(io, "join-room", func(s *atrium.Socket, room string) error {
		if err := s.Join(public + room); err != nil {
			return err
		}
		return s.To(public+room).Emit("user-joined", room, name(s))
	})

	//   socket.on("send-msg", (m, callback) => { io.to(m.room).emit("msg", m); callback({ success: true, id }); });
	atrium.OnCall(io, "send-msg", func(s *atrium.Socket, m Message) (Receipt, error) {
		if !s.In(public + m.Room) {
			return Receipt{}, atrium.Errorf("You are not in this room")
		}
		m.From, m.ID = name(s), lastID.Add(1)
		return Receipt{true, m.ID}, io.To(public+m.Room).Emit("msg", m)
	})

	//   socket.on("typing", (room) => socket.to(room).volatile.emit("typing", room, socket.data.name));
	atrium.On(io, "typing", func(s *atrium.Socket, room string) error {
		if !s.In(public + room) {
			return atrium.Errorf("You are not in this room")
		}
		return s.To(public+room).Volatile().Emit("typing", room, name(s))
	})

	//   socket.on("disconnecting", (reason) => { for (const room of socket.rooms) socket.to(room).emit("user-left", …); });
	io.OnDisconnect(func(s *atrium.Socket, why atrium.Reason) {
		for _, room := range s.Rooms() {
			s.To(room).Emit("user-left", strings.TrimPrefix(room, public), name(s))
		}
		fmt.Printf("disconnected: %s (%s)\n", name(s), why)
	})
	return io
}

//go:embed page
var page embed.FS

func main() {
	addr := flag.String("addr", "127.0.0.1:3000", "address to listen on")
	token := flag.String("token", "atrium", "what people must know to come in")
	client := flag.String("client", "node_modules/socket.io-client/dist", "directory of Socket.IO's client, from npm install socket.io-client")
	flag.Parse()

	io, mux := newHub(*token), http.NewServeMux()
	mux.Handle("/socket.io/", io)
	mux.HandleFunc("/socket.io.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(*client, "socket.io.min.js"))
	})
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, page, "page/index.html") })
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatalf("socketio: %v (choose another address with -addr)", err)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	fmt.Printf("Open http://%s/ in two windows.\n", ln.Addr())
	if err := io.Serve(ctx, srv, ln); err != nil {
		log.Printf("socketio: %v", err)
	}
}
