// Cluster is the chat of examples/chat on three nodes: three hubs, each with its own port,
// connected by a Bus. Run it, and open two of the addresses that it prints:
//
//	go run -C examples/cluster .                          # a bus in memory
//	go run -C examples/cluster . -redis 127.0.0.1:6379    # one over Redis
//	go run -C examples/cluster . -nats nats://127.0.0.1   # one over NATS
//
// With a broker the nodes may be processes of their own. This runs one node; do so on every
// machine:
//
//	go run -C examples/cluster . -redis 10.0.0.1:6379 :8080
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/examples/chat/chatroom"
	"github.com/atrium-go/atrium/natsbus"
	"github.com/atrium-go/atrium/redisbus"
	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
)

// newBus returns the bus that the flags select, and a function that closes its client after the
// hubs' Shutdown.
func newBus(redisAddr, natsURL string) (bus atrium.Bus, closeClient func(), err error) {
	switch {
	case redisAddr != "" && natsURL != "":
		return nil, nil, errors.New("expected -redis or -nats, got both")
	case redisAddr != "":
		client := redis.NewClient(&redis.Options{Addr: redisAddr})
		return redisbus.New(client), func() { client.Close() }, nil
	case natsURL != "":
		// It never gives up, and notices a dead network within seconds.
		conn, err := nats.Connect(natsURL, nats.MaxReconnects(-1), nats.PingInterval(2*time.Second))
		if err != nil {
			return nil, nil, err
		}
		return natsbus.New(conn), conn.Close, nil
	}
	return new(atrium.MemoryBus), func() {}, nil
}

// node is a hub and its server: what one machine runs.
type node struct {
	hub      *atrium.Hub
	listener net.Listener
}

func listen(addr, password string, bus atrium.Bus) (*node, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &node{chatroom.New(password, atrium.Options{Bus: bus}), ln}, nil // the Bus is the only difference to examples/chat
}

func (n *node) url() string { return "http://" + n.listener.Addr().String() + "/" }

func (n *node) serve(ctx context.Context) error {
	srv := &http.Server{Handler: chatroom.Handler(n.hub), ReadHeaderTimeout: 5 * time.Second}
	return n.hub.Serve(ctx, srv, n.listener)
}

func main() {
	redisAddr := flag.String("redis", "", "join the nodes by the Redis server at this `address`, 127.0.0.1:6379 for example")
	natsURL := flag.String("nats", "", "join the nodes by the NATS server with this `URL`, nats://127.0.0.1:4222 for example")
	password := flag.String("password", "atrium", "password that lets people in")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: cluster [flags] [address to listen on, one for each node]")
		flag.PrintDefaults()
	}
	flag.Parse()
	addrs := flag.Args()
	if len(addrs) == 0 {
		addrs = []string{"127.0.0.1:8081", "127.0.0.1:8082", "127.0.0.1:8083"}
	}

	bus, closeClient, err := newBus(*redisAddr, *natsURL)
	if err != nil {
		log.Fatalf("cluster: %v", err)
	}
	defer closeClient()
	var nodes []*node
	for _, addr := range addrs {
		n, err := listen(addr, *password, bus)
		if err != nil {
			log.Fatalf("cluster: %v (choose other addresses: cluster :9001 :9002)", err)
		}
		nodes = append(nodes, n)
		fmt.Printf("Chat, node %s, is open at %s\n", n.hub.Nodes().Self(), n.url())
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	var serving sync.WaitGroup
	for _, n := range nodes {
		serving.Go(func() {
			if err := n.serve(ctx); err != nil {
				log.Printf("cluster: %s: %v", n.url(), err)
			}
		})
	}
	serving.Wait()
}
