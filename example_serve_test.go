package atrium_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/atrium-go/atrium"
)

// A program that ends, when it gets a signal, so that its clients notice little.
func ExampleHub_Serve() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once

	h := atrium.New(atrium.Options{})
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", h)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	l, err := net.Listen("tcp", "127.0.0.1:0") // or nil, and Addr in srv
	if err != nil {
		log.Fatal(err)
	}

	c := atrium.NewClient("http://"+l.Addr().String(), atrium.ClientOptions{})
	defer c.Close()
	gone := make(chan atrium.Reason, 1)
	c.OnDisconnect(func(_ *atrium.Client, why atrium.Reason) { gone <- why })
	go c.Connect(context.Background())
	h.OnConnect(func(*atrium.Socket) { stop() }) // in place of a signal

	fmt.Println(h.Serve(ctx, srv, l))
	fmt.Println(<-gone) // and the client is about to come back
	// Output:
	// <nil>
	// transport close
}
