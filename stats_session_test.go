package atrium

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// meteredConn counts the bytes of a network connection.
type meteredConn struct {
	net.Conn
	in, out atomic.Uint64
}

func (m *meteredConn) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.in.Add(uint64(n))
	return n, err
}

func (m *meteredConn) Write(p []byte) (int, error) {
	n, err := m.Conn.Write(p)
	m.out.Add(uint64(n))
	return n, err
}

// metered connects a client by a handshake with the target, and counts what goes over the
// WebSocket.
func (s *server) metered(t testing.TB, target string) (*client, *meteredConn) {
	t.Helper()
	nc := s.raw(t)
	r := request(t, nc, handshake("GET "+target+" HTTP/1.1"))
	m := &meteredConn{Conn: nc}
	m.in.Add(uint64(len(r.rest)))
	conn := newConn(m, connConfig{client: true, readLimit: 64 << 20, maxQueued: 64 << 20, early: r.rest})
	t.Cleanup(func() { conn.CloseNow() })
	return &client{conn, t, ""}, m
}

// The figures of a session are what its client counts; the time of a round trip is what the client
// took to answer a ping.
func TestSessionFigures(t *testing.T) {
	for _, row := range []struct {
		name, target, connect, event string
		want                         sessionFigures
	}{
		{"plain", "/", "", `{"event":"echo","data":"x","id":1}`, sessionFigures{
			protocol: "plain", received: traffic{messages: 2}, sent: traffic{messages: 3},
		}},
		{"Socket.IO", "/?EIO=4&transport=websocket", "40", `421["echo","x"]`, sessionFigures{
			protocol: "socket.io", received: traffic{messages: 3}, sent: traffic{messages: 4},
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				h := newEcho(t, Options{})
				c, m := serve(t, overPipe, h).metered(t, row.target)
				if row.connect != "" {
					c.next()
					c.send(row.connect)
				}
				c.next()
				c.send(row.event)
				c.next()
				c.send(row.event)
				c.next()
				synctest.Wait()
				s := h.list()[0]

				<-time.After(h.options.Timeouts.PingInterval * 5 / 4)
				took := nanotime() - s.conn.Load().pings.heartbeat.pinged.Load()
				heard := c.listen()
				if row.connect != "" {
					if got := <-heard; *got != "2" {
						t.Fatalf("got %s, want a ping", *got)
					}
					c.send("3")
				}
				synctest.Wait()
				got := s.figures()
				row.want.transport, row.want.roundTrip = "websocket", time.Duration(took)
				row.want.received.bytes, row.want.sent.bytes = m.out.Load(), m.in.Load()
				row.want.opened = got.opened
				if diff := cmp.Diff(row.want, got, cmp.AllowUnexported(sessionFigures{}, traffic{})); diff != "" {
					t.Error(diff)
				}
				if d := got.opened.Sub(began); d < 0 || d > time.Second {
					t.Errorf("opened after %v", d)
				}
			})
		})
	}
}

// A client that polls has its packets and bodies counted; after its upgrade, both transports.
func TestSessionFiguresPolling(t *testing.T) {
	h := newEcho(t, Options{})
	e := serve(t, overTCP, h).engine(t)
	var want sessionFigures
	want.protocol, want.transport = "socket.io", "polling"
	get := func(packets uint64) {
		t.Helper()
		want.sent = want.sent.plus(traffic{packets, uint64(len(e.get().body))})
	}
	post := func(packets uint64, body string) {
		t.Helper()
		want.received = want.received.plus(traffic{packets, uint64(len(body))})
		e.post(body).want(t, 200, "ok")
	}
	handshake := e.get().body
	e.sid = handshakeForm.FindStringSubmatch(handshake)[1]
	want.sent = traffic{1, uint64(len(handshake))}
	s := h.poll(e.sid).session
	check := func(what string) {
		t.Helper()
		want.opened = s.figures().opened
		if !poll(func() bool { return s.figures() == want }) { // a write counts when it has returned
			t.Fatalf("%s: %s", what, cmp.Diff(want, s.figures(), cmp.AllowUnexported(sessionFigures{}, traffic{})))
		}
	}
	post(1, "40")
	get(1)
	check("connected")
	post(2, "3\x1e"+`421["echo","x"]`+"\x1e"+`40/custom`)
	eventually(t, "both answers", func() bool {
		return s.figures().queued == len(`431["x"]`)+len(`40/custom,{"sid":"12345678901234567890"}`)
	})
	get(2)
	check("two packets")
	post(3, `452-["bytes",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`+"\x1ebAQ==\x1ebAg==")
	get(3)
	check("attachments")

	s.ping()
	eventually(t, "the ping", func() bool { return s.figures().queued == 1 })
	get(0)
	post(0, "3")
	if got := s.figures().roundTrip; got <= 0 || got > patience {
		t.Errorf("a round trip of %v", got)
	} else {
		want.roundTrip = got
	}
	check("a ping")

	c := e.probing()
	for _, exchange := range [][2]string{{"2probe", "3probe"}, {"5", ""}, {`422["echo","x"]`, `432["x"]`}} {
		c.send(exchange[0])
		want.received.bytes += uint64(2 + len(frameHeader{}.Key) + len(exchange[0]))
		if exchange[1] != "" {
			c.want(exchange[1])
			want.sent.bytes += uint64(2 + len(exchange[1]))
		}
	}
	want.received.messages++
	want.sent.messages++
	want.transport = "websocket"
	check("upgraded")
}
