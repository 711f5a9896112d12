package main

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bench/process"
)

// accept hijacks what net/http accepts, like Upgrade, and no more.
func accept(l net.Listener, serve func(net.Conn)) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		nc, buffered, err := http.NewResponseController(w).Hijack()
		check(err)
		_, err = buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		check(err)
		check(buffered.Flush())
		go serve(nc)
	}
	go http.Serve(l, http.HandlerFunc(handler))
}

// bareEcho reads, unmasks, and answers each read with one write. It checks nothing.
func bareEcho(l net.Listener) func(int) {
	accept(l, func(nc net.Conn) {
		in, out := make([]byte, 4096), make([]byte, 0, 4096)
		w := 0
		for {
			n, err := nc.Read(in[w:])
			if err != nil {
				return
			}
			w += n
			r := 0
			out = out[:0]
			for {
				h, size := process.ParseHeader(in[r:w])
				if size == 0 || w-r-size < h.Length {
					break
				}
				payload := in[r+size : r+size+h.Length]
				process.Mask(payload, h.Key)
				h.Masked = false
				out = append(process.AppendHeader(out, h), payload...)
				r += size + len(payload)
			}
			w = copy(in, in[r:w])
			if _, err := nc.Write(out); err != nil {
				return
			}
		}
	})
	return nil
}

func connEcho(l net.Listener) func(int) {
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := atrium.Upgrade(w, r, atrium.UpgradeOptions{})
		if err != nil {
			return
		}
		go func() {
			buf := make([]byte, 0, 32<<10)
			for {
				op, p, err := c.ReadInto(context.Background(), buf)
				if err != nil {
					return
				}
				if err := c.Write(context.Background(), op, p); err != nil {
					return
				}
			}
		}()
	}))
	return nil
}

// bareFanOut writes the same bytes to one connection after the other.
func bareFanOut(l net.Listener) func(int) {
	var mu sync.Mutex
	var conns []net.Conn
	accept(l, func(nc net.Conn) {
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, nc)
	})
	frame := append(process.AppendHeader(nil, process.Header{Opcode: process.OpText, Length: len(event)}), event...)
	return func(outstanding int) {
		waitFor(func() int { mu.Lock(); defer mu.Unlock(); return len(conns) })
		for range outstanding {
			for _, nc := range conns {
				_, err := nc.Write(frame)
				check(err)
			}
		}
	}
}

func hubFanOut(l net.Listener) func(int) {
	h := atrium.New(atrium.Options{Timeouts: atrium.Timeouts{PingInterval: time.Hour}}) // its clients answer no pings
	go http.Serve(l, h)
	return func(outstanding int) {
		waitFor(func() int {
			n, err := h.Count(context.Background())
			check(err)
			return n
		})
		for range outstanding {
			check(h.Emit("said", "hello, everybody"))
		}
	}
}

// waitFor waits until all members are there: a client knows that it is connected a little before
// the server does.
func waitFor(count func() int) {
	for count() < members {
		time.Sleep(time.Millisecond)
	}
}
