package natsbus_test

import (
	"context"
	"fmt"

	"github.com/atrium-go/atrium/natsbus"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

func Example() {
	// A server for the example; yours runs elsewhere.
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()

	conn, err := nats.Connect(s.ClientURL(), nats.MaxReconnects(-1))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	bus := natsbus.New(conn, natsbus.Prefix("chat."))

	ctx := context.Background()
	heard := make(chan string)
	cancel, err := bus.Subscribe(ctx, "lobby", func(msg []byte) { heard <- string(msg) })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cancel()
	if err := bus.Publish(ctx, "lobby", []byte("hello")); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-heard)
	// Output: hello
}
