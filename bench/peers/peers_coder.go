package main

import (
	"context"
	"net"
	"net/http"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/atrium-go/atrium/bench/process"
)

// coderServe serves each connection in its handler, as in coder's examples: its context is that of
// the request. The limit on messages, which is 32 KB, is raised.
func coderServe(l net.Listener, mode websocket.CompressionMode, serve func(context.Context, *websocket.Conn)) {
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: mode})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(2 << 20)
		serve(r.Context(), c)
	}))
}

func coderEcho(mode websocket.CompressionMode) process.Kind {
	return func(l net.Listener) func(int) {
		coderServe(l, mode, func(ctx context.Context, c *websocket.Conn) {
			for {
				t, p, err := c.Read(ctx)
				if err != nil {
					return
				}
				if err := c.Write(ctx, t, p); err != nil {
					return
				}
			}
		})
		return nil
	}
}

func coderRoom(l net.Listener) func(int) {
	h := newLobby[[]byte]()
	coderServe(l, websocket.CompressionDisabled, func(ctx context.Context, c *websocket.Conn) {
		write := func(text []byte) error { return c.Write(ctx, websocket.MessageText, text) }
		h.serve([]byte(welcome), write, func() { c.CloseNow() }, func() {
			for {
				if _, _, err := c.Read(ctx); err != nil {
					return
				}
			}
		})
	})
	said := message{size: roomSize}
	return room(h.count, each(func(n int) { h.say(said.data(n)) }))
}

func coderCall(l net.Listener) func(int) {
	coderServe(l, websocket.CompressionDisabled, func(ctx context.Context, c *websocket.Conn) {
		for {
			var r request
			if err := wsjson.Read(ctx, c, &r); err != nil {
				return
			}
			if err := wsjson.Write(ctx, c, r.handle()); err != nil {
				return
			}
		}
	})
	return nil
}
