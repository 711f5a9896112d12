package main

import (
	"net"
	"net/http"

	"github.com/gorilla/websocket"

	"github.com/atrium-go/atrium/bench/process"
)

// gorillaServe serves each connection in a goroutine of its own, which lets go of what net/http's
// holds. Buffers of no size mean that those of net/http are reused, as gorilla recommends.
func gorillaServe(l net.Listener, compress bool, serve func(*websocket.Conn)) {
	upgrader := websocket.Upgrader{EnableCompression: compress}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			serve(c)
		}()
	}))
}

// gorillaEcho is as in gorilla's example of an echo.
func gorillaEcho(compress bool) process.Kind {
	return func(l net.Listener) func(int) {
		gorillaServe(l, compress, func(c *websocket.Conn) {
			for {
				t, p, err := c.ReadMessage()
				if err != nil {
					return
				}
				if err := c.WriteMessage(t, p); err != nil {
					return
				}
			}
		})
		return nil
	}
}

func gorillaCall(l net.Listener) func(int) {
	gorillaServe(l, false, func(c *websocket.Conn) {
		for {
			var r request
			if err := c.ReadJSON(&r); err != nil {
				return
			}
			if err := c.WriteJSON(r.handle()); err != nil {
				return
			}
		}
	})
	return nil
}

// gorillaRoom prepares each message once for all members (PreparedMessage).
func gorillaRoom(l net.Listener) func(int) {
	h := newLobby[*websocket.PreparedMessage]()
	prepare := func(text []byte) *websocket.PreparedMessage {
		m, err := websocket.NewPreparedMessage(websocket.TextMessage, text)
		check(err)
		return m
	}
	gorillaServe(l, false, func(c *websocket.Conn) {
		h.serve(prepare([]byte(welcome)), c.WritePreparedMessage, func() { c.Close() }, func() {
			for {
				if _, _, err := c.NextReader(); err != nil {
					return
				}
			}
		})
	})
	said := message{size: roomSize}
	return room(h.count, each(func(n int) { h.say(prepare(said.data(n))) }))
}
