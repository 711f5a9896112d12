package main

import (
	"context"
	"log"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/atrium-go/atrium"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once

	h := atrium.New(atrium.Options{})
	h.Use(func(s *atrium.Socket) error { return s.Join("lobby") })
	atrium.OnCall(h, "say", func(s *atrium.Socket, text string) (string, error) {
		return "delivered", h.To("lobby").Emit("said", s.ID(), text)
	})
	http.Handle("/ws", h)
	srv := &http.Server{Addr: "127.0.0.1:8080", ReadHeaderTimeout: 10 * time.Second}
	if err := h.Serve(ctx, srv, nil); err != nil { // until a signal comes, and until the clients have gone
		log.Fatal(err)
	}
}
