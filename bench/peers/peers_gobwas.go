package main

import (
	"net"
	"net/http"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// gobwasServe upgrades on net/http, or on the connection itself, which is what gobwas is known for.
func gobwasServe(l net.Listener, onHTTP bool, serve func(net.Conn)) {
	if onHTTP {
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if nc, _, _, err := ws.UpgradeHTTP(r, w); err == nil {
				go serve(nc)
			}
		}))
		return
	}
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if _, err := ws.Upgrade(nc); err != nil {
					nc.Close()
					return
				}
				serve(nc)
			}()
		}
	}()
}

// gobwasEcho is as in gobwas's documentation.
func gobwasEcho(onHTTP bool) func(net.Listener) func(int) {
	return func(l net.Listener) func(int) {
		gobwasServe(l, onHTTP, func(nc net.Conn) {
			defer nc.Close()
			for {
				p, op, err := wsutil.ReadClientData(nc)
				if err != nil {
					return
				}
				if err := wsutil.WriteServerMessage(nc, op, p); err != nil {
					return
				}
			}
		})
		return nil
	}
}

// gobwasRoom compiles the frame of each message once for all members.
func gobwasRoom(onHTTP bool) func(net.Listener) func(int) {
	return func(l net.Listener) func(int) {
		h := newHomeRoom[[]byte]()
		compile := func(text []byte) []byte { return ws.MustCompileFrame(ws.NewTextFrame(text)) }
		gobwasServe(l, onHTTP, func(nc net.Conn) {
			write := func(frame []byte) error {
				_, err := nc.Write(frame)
				return err
			}
			h.serve(compile([]byte(welcome)), write, func() { nc.Close() }, func() {
				for {
					if _, _, err := wsutil.ReadClientData(nc); err != nil {
						return
					}
				}
			})
		})
		said := message{size: roomSize}
		return room(h.count, each(func(n int) { h.say(compile(said.data(n))) }))
	}
}
