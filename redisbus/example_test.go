package redisbus_test

import (
	"context"
	"fmt"

	"github.com/atrium-go/atrium/redisbus"
	"github.com/redis/go-redis/v9"
)

func Example() {
	client := redis.NewClient(&redis.Options{Addr: "redis.example.com:6379"})
	defer client.Close()
	bus := redisbus.New(client, redisbus.Prefix("chat:"))

	ctx := context.Background()
	cancel, err := bus.Subscribe(ctx, "lobby", func(msg []byte) { fmt.Println(string(msg)) })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cancel()
	if err := bus.Publish(ctx, "lobby", []byte("hello")); err != nil {
		fmt.Println(err)
	}
}
