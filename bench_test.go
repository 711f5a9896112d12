package atrium

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkOnCall is a client's call and its acknowledgement over TCP, beside the same bytes echoed
// by a bare loop.
func BenchmarkOnCall(b *testing.B) {
	call := maskedText(`{"event":"add","data":{"a":1,"b":2},"id":7}`)
	b.Run("hub", func(b *testing.B) {
		h := newHub(b, Options{})
		OnCall(h, "add", func(s *Socket, v struct{ A, B int }) (int, error) { return v.A + v.B, nil })
		nc := serve(b, overTCP, h).connected(b)
		b.ReportAllocs()
		for b.Loop() {
			roundTrip(b, nc, call, len(`{"id":7,"data":3}`))
		}
		nc.Close()
	})
	b.Run("bare", func(b *testing.B) {
		l := listenTCP(b)
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				h, at, _ := parseHeader(buf[:n])
				mask(buf[at:n], h.Key, 0)
				c.Write(buf[:2+len(`{"id":7,"data":3}`)])
			}
		}()
		nc, err := dialTCP(l)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			roundTrip(b, nc, call, len(`{"id":7,"data":3}`))
		}
		nc.Close()
	})
}

func maskedText(s string) []byte {
	frame := appendHeader(nil, frameHeader{Fin: true, Opcode: opText, Masked: true, Length: int64(len(s))})
	return append(frame, s...)
}

// connected returns a connection from which the hub's first message has been read.
func (s *server) connected(b *testing.B) net.Conn {
	nc, early := s.upgrade(b)
	readFrame(b, io.MultiReader(bytes.NewReader(early), nc), len(`{"event":"connect","data":{"sid":"12345678901234567890"}}`))
	return nc
}

// readFrame reads a server's frame whose payload has n bytes, at most 125.
func readFrame(b *testing.B, r io.Reader, n int) {
	var frame [2 + maxControlPayload]byte
	if _, err := io.ReadFull(r, frame[:2+n]); err != nil {
		b.Fatal(err)
	}
}

func roundTrip(b *testing.B, nc net.Conn, frame []byte, n int) {
	if _, err := nc.Write(frame); err != nil {
		b.Fatal(err)
	}
	readFrame(b, nc, n)
}

// BenchmarkFanOut is one event to 1,000 members of a room over TCP, until all have received it: of
// one hub, and of two that a bus joins, half of them each; beside a bare loop of writes of the same
// frame to as many sockets. One op is 1,000 deliveries.
func BenchmarkFanOut(b *testing.B) {
	const members = 1000
	frame := prependHeader(appendPlain(newFrame(0), packet{kind: packetEvent, eventData: dataOf("said", `"hello, everybody"`, 1, noID)}), frameHeader{Fin: true, Opcode: opText})
	// drain makes each connection report every frame it has received.
	drain := func(conns []net.Conn, got chan<- struct{}) {
		for _, c := range conns {
			go func() {
				buf := make([]byte, 4096)
				for have := 0; ; {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					for have += n; have >= len(frame); have -= len(frame) {
						got <- struct{}{}
					}
				}
			}()
		}
	}
	for _, outstanding := range []int{1, 8} {
		for _, nodes := range []int{1, 2} {
			b.Run(fmt.Sprintf("hubs=%d/outstanding=%d", nodes, outstanding), func(b *testing.B) {
				var options Options
				if nodes > 1 {
					options.Bus = new(MemoryBus)
				}
				hubs, servers := make([]*Hub, nodes), make([]*server, nodes)
				for i := range hubs {
					hubs[i] = newHub(b, options)
					hubs[i].OnConnect(func(s *Socket) { s.Join("room") })
					servers[i] = serve(b, overTCP, hubs[i])
				}
				conns := make([]net.Conn, members)
				for i := range conns {
					conns[i] = servers[i%nodes].connected(b)
				}
				for _, h := range hubs {
					for h.roomSize("room") < members/nodes {
					}
					h.await(b.Context(), []string{"room"})
				}
				got := make(chan struct{}, members*outstanding)
				drain(conns, got)
				b.ReportAllocs()
				for b.Loop() {
					for range outstanding {
						hubs[0].To("room").Emit("said", "hello, everybody")
					}
					for range members * outstanding {
						<-got
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members*outstanding), "ns/delivery")
				for _, c := range conns {
					c.Close()
				}
			})
		}
		b.Run(fmt.Sprintf("bare/outstanding=%d", outstanding), func(b *testing.B) {
			l := listenTCP(b)
			defer l.Close()
			conns, ours := make([]net.Conn, members), make([]net.Conn, members)
			for i := range conns {
				var err error
				if conns[i], err = dialTCP(l); err != nil {
					b.Fatal(err)
				}
				if ours[i], err = l.Accept(); err != nil {
					b.Fatal(err)
				}
				defer conns[i].Close()
				defer ours[i].Close()
			}
			got := make(chan struct{}, members*outstanding)
			drain(conns, got)
			b.ReportAllocs()
			for b.Loop() {
				for range outstanding {
					for _, c := range ours {
						c.Write(frame)
					}
				}
				for range members * outstanding {
					<-got
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members*outstanding), "ns/delivery")
		})
	}
}

// roomSize returns how many members a room has.
func (n *Namespace) roomSize(name string) int {
	if r := n.room(name); r != nil {
		return r.count()
	}
	return 0
}

// crowd returns a hub with members for whom nobody writes, and what empties their queues, as if all
// had left.
func crowd(members int) (h *Hub, empty func()) {
	h = New(Options{Limits: Limits{QueuedBytes: 1 << 30}})
	for range members {
		s := h.newPlain(newConn(nil, connConfig{maxQueued: 1 << 30}), nil, nil)
		s.session.conn.Load().out.state = writerWriting // nobody writes
		h.enter(s)
		s.state.Store(socketConnected)
	}
	return h, func() {
		h.everyone.each(func(s *Socket) {
			o := &s.session.conn.Load().out
			o.frames.items, o.bytes = o.frames.items[:0], 0 // the room for the next is there
		})
	}
}

// BenchmarkEmit is the part of a broadcast that the emitter waits for, without the network:
// encoding once, queueing for each member.
func BenchmarkEmit(b *testing.B) {
	for _, members := range []int{1, 1000, 20_000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			h, empty := crowd(members)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				h.Emit("said", "hello, everybody")
				if i%16 == 0 {
					empty()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members), "ns/delivery")
		})
	}
}

// BenchmarkStats is a look at the figures of a hub with many clients.
func BenchmarkStats(b *testing.B) {
	for _, members := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			h, _ := crowd(members)
			for _, s := range h.LocalSockets() {
				h.add(s.session, "")
			}
			b.ReportAllocs()
			for b.Loop() {
				h.Stats()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members), "ns/member")
		})
	}
}

// BenchmarkTo is Emit to many rooms of two members each, who are reached once: what it costs a room
// does not depend on how many there are, but for the processor's caches.
func BenchmarkTo(b *testing.B) {
	const all = 20_000
	h, empty := crowd(all)
	list := h.LocalSockets()
	names := make([]string, all)
	for i, s := range list {
		names[i] = strconv.FormatUint(uint64(i)*0x9E3779B97F4A7C15, 36) // in no order
		s.Join(names[i])
		list[(i+1)%all].Join(names[i])
	}
	for _, rooms := range []int{10, 1000, all} {
		b.Run(fmt.Sprintf("rooms=%d", rooms), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				at := i * rooms % all
				h.To(names[at:at+rooms]...).Emit("said", "hello, everybody")
				if at+rooms == all && i%16 == 0 {
					empty()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*rooms), "ns/room")
		})
	}
}

// BenchmarkJoin makes a room of two members, who leave it again.
func BenchmarkJoin(b *testing.B) {
	h, _ := crowd(2)
	list := h.LocalSockets()
	b.ReportAllocs()
	for b.Loop() {
		for _, s := range list {
			s.Join("room")
		}
		for _, s := range list {
			s.Leave("room")
		}
	}
}

// BenchmarkClusterMessage is what a broadcast costs beside its deliveries: at the node that emits
// it, encoding its arguments once more as bytes; at one that has members, parsing that and
// forwarding the bytes, whatever JSON they are.
func BenchmarkClusterMessage(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		m, err := newMessage("/", "said", []any{strings.Repeat("x", size)}, defaultMaxAttachments)
		if err != nil {
			b.Fatal(err)
		}
		out := Target{ns: &Namespace{name: "/"}, scoped: true, rooms: []string{"room"}}.message(clusterEvent)
		out.from = "abcde"
		out.eventData = m.eventData
		encoded := out.encode()
		b.Run(fmt.Sprintf("encode/bytes=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				out.encode()
			}
		})
		b.Run(fmt.Sprintf("parse/bytes=%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				in, ok := parseClusterMessage(encoded)
				if !ok {
					b.Fatal("it is none")
				}
				acquireMessage(in.namespace, in.eventData).release()
			}
		})
	}
}

// BenchmarkHandshake is the server's part of connections over TCP that are opened and closed, by
// handlers of WebSockets and by one that only hijacks. Its allocations are net/http's, too.
func BenchmarkHandshake(b *testing.B) {
	bare := func(w http.ResponseWriter, _ *http.Request) {
		nc, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			b.Error(err)
			return
		}
		io.WriteString(nc, switching(acceptKey("dGhlIHNhbXBsZSBub25jZQ==")))
		nc.Close()
	}
	upgrade := func(w http.ResponseWriter, r *http.Request) {
		if c, err := Upgrade(w, r, UpgradeOptions{}); err == nil {
			go func() {
				_, _, err := c.Read(context.Background())
				for err == nil {
					_, _, err = c.Read(context.Background())
				}
			}()
		}
	}
	h := newHub(b, Options{})
	h.OnConnect(func(s *Socket) { s.Join("room") })
	end := maskedFrame(opClose, closePayload(1000, ""))
	for _, bench := range []struct {
		name, query, frames string
		handler             http.Handler
	}{
		{"bare", "", end, http.HandlerFunc(bare)},
		{"Upgrade", "", end, http.HandlerFunc(upgrade)},
		{"plain", "", end, h},
		{"SocketIO", "?EIO=4&transport=websocket", maskedFrame(opText, "40") + end, h},
	} {
		b.Run(bench.name, func(b *testing.B) {
			l := serve(b, overTCP, bench.handler).listener
			request := strings.Replace(handshakeHead, "GET /", "GET /"+bench.query, 1) + "\r\n"
			b.ReportAllocs()
			buf := make([]byte, 4096)
			for b.Loop() {
				nc, err := dialTCP(l)
				if err != nil {
					b.Fatal(err)
				}
				write(b, nc, request)
				nc.Read(buf)
				write(b, nc, bench.frames)
				io.Copy(io.Discard, nc)
				nc.Close()
			}
		})
	}
}
