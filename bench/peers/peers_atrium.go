package main

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bench/process"
)

// atriumEcho reads each message into memory of its own, or into the same buffer.
func atriumEcho(reuse bool, compression atrium.Compression) process.Kind {
	return func(l net.Listener) func(int) {
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := atrium.Upgrade(w, r, atrium.UpgradeOptions{Compression: compression})
			if err != nil {
				return
			}
			go func() {
				defer c.CloseNow()
				ctx := context.Background()
				var buf []byte
				for {
					op, p, err := c.ReadInto(ctx, buf)
					if err != nil {
						return
					}
					if err := c.Write(ctx, op, p); err != nil {
						return
					}
					if reuse {
						buf = p
					}
				}
			}()
		}))
		return nil
	}
}

// atriumRoom is a hub whose members join a room. They speak the plain protocol or Socket.IO.
func atriumRoom(said envelope) process.Kind {
	return func(l net.Listener) func(int) {
		h := atrium.New(atrium.Options{Timeouts: atrium.Timeouts{PingInterval: time.Hour}})
		h.Use(func(s *atrium.Socket) error { return s.Join("room") })
		go http.Serve(l, h)
		count := func() int {
			n, err := h.To("room").Count(context.Background())
			check(err)
			return n
		}
		text := message{said, roomSize}
		return room(count, each(func(n int) {
			check(h.To("room").Emit("said", string(text.data(n))))
		}))
	}
}

func atriumCall(l net.Listener) func(int) {
	h := atrium.New(atrium.Options{Timeouts: atrium.Timeouts{PingInterval: time.Hour}})
	atrium.OnCall(h, "echo", func(_ *atrium.Socket, d data) (data, error) { return d, nil })
	go http.Serve(l, h)
	return nil
}
