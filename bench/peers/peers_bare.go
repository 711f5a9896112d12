package main

import (
	"net"
	"net/http"
	"sync"

	"github.com/atrium-go/atrium/bench/process"
)

// The bare loops are what to compare with: they do what any server must, check nothing, and are not
// to be used. They hijack what net/http has accepted, like the libraries, and answer with a fixed
// response.

func hijack(l net.Listener, serve func(net.Conn)) {
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		nc, _, err := http.NewResponseController(w).Hijack()
		check(err)
		_, err = nc.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"))
		check(err)
		go serve(nc)
	}))
}

// bareHandshake ends each connection when something comes.
func bareHandshake(l net.Listener) func(int) {
	hijack(l, func(nc net.Conn) {
		nc.Read(make([]byte, 64))
		nc.Close()
	})
	return nil
}

// bareEcho answers each message with a write, or what it has read at once with one write.
func bareEcho(gathered bool) process.Kind {
	return func(l net.Listener) func(int) {
		hijack(l, func(nc net.Conn) {
			defer nc.Close()
			var out []byte
			bareRead(nc, 64<<10, func(t process.Opcode, payload []byte, last bool) (err error) {
				out = append(process.AppendHeader(out, process.Header{Opcode: t, Length: len(payload)}), payload...)
				if last || !gathered {
					_, err = nc.Write(out)
					out = out[:0]
				}
				return err
			})
		})
		return nil
	}
}

// bareRead calls handle with each message, and whether it is the last of those read at once, until
// a close frame comes. Its buffer has a size, or that of a larger message.
func bareRead(nc net.Conn, buffer int, handle func(t process.Opcode, payload []byte, last bool) error) {
	in := make([]byte, buffer)
	have := 0
	for {
		n, err := nc.Read(in[have:])
		if err != nil {
			return
		}
		have += n
		rest := in[:have]
		h, size := process.ParseHeader(rest)
		for size > 0 && len(rest) >= size+h.Length {
			payload := rest[size : size+h.Length]
			process.Mask(payload, h.Key)
			rest = rest[size+h.Length:]
			t := h.Opcode
			h, size = process.ParseHeader(rest)
			last := size == 0 || len(rest) < size+h.Length
			if t == process.OpClose || handle(t, payload, last) != nil {
				return
			}
		}
		have = copy(in, rest)
		if missing := size + h.Length - len(in); size > 0 && missing > 0 {
			in = append(in, make([]byte, missing)...)
		}
	}
}

// bareRoom writes to one member after the other: each message with a write, or all that are
// outstanding with one, which is as well as they can be batched.
func bareRoom(gathered bool) process.Kind {
	return func(l net.Listener) func(int) {
		var mu sync.Mutex
		members := make(map[net.Conn]bool)
		hijack(l, func(nc net.Conn) {
			defer nc.Close()
			_, err := nc.Write(append(process.AppendHeader(nil, process.Header{Opcode: process.OpText, Length: len(welcome)}), welcome...))
			if err != nil {
				return
			}
			mu.Lock()
			members[nc] = true
			mu.Unlock()
			bareRead(nc, 512, func(process.Opcode, []byte, bool) error { return nil })
			mu.Lock()
			delete(members, nc)
			mu.Unlock()
		})
		write := func(frames []byte) {
			mu.Lock()
			defer mu.Unlock()
			for nc := range members {
				nc.Write(frames)
			}
		}
		count := func() int { mu.Lock(); defer mu.Unlock(); return len(members) }
		said := message{size: roomSize}
		return room(count, func(first, n int) {
			var frames []byte
			for i := range n {
				frames = append(process.AppendHeader(frames, process.Header{Opcode: process.OpText, Length: said.size}), said.bytes(first+i)...)
				if i == n-1 || !gathered {
					write(frames)
					frames = frames[:0]
				}
			}
		})
	}
}
