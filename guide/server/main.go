package main

import (
	"log"
	"net/http"
	"time"

	"github.com/atrium-go/atrium"
)

func main() {
	h := atrium.New(atrium.Options{})
	h.Use(func(s *atrium.Socket) error { return s.Join("lobby") })
	atrium.OnCall(h, "say", func(s *atrium.Socket, text string) (string, error) {
		return "delivered", h.To("lobby").Emit("said", s.ID(), text)
	})
	http.Handle("/ws", h)
	srv := &http.Server{Addr: "127.0.0.1:8080", ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(srv.ListenAndServe())
}
