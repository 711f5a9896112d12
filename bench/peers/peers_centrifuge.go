package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/centrifugal/centrifuge"
)

// centrifugeServe serves a node over WebSockets with JSON. Buffers to write with are pooled, and
// goroutines that read keep a small stack, as centrifuge recommends for many connections.
func centrifugeServe(l net.Listener, subscriptions map[string]centrifuge.SubscribeOptions) *centrifuge.Node {
	node, err := centrifuge.New(centrifuge.Config{})
	check(err)
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{}, Subscriptions: subscriptions}, nil
	})
	node.OnConnect(func(c *centrifuge.Client) {
		c.OnRPC(func(e centrifuge.RPCEvent, reply centrifuge.RPCCallback) {
			var d data
			if err := json.Unmarshal(e.Data, &d); err != nil {
				reply(centrifuge.RPCReply{}, err)
				return
			}
			answer, err := json.Marshal(d)
			reply(centrifuge.RPCReply{Data: answer}, err)
		})
	})
	check(node.Run())
	go http.Serve(l, centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		UseWriteBufferPool:         true,
		ProcessCommandsOffReadLoop: true,
		PingPongConfig:             centrifuge.PingPongConfig{PingInterval: time.Hour},
	}))
	return node
}

// centrifugeRoom subscribes each connection to a channel. What is outstanding leaves in frames of
// up to 16 messages, as it does by default.
func centrifugeRoom(l net.Listener) func(int) {
	node := centrifugeServe(l, map[string]centrifuge.SubscribeOptions{"room": {}})
	said := message{centrifugal.said, roomSize}
	return room(func() int { return node.Hub().NumSubscribers("room") }, each(func(n int) {
		_, err := node.Publish("room", strconv.AppendQuote(nil, string(said.data(n))))
		check(err)
	}))
}

func centrifugeCall(l net.Listener) func(int) {
	centrifugeServe(l, nil)
	return nil
}
