package main

import (
	"net"
	"net/http"

	"github.com/gorilla/websocket"
)

// gorillaUpgrader has no buffers of its own: it then reuses those of net/http, as its documentation
// recommends.
var gorillaUpgrader = websocket.Upgrader{}

// gorillaEcho is as in gorilla's example of an echo.
func gorillaEcho(l net.Listener) func(int) {
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := gorillaUpgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			for {
				t, p, err := c.ReadMessage()
				if err != nil {
					return
				}
				if err := c.WriteMessage(t, p); err != nil {
					return
				}
			}
		}()
	}))
	return nil
}

// gorillaRoom prepares each message once for all members (PreparedMessage).
func gorillaRoom(l net.Listener) func(int) {
	h := newHomeRoom[*websocket.PreparedMessage]()
	prepare := func(text []byte) *websocket.PreparedMessage {
		m, err := websocket.NewPreparedMessage(websocket.TextMessage, text)
		check(err)
		return m
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := gorillaUpgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		go h.serve(prepare([]byte(welcome)), c.WritePreparedMessage, func() { c.Close() }, func() {
			for {
				if _, _, err := c.NextReader(); err != nil {
					return
				}
			}
		})
	}))
	said := message{size: roomSize}
	return room(h.count, each(func(n int) { h.say(prepare(said.data(n))) }))
}
