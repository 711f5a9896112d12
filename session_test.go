package atrium

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Pings come at intervals, the first ones not earlier, and not all at once. Neither an idle
// connection nor its heartbeat is a message that takes too long.
func TestSessionPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval, timeout = 8 * time.Second, 6 * time.Second
		h := newHub(t, Options{Timeouts: Timeouts{PingInterval: interval, Ping: timeout, Message: 5 * time.Second}})
		srv := serve(t, overPipe, h)
		late := 2 * time.Duration(h.sessions.clock.tick)
		var mu sync.Mutex
		firsts := make(map[time.Duration]bool)
		var all sync.WaitGroup
		for range 20 {
			p := srv.peer(t).accepted()
			all.Go(func() {
				last, least, most := time.Now(), interval, interval+timeout/4
				for i := range 5 {
					hd, m, err := p.read()
					if err != nil || hd.Opcode != opPing {
						t.Errorf("got %v %q, %v; want a ping", hd.Opcode, m, err)
						return
					}
					since := time.Since(last)
					if since < least || since > most+late {
						t.Errorf("ping %d after %v", i, since)
					}
					if i == 0 {
						mu.Lock()
						firsts[since] = true
						mu.Unlock()
					}
					last, least, most = time.Now(), interval-late, interval
					p.send(p.frame(opPong, m))
				}
			})
		}
		all.Wait()
		if len(firsts) < 5 {
			t.Errorf("20 clients' first pings at only %d times", len(firsts))
		}
	})
}

func TestSessionPingTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{Timeouts: Timeouts{PingInterval: 8 * time.Second, Ping: 6 * time.Second}})
		left := leavings(h)
		p := serve(t, overPipe, h).peer(t).accepted()
		p.want(opPing, "")
		pinged := time.Now()
		p.send(p.frame(opPong, "")[:1]) // any byte is life
		p.want(opPing, "")
		wantAfter(t, h, "the next ping", pinged, 8*time.Second-2*time.Duration(h.sessions.clock.tick))
		pinged = time.Now()
		p.wantClose(StatusPolicyViolation, "ping timeout")
		wantAfter(t, h, "the close frame", pinged, 6*time.Second)
		wantReason(t, left, ReasonPingTimeout)
	})
}

func TestSessionConnectTimeout(t *testing.T) {
	for _, asks := range []bool{false, true} {
		t.Run(fmt.Sprintf("asks %t", asks), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Options{Timeouts: Timeouts{Connect: 5 * time.Second}})
				gate := make(chan struct{})
				h.Use(func(*Socket) error { <-gate; return nil })
				h.OnConnect(func(*Socket) { t.Error("OnConnect ran") })
				h.OnDisconnect(func(*Socket, Reason) { t.Error("OnDisconnect ran") })
				p := serve(t, overPipe, h).peer(t, "Sec-WebSocket-Protocol: atrium")
				start := time.Now()
				if asks { // and Use takes too long
					p.send(p.frame(opText, `{"event":"connect"}`))
				}
				p.wantClose(StatusPolicyViolation, "connect timeout")
				wantAfter(t, h, "the close frame", start, 5*time.Second)
				close(gate)
			})
		})
	}
}

func TestSessionMessageTimeout(t *testing.T) {
	tests := []struct {
		name  string
		begin func(p *peer) []byte
	}{
		{"a byte", func(p *peer) []byte { return p.frame(opText, "x")[:1] }},
		{"a payload's beginning", func(p *peer) []byte { return p.frame(opText, `{"event":"e"}`)[:10] }},
		{"a fragment", func(p *peer) []byte { return p.part(opText, `{"event":`) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Options{Timeouts: Timeouts{PingInterval: time.Hour, Message: 5 * time.Second}})
				left := leavings(h)
				p := serve(t, overPipe, h).peer(t).accepted()
				<-time.After(time.Minute) // idleness is no message
				start := time.Now()
				p.send(test.begin(p))
				var sending sync.WaitGroup
				defer sending.Wait()
				if test.name == "a fragment" {
					sending.Go(func() { // what comes in between does not count
						<-time.After(3 * time.Second)
						p.send(p.frame(opPong, ""), p.part(opContinuation, `"e"`))
					})
				}
				p.wantClose(StatusPolicyViolation, "message timeout")
				wantAfter(t, h, "the close frame", start, 5*time.Second)
				wantReason(t, left, ReasonForcedServerClose)
			})
		})
	}
}

func TestSessionDisconnectAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
		left := leavings(h)
		sockets := make(chan *Socket, 1)
		h.OnConnect(func(s *Socket) { sockets <- s })
		h.Handle("e", func(*Event) {})
		srv := serve(t, overPipe, h)
		p := srv.peer(t).accepted()
		s, start := <-sockets, time.Now()
		s.DisconnectAt(start.Add(time.Second))
		s.DisconnectAt(start.Add(10 * time.Second))
		for i := range 10 { // a second's silence between its events
			p.send(p.frame(opText, fmt.Sprintf(`{"event":"e","id":%d}`, i)))
			p.want(opText, fmt.Sprintf(`{"id":%d}`, i))
			if i < 9 {
				<-time.After(time.Second)
			}
		}
		p.wantClose(StatusNormalClosure, string(ReasonServerDisconnect))
		wantAfter(t, h, "the close frame", start, 10*time.Second)
		wantReason(t, left, ReasonServerDisconnect)

		p = srv.peer(t).accepted()
		s = <-sockets
		s.DisconnectAt(time.Now().Add(time.Second))
		s.DisconnectAt(time.Time{})
		<-time.After(time.Minute)
		p.send(p.frame(opText, `{"event":"e","id":1}`))
		p.want(opText, `{"id":1}`)
		s.DisconnectAt(time.Now().Add(-time.Second))
		p.wantClose(StatusNormalClosure, string(ReasonServerDisconnect))
	})
}

// The same over a network, in real time.
func TestSessionTimeouts(t *testing.T) {
	tests := []struct {
		name    string
		options Options
		offer   bool
		begin   string // of a message
		says    string
		reason  Reason // "" if OnDisconnect does not run
	}{
		{"ping", Options{Timeouts: Timeouts{PingInterval: 20 * time.Millisecond, Ping: 200 * time.Millisecond}}, false, "", "ping timeout", ReasonPingTimeout},
		{"connect", Options{Timeouts: Timeouts{Connect: 50 * time.Millisecond}}, true, "", "connect timeout", ""},
		{"message", Options{Timeouts: Timeouts{Message: 50 * time.Millisecond}}, false, `{"event":`, "message timeout", ReasonForcedServerClose},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			noLeaks(t)
			h := newHub(t, test.options)
			left := leavings(h)
			var lines []string
			if test.offer {
				lines = append(lines, "Sec-WebSocket-Protocol: atrium")
			}
			p := serve(t, overTCP, h).peer(t, lines...)
			if test.begin != "" {
				h.sockets(1)
				p.send(p.part(opText, test.begin))
			}
			p.wantCloseNext(StatusPolicyViolation, test.says) // a ping may come before the connect message
			p.nc.Close()
			if test.reason != "" {
				wantReason(t, left, test.reason)
			}
		})
	}
}

// What a client sends right behind its connect message is handled after it is accepted.
func TestSessionPipelined(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		gate := make(chan struct{})
		h.Use(func(*Socket) error { <-gate; return nil })
		h.OnConnect(func(s *Socket) { s.Emit("welcome") })
		OnCall(h, "e", func(_ *Socket, n int) (int, error) { return n, nil })
		p := serve(t, k, h).peer(t, "Sec-WebSocket-Protocol: atrium")
		stream := p.frame(opText, `{"event":"connect","data":{"token":"x"}}`)
		for i := range 10 {
			stream = append(stream, p.frame(opText, fmt.Sprintf(`{"event":"e","data":%d,"id":%d}`, i, i))...)
		}
		p.send(stream)
		within(t, p.sent(), "the messages")
		close(gate)
		p.accepted()
		p.want(opText, `{"event":"welcome"}`)
		for i := range 10 {
			p.want(opText, fmt.Sprintf(`{"id":%d,"data":%d}`, i, i))
		}
	})
}

func TestSessionRefusesFirstMessage(t *testing.T) {
	const expected = `expected {\"event\":\"connect\",\"data\":…} as the first message`
	tests := []struct{ name, sends, says string }{
		{"an event", `{"event":"e"}`, expected},
		{"an acknowledgement", `{"id":1}`, expected},
		{"with an id", `{"event":"connect","id":1}`, expected},
		{"two arguments", `{"event":"connect","args":[1,2]}`, expected},
		{"not JSON", `hello`, `expected a JSON object such as {\"event\":\"name\",\"data\":…}`},
	}
	overKinds(t, func(t *testing.T, k kind) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				noLeaks(t)
				h := newHub(t, Options{})
				h.Use(func(*Socket) error { t.Error("Use ran"); return nil })
				c := serve(t, k, h).offer(t)
				c.send(test.sends)
				c.want(`{"event":"connect_error","data":{"message":"` + test.says + `"}}`)
				if e := wantClosed(t, c.Conn, StatusPolicyViolation); e.Reason != "refused" {
					t.Errorf("reason %q", e.Reason)
				}
			})
		}
	})
}

func TestSessionBinary(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		left := leavings(h)
		c := serve(t, k, h).connect(t, nil)
		if err := c.Write(t.Context(), MessageBinary, []byte(`{"event":"e"}`)); err != nil {
			t.Error(err)
		}
		c.wantClosed(StatusUnsupportedData)
		wantReason(t, left, ReasonParseError)
	})
}

// Who is not accepted yet may send less.
func TestSessionMessageSize(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{Limits: Limits{MessageBytes: 100_000}})
		left := leavings(h)
		h.Handle("e", func(*Event) {})
		srv := serve(t, k, h)
		c := srv.offer(t)
		c.emit("connect", strings.Repeat("x", maxBeforeConnect))
		c.wantClosed(StatusMessageTooBig)

		c = srv.connect(t, strings.Repeat("x", maxBeforeConnect-100))
		c.send(`{"event":"e","id":1,"data":"` + strings.Repeat("x", 90_000) + `"}`)
		c.want(`{"id":1}`)
		c.emit("e", strings.Repeat("x", 100_000))
		c.wantClosed(StatusMessageTooBig)
		wantReason(t, left, ReasonMessageTooBig)
	})
}

// Who does not read is dropped, and nobody else notices.
func TestSessionSlowConsumer(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{Limits: Limits{QueuedBytes: 64 << 10}})
	left := leavings(h)
	srv := serve(t, overTCP, h)
	srv.upgrade(t) // and never reads
	c := srv.connect(t, nil)
	eventually(t, "two sockets", func() bool { n, _ := h.Count(t.Context()); return n == 2 })
	text := strings.Repeat("x", 32<<10)
	for i := 0; len(left) == 0; i++ {
		if i == 4000 {
			t.Fatal("still connected")
		}
		if err := h.Emit("e", i, text); err != nil {
			t.Fatal(err)
		}
		c.want(fmt.Sprintf(`{"event":"e","args":[%d,"%s"]}`, i, text))
	}
	wantReason(t, left, ReasonSlowConsumer)
	c.settle()
}

// Emit does not wait for a client that takes nothing; what is volatile is lost for that one only. A
// client with a full queue is given up when it took nothing for five seconds.
func TestSessionStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{Limits: Limits{QueuedBytes: 10_000}})
		left := leavings(h)
		srv := serve(t, overPipe, h)
		stalled := srv.peer(t)
		c := srv.connect(t, nil)
		h.Emit("first") // what stalled does not read
		c.want(`{"event":"first"}`)
		<-time.After(time.Second)
		start := time.Now()
		h.Volatile().Emit("volatile")
		h.Emit("kept")
		if took := time.Since(start); took != 0 {
			t.Errorf("Emit took %v", took)
		}
		c.want(`{"event":"volatile"}`)
		c.want(`{"event":"kept"}`)
		stalled.accepted()
		stalled.want(opText, `{"event":"first"}`)
		stalled.want(opText, `{"event":"kept"}`)

		text := strings.Repeat("x", 6000)
		for range 3 {
			h.Emit("large", text)
			c.want(`{"event":"large","data":"` + text + `"}`)
		}
		start = time.Now()
		wantReason(t, left, ReasonSlowConsumer)
		wantAfter(t, h, "the end", start, stallTimeout)
		h.Emit("on")
		c.want(`{"event":"on"}`)
	})
}

// arrive takes the connect message and returns the hub's end, when it is settled.
func (p *peer) arrive(h *Hub) *Socket {
	p.t.Helper()
	_, hello := p.next()
	sid := strings.TrimSuffix(strings.TrimPrefix(hello, `{"event":"connect","data":{"sid":"`), `"}}`)
	p.send(p.frame(opText, `{"event":"settle","id":999}`))
	p.want(opText, `{"id":999,"error":{"message":"event: \"settle\" is not one that this server knows"}}`)
	s := h.Namespace.socket(sid)
	if s == nil {
		p.t.Fatalf("nobody is known by the id in %s", hello)
	}
	return s
}

// wantCloseNext is wantClose, but for pings and messages before the close frame.
func (p *peer) wantCloseNext(code StatusCode, reason string) {
	p.t.Helper()
	for {
		hd, m := p.next()
		if hd.Opcode == opPing || hd.Opcode == opText {
			continue
		}
		if hd.Opcode != opClose || m != closePayload(code, reason) {
			p.t.Fatalf("got %v %q, want close %d %q", hd.Opcode, m, code, reason)
		}
		return
	}
}

// Every way to leave has its reason, which OnDisconnect is told once, and its close frame. Nothing
// is left of the socket.
func TestSessionReasons(t *testing.T) {
	tests := []struct {
		name   string
		do     func(h *Hub, s *Socket, p *peer)
		reason Reason
		code   StatusCode // 0: no close frame
		text   string
	}{
		{"the client closes", func(_ *Hub, _ *Socket, p *peer) { p.send(p.frame(opClose, closePayload(1000, "bye"))) },
			ReasonTransportClose, 1000, "bye"},
		{"with its own code", func(_ *Hub, _ *Socket, p *peer) { p.send(p.frame(opClose, closePayload(4000, ""))) },
			ReasonTransportClose, 4000, ""},
		{"the connection is cut", func(_ *Hub, _ *Socket, p *peer) { p.hangUp() }, ReasonTransportClose, 0, ""},
		{"cut within a message", func(_ *Hub, _ *Socket, p *peer) { p.send(p.frame(opText, "{}")[:5]); p.hangUp() },
			ReasonTransportClose, 0, ""},
		{"RFC 6455 is broken", func(_ *Hub, _ *Socket, p *peer) { p.send(p.frame(0x3, "")) },
			ReasonTransportError, 1002, "a frame has a reserved opcode 0x3"},
		{"not UTF-8", func(_ *Hub, _ *Socket, p *peer) { p.send(p.frame(opText, "\xff")) },
			ReasonTransportError, 1007, "a text message is not UTF-8"},
		{"binary", func(_ *Hub, _ *Socket, p *peer) { p.send(p.frame(opBinary, "{}")) },
			ReasonParseError, 1003, "expected text messages: a plain client sends JSON"},
		{"Disconnect", func(_ *Hub, s *Socket, _ *peer) { s.Disconnect() },
			ReasonServerDisconnect, 1000, "server namespace disconnect"},
		{"in a handler", func(_ *Hub, _ *Socket, p *peer) { p.send(p.frame(opText, `{"event":"out"}`)) },
			ReasonServerDisconnect, 1000, "server namespace disconnect"},
		{"DisconnectAt", func(_ *Hub, s *Socket, _ *peer) { s.DisconnectAt(time.Now().Add(-time.Hour)) },
			ReasonServerDisconnect, 1000, "server namespace disconnect"},
		{"Target.Disconnect", func(h *Hub, s *Socket, _ *peer) { h.To("room").Disconnect(t.Context()) },
			ReasonServerDisconnect, 1000, "server namespace disconnect"},
		{"a panic", func(_ *Hub, _ *Socket, p *peer) { p.send(p.frame(opText, `{"event":"panic"}`)) },
			ReasonForcedServerClose, 1011, "internal error"},
		{"Shutdown", func(h *Hub, _ *Socket, _ *peer) { go h.Shutdown(context.Background()) },
			ReasonShutdown, 1012, "server shutting down"},
	}
	overKinds(t, func(t *testing.T, k kind) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				noLeaks(t)
				h := newHub(t, Options{Timeouts: Timeouts{PingInterval: 5 * time.Second}}) // a finer clock, for DisconnectAt
				left := leavings(h)
				h.Handle("out", func(e *Event) { e.Socket().Disconnect() })
				h.Handle("panic", func(e *Event) { panic("oops") })
				p := serve(t, k, h).peer(t)
				s := p.arrive(h)
				if err := s.Join("room"); err != nil {
					t.Error(err)
				}
				pending := beginCall[int](context.Background(), s)
				p.want(opText, asking(0))
				test.do(h, s, p)
				if test.code != 0 {
					p.wantCloseNext(test.code, test.text)
					p.hangUp()
				}
				wantReason(t, left, test.reason)
				if err := within(t, pending, "the pending call").err; !errors.Is(err, ErrDisconnected) {
					t.Errorf("the pending call: %v", err)
				}
				if err := h.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				if len(left) > 0 {
					t.Errorf("left again: %q", <-left)
				}
				h.checkNobody(t)
				checkNoCalls(t, s)
				if s.Context().Err() == nil || !s.In("room") || s.Buffered() != 0 {
					t.Error("the context goes on, the room is forgotten, or something is still queued")
				}
			})
		}
	})
}

func TestSessionReasonOfReset(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	left := leavings(h)
	p := serve(t, overTCP, h).peer(t)
	p.arrive(h)
	p.nc.(*net.TCPConn).SetLinger(0)
	p.hangUp()
	wantReason(t, left, ReasonTransportError)
}

// The bounds of a message's size hold to the byte.
func TestSessionMessageBounds(t *testing.T) {
	frame := func(p *peer, head, tail string, size int) []byte {
		return p.frame(opText, head+strings.Repeat("x", size-len(head)-len(tail))+tail)
	}
	for _, test := range []struct{ max, before, after int }{
		{0, 64 << 10, 1 << 20},
		{1000, 1000, 1000},
		{200_000, 64 << 10, 200_000},
	} {
		t.Run(fmt.Sprint(test.max), func(t *testing.T) {
			noLeaks(t)
			h := newHub(t, Options{Limits: Limits{MessageBytes: int64(test.max)}})
			h.Handle("e", func(e *Event) { e.Reply(len(e.Args()[0])) })
			srv := serve(t, overTCP, h)
			p := srv.peer(t, "Sec-WebSocket-Protocol: atrium")
			p.send(frame(p, `{"event":"connect","data":"`, `"}`, test.before+1))
			p.wantClose(StatusMessageTooBig, fmt.Sprintf("a message of %d bytes is over the limit of %d", test.before+1, test.before))

			p = srv.peer(t, "Sec-WebSocket-Protocol: atrium")
			p.send(frame(p, `{"event":"connect","data":"`, `"}`, test.before))
			p.arrive(h)
			head, tail := `{"event":"e","id":1,"data":"`, `"}`
			p.send(frame(p, head, tail, test.after))
			p.want(opText, fmt.Sprintf(`{"id":1,"data":%d}`, test.after-len(head)-len(tail)+2))
			p.send(frame(p, head, tail, test.after+1))
			p.wantClose(StatusMessageTooBig, fmt.Sprintf("a message of %d bytes is over the limit of %d", test.after+1, test.after))
		})
	}
}

// Until it is accepted a client hears nothing but the connect message: neither broadcasts nor
// complaints.
func TestSessionConnectMessageIsFirst(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		asked, gate := make(chan *Socket), make(chan struct{})
		h.Use(func(s *Socket) error { asked <- s; <-gate; return nil })
		srv := serve(t, k, h)
		nc := srv.raw(t)
		client := &peer{client: true}
		stream := handshakeHead + "Sec-WebSocket-Protocol: atrium\r\n\r\n" // all of it in one segment
		for _, text := range []string{`{"event":"connect"}`, `nonsense`, `{"event":"connect","id":2}`, `{"event":"nope"}`, `{"id":77}`} {
			stream += string(client.frame(opText, text))
		}
		r := request(t, nc, stream)
		if got := r.Header.Get("Sec-WebSocket-Protocol"); got != "atrium" {
			t.Errorf("subprotocol %q", got)
		}
		p := newPeer(t, nc, r.rest, true)
		s := within(t, asked, "Use")
		h.Emit("tick")
		s.Emit("tick")
		eventually(t, "all of it received", func() bool { return s.inbox.waiting() == 5 })
		close(gate)
		p.want(opText, `{"event":"connect","data":{"sid":"`+s.ID()+`"}}`)
		p.want(opText, `{"event":"error","data":{"message":"expected a JSON object such as {\"event\":\"name\",\"data\":…}"}}`)
		p.want(opText, `{"id":2,"error":{"message":"event: \"connect\" is reserved"}}`)
		p.want(opText, `{"event":"error","data":{"event":"nope","message":"event: \"nope\" is not one that this server knows"}}`)
		p.want(opText, `{"event":"error","data":{"message":"id: expected the id of a call, 77 is none"}}`)
	})
}

// One who is accepted in time is not timed out later.
func TestSessionConnectInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{})
		h.Use(func(*Socket) error { <-time.After(44 * time.Second); return nil })
		c := serve(t, overPipe, h).offer(t)
		heard := c.listen()
		c.send(`{"event":"connect"}`)
		if m, open := <-heard; !open || !strings.Contains(*m, `"sid"`) {
			t.Fatal("not accepted")
		}
		<-time.After(time.Hour)
		if n, _ := h.Count(t.Context()); n != 1 {
			t.Errorf("%d sockets after an hour", n)
		}
	})
}

// Whatever a client sends is a sign of life.
func TestSessionAnyByteIsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{Timeouts: Timeouts{Message: time.Hour}})
		left := leavings(h)
		p := serve(t, overPipe, h).peer(t)
		end := make(chan string, 1)
		go func() { end <- p.lastText() }()
		for _, b := range chunks(p.frame(opText, `{"event":"x","id":1}`), 1) {
			<-time.After(19 * time.Second) // and no pong
			p.send(b)
		}
		synctest.Wait()
		if len(left) > 0 {
			t.Errorf("left: %s", <-left)
		}
		h.Shutdown(t.Context())
		if got := <-end; !strings.Contains(got, `"id":1`) {
			t.Errorf("the last that came is %s", got)
		}
	})
}

// lastText reads, for however long, until the connection ends, and returns the last message.
func (p *peer) lastText() (text string) {
	for {
		switch hd, m, err := p.read(); {
		case errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			return text
		case hd.Opcode == opText:
			text = m
		case hd.Opcode == opClose:
			p.nc.Close()
			return text
		}
	}
}

// chunks cuts b into pieces of n bytes.
func chunks(b []byte, n int) (pieces [][]byte) {
	for ; len(b) > n; b = b[n:] {
		pieces = append(pieces, b[:n])
	}
	return append(pieces, b)
}

// A message has Timeouts.Message from its first byte to its last, however it dribbles and whatever
// comes in between; what ends in time is not counted together.
func TestSessionDribbles(t *testing.T) {
	tests := []struct {
		name     string
		segments func(p *peer) [][]byte // one every five seconds
		late     bool
	}{
		{"a header", func(p *peer) [][]byte { return chunks(p.frame(opText, strings.Repeat(" ", 70_000))[:14], 1) }, true},
		{"a payload", func(p *peer) [][]byte { return chunks(p.frame(opText, `{"event":"settle"}`), 1) }, true},
		{"fragments", func(p *peer) [][]byte {
			return append([][]byte{p.part(opText, " ")}, chunks(bytes.Repeat(p.part(opContinuation, " "), 20), 7)...)
		}, true},
		{"control frames within a message", func(p *peer) [][]byte {
			return append([][]byte{p.part(opText, " ")}, chunks(bytes.Repeat(p.frame(opPong, "b"), 20), 7)...)
		}, true},
		{"a control frame", func(p *peer) [][]byte { return chunks(p.frame(opPong, strings.Repeat("p", 100)), 1) }, true},
		{"messages and control frames in time", func(p *peer) [][]byte {
			return chunks(bytes.Repeat(append(p.frame(opText, `{}`), p.frame(opPong, `x`)...), 5), 1) // 35 to 40 seconds each
		}, false},
		{"the end of one with the beginning of the next", func(p *peer) [][]byte {
			return chunks(append([]byte(nil), bytes.Repeat(p.frame(opText, `{}`), 30)...)[3:], 8)
		}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
				left := leavings(h)
				p := serve(t, overPipe, h).peer(t)
				p.accepted()
				go p.lastText()
				segments := test.segments(p)
				if strings.HasPrefix(test.name, "the end") {
					p.send(p.frame(opText, `{}`)[:3])
				}
				var begun time.Time
				for i, segment := range segments {
					<-time.After(5 * time.Second)
					if i == 0 {
						begun = time.Now()
					}
					if len(left) > 0 {
						break
					}
					p.send(segment)
				}
				if !test.late {
					if len(left) > 0 {
						t.Errorf("left: %s", <-left)
					}
					return
				}
				wantReason(t, left, ReasonForcedServerClose)
				wantWithin := 2*time.Duration(h.sessions.clock.tick) + 5*time.Second // this loop's own grain
				if took := time.Since(begun); took < time.Minute || took > time.Minute+wantWithin {
					t.Errorf("left after %v", took)
				}
			})
		})
	}
}

// The real network has its deadlines, too, which no bubble shows; TestSessionTimeouts has the
// others.
func TestSessionDeadlinesOverTCP(t *testing.T) {
	const short = 40 * time.Millisecond
	noLeaks(t)
	h := newHub(t, Options{Timeouts: Timeouts{Call: short}})
	p := serve(t, overTCP, h).peer(t)
	s := p.arrive(h)
	start := time.Now()
	if _, err := Call[int](context.Background(), s, "q"); !errors.Is(err, ErrTimeout) || time.Since(start) < short {
		t.Errorf("Call after %v: %v", time.Since(start), err)
	}
	p.want(opText, asking(0))
	start = time.Now()
	s.DisconnectAt(start.Add(short))
	p.wantClose(StatusNormalClosure, "server namespace disconnect")
	if time.Since(start) < short {
		t.Errorf("disconnected after %v", time.Since(start))
	}
}

// A slow consumer is dropped exactly as Limits.QueuedBytes says. It gets the rest of what was being
// written, and status 1008; the other member is neither delayed nor told anything else.
func TestSessionSlowConsumerPolicy(t *testing.T) {
	const bound = 100_000
	text := `{"event":"e","data":"` + strings.Repeat("x", 1000) + `"}`
	size := len(prependHeader(append(newFrame(0), text...), frameHeader{Fin: true, Opcode: opText}))
	cost := size + frameOverhead
	tests := []struct {
		name    string
		fill    int // what is queued at first costs so much
		within  time.Duration
		dropped bool
	}{
		{"no more than QueuedBytes", bound, time.Hour, false},
		{"more than QueuedBytes", bound + 2*cost, stallTimeout, true},
		{"nearly four times as much", 4 * bound, stallTimeout, true},
		{"more than four times as much", 4*bound + 2*cost, 0, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Options{Limits: Limits{QueuedBytes: bound}, Timeouts: Timeouts{PingInterval: 24 * time.Hour}})
				left := leavings(h)
				srv := serve(t, overPipe, h)
				stalled := srv.peer(t)
				s := stalled.arrive(h)
				other := srv.connect(t, nil)
				other.settle()
				start := time.Now()
				emitted := 0
				for ; (emitted+1)*cost <= test.fill; emitted++ {
					if err := h.Emit("e", strings.Repeat("x", 1000)); err != nil {
						t.Fatal(err)
					}
					other.want(text)
					synctest.Wait() // the first is being written, alone
					if len(left) == 0 && s.Buffered() > 4*bound+size {
						t.Fatalf("%d bytes are queued", s.Buffered())
					}
				}
				if took := time.Since(start); took != 0 {
					t.Errorf("Emit, or the other, took %v", took)
				}
				if !test.dropped {
					<-time.After(test.within)
					if len(left) > 0 {
						t.Errorf("left after %v: %s", time.Since(start), <-left)
					}
					for range emitted { // and nothing is lost
						stalled.want(opText, text)
					}
					return
				}
				wantReason(t, left, ReasonSlowConsumer)
				synctest.Wait() // a socket leaves before its connection is closed
				if test.within == 0 {
					if took := time.Since(start); took != 0 {
						t.Errorf("left after %v", took)
					}
				} else {
					wantAfter(t, h, "leaving", start, test.within)
				}
				if s.Buffered() > writeChunk+size {
					t.Errorf("%d bytes are still queued", s.Buffered())
				}
				for read := 0; ; read++ {
					hd, m := stalled.next()
					if hd.Opcode == opClose {
						if m != closePayload(StatusPolicyViolation, "slow consumer") {
							t.Errorf("closed with %q", m)
						}
						if read > 1+writeChunk/size {
							t.Errorf("%d messages came, want only those that were being written", read)
						}
						break
					}
					if m != text {
						t.Errorf("got %.100q", m)
					}
				}
				h.Emit("on")
				other.want(`{"event":"on"}`)
			})
		})
	}
}

// A client that reads slowly, but takes something every few seconds, keeps its place.
func TestSessionSlowButSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound = 100_000
		h := newHub(t, Options{Limits: Limits{QueuedBytes: bound}, Timeouts: Timeouts{PingInterval: 24 * time.Hour}})
		left := leavings(h)
		p := serve(t, overPipe, h).peer(t)
		s := p.arrive(h)
		text := strings.Repeat("x", 10_000)
		for i := range 30 {
			s.Emit("e", i, text)
		}
		for i := range 30 {
			<-time.After(stallTimeout - time.Second)
			if i < 15 && s.Buffered() <= bound {
				t.Errorf("%d bytes are queued", s.Buffered())
			}
			p.want(opText, fmt.Sprintf(`{"event":"e","args":[%d,"%s"]}`, i, text))
		}
		if len(left) > 0 {
			t.Errorf("left: %s", <-left)
		}
	})
}

// What is volatile is lost for a member whose network takes nothing at the moment, and for no
// other.
func TestSessionVolatile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		stalled := srv.peer(t)
		stalled.arrive(h)
		other := srv.connect(t, nil)
		other.settle()
		h.Volatile().Emit("first") // its network waits for nothing yet
		other.want(`{"event":"first"}`)
		<-time.After(2 * kernelWait)
		h.Volatile().Emit("lost")
		h.Emit("kept")
		h.To(other.sid).Volatile().Emit("own")
		for _, event := range []string{"lost", "kept", "own"} {
			other.want(`{"event":"` + event + `"}`)
		}
		stalled.want(opText, `{"event":"first"}`)
		stalled.want(opText, `{"event":"kept"}`)
		h.Volatile().Emit("again")
		stalled.want(opText, `{"event":"again"}`)
	})
}
