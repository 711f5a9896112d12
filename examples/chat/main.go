// Chat serves the chat of package chatroom, which is the tutorial of atrium. Run it and open the
// address it prints in two windows.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/examples/chat/chatroom"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	password := flag.String("password", "atrium", "password that lets people in")
	flag.Parse()

	h := chatroom.New(*password, atrium.Options{})
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatalf("chat: %v (choose another address with -addr)", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", chatroom.Handler(h))
	mux.Handle("/debug/atrium/", atrium.Inspect(h, nil)) // what the hub does: for this machine only
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	fmt.Printf("Chat is open at http://%s/\n", ln.Addr())
	fmt.Printf("See what happens in it at http://%s/debug/atrium/\n", ln.Addr())
	if err := h.Serve(ctx, srv, ln); err != nil {
		log.Printf("chat: %v", err)
	}
}
