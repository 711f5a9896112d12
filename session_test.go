package atrium

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// peer connects a client that answers nothing by itself.
func (s *server) peer(t testing.TB, lines ...string) *peer {
	t.Helper()
	nc, early := s.upgrade(t, lines...)
	return newPeer(t, nc, early, true)
}

// accepted reads the connect message.
func (p *peer) accepted() *peer {
	p.t.Helper()
	if _, m := p.next(); !strings.HasPrefix(m, `{"event":"connect","data":`) {
		p.t.Fatalf("got %s, want the connect message", m)
	}
	return p
}

// wantAfter checks that d has passed, and at most two ticks of the hub's clock more.
func wantAfter(t *testing.T, h *Hub, what string, start time.Time, d time.Duration) {
	t.Helper()
	if took, late := time.Since(start), 2*time.Duration(h.sessions.clock.tick); took < d || took > d+late {
		t.Errorf("%s after %v, want %v to %v", what, took, d, d+late)
	}
}

func wantReason(t *testing.T, left <-chan Reason, want Reason) {
	t.Helper()
	if got := within(t, left, "OnDisconnect"); got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
}

// Pings come at intervals, the first ones not all at once. Neither an idle connection nor its heartbeat is a message
// that takes too long.
func TestSessionPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval = 8 * time.Second
		h := newHub(t, Options{PingInterval: interval, PingTimeout: 6 * time.Second, MessageTimeout: 5 * time.Second})
		srv := serve(t, overPipe, h)
		late := 2 * time.Duration(h.sessions.clock.tick)
		var mu sync.Mutex
		firsts := make(map[time.Duration]bool)
		var all sync.WaitGroup
		for range 20 {
			p := srv.peer(t).accepted()
			all.Go(func() {
				last, least := time.Now(), interval/2
				for i := range 5 {
					hd, m, err := p.read()
					if err != nil || hd.Opcode != OpPing {
						t.Errorf("got %v %q, %v; want a ping", hd.Opcode, m, err)
						return
					}
					since := time.Since(last)
					if since < least-late || since > interval+late {
						t.Errorf("ping %d after %v", i, since)
					}
					if i == 0 {
						mu.Lock()
						firsts[since] = true
						mu.Unlock()
					}
					last, least = time.Now(), interval
					p.send(p.frame(OpPong, m))
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
		h := newHub(t, Options{PingInterval: 8 * time.Second, PingTimeout: 6 * time.Second})
		left := leavings(h)
		p := serve(t, overPipe, h).peer(t).accepted()
		p.want(OpPing, "")
		pinged := time.Now()
		p.send(p.frame(OpPong, "")[:1]) // any byte is life
		p.want(OpPing, "")
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
				h := newHub(t, Options{ConnectTimeout: 5 * time.Second})
				gate := make(chan struct{})
				h.Use(func(*Socket) error { <-gate; return nil })
				h.OnConnect(func(*Socket) { t.Error("OnConnect ran") })
				h.OnDisconnect(func(*Socket, Reason) { t.Error("OnDisconnect ran") })
				p := serve(t, overPipe, h).peer(t, "Sec-WebSocket-Protocol: atrium")
				start := time.Now()
				if asks { // and Use takes too long
					p.send(p.frame(OpText, `{"event":"connect"}`))
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
		{"a byte", func(p *peer) []byte { return p.frame(OpText, "x")[:1] }},
		{"a payload's beginning", func(p *peer) []byte { return p.frame(OpText, `{"event":"e"}`)[:10] }},
		{"a fragment", func(p *peer) []byte { return p.part(OpText, `{"event":`) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Options{PingInterval: time.Hour, MessageTimeout: 5 * time.Second})
				left := leavings(h)
				p := serve(t, overPipe, h).peer(t).accepted()
				<-time.After(time.Minute) // idleness is no message
				start := time.Now()
				p.send(test.begin(p))
				if test.name == "a fragment" {
					go func() { // what comes in between does not count
						<-time.After(3 * time.Second)
						p.send(p.frame(OpPong, ""), p.part(OpContinuation, `"e"`))
					}()
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
		h := newHub(t, Options{PingInterval: time.Hour})
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
			p.send(p.frame(OpText, fmt.Sprintf(`{"event":"e","id":%d}`, i)))
			p.want(OpText, fmt.Sprintf(`{"id":%d}`, i))
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
		p.send(p.frame(OpText, `{"event":"e","id":1}`))
		p.want(OpText, `{"id":1}`)
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
		{"ping", Options{PingInterval: 20 * time.Millisecond, PingTimeout: 50 * time.Millisecond}, false, "", "ping timeout", ReasonPingTimeout},
		{"connect", Options{ConnectTimeout: 50 * time.Millisecond}, true, "", "connect timeout", ""},
		{"message", Options{MessageTimeout: 50 * time.Millisecond}, false, `{"event":`, "message timeout", ReasonForcedServerClose},
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
			if !test.offer {
				p.accepted()
			}
			if test.begin != "" {
				p.send(p.part(OpText, test.begin))
			}
			hd, m := p.next()
			for hd.Opcode == OpPing {
				hd, m = p.next()
			}
			if hd.Opcode != OpClose || m != closePayload(StatusPolicyViolation, test.says) {
				t.Errorf("got %v %q", hd.Opcode, m)
			}
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
		stream := p.frame(OpText, `{"event":"connect","data":{"token":"x"}}`)
		for i := range 10 {
			stream = append(stream, p.frame(OpText, fmt.Sprintf(`{"event":"e","data":%d,"id":%d}`, i, i))...)
		}
		p.send(stream)
		within(t, p.sent(), "the messages")
		close(gate)
		p.accepted()
		p.want(OpText, `{"event":"welcome"}`)
		for i := range 10 {
			p.want(OpText, fmt.Sprintf(`{"id":%d,"data":%d}`, i, i))
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
		if err := c.Write(t.Context(), OpBinary, []byte(`{"event":"e"}`)); err != nil {
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
		h := newHub(t, Options{MaxMessageSize: 100_000})
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
		wantReason(t, left, ReasonTransportError)
	})
}

// Who does not read is dropped, and nobody else notices.
func TestSessionSlowConsumer(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{MaxQueued: 64 << 10})
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

// Emit does not wait for a client that takes nothing; what is volatile is lost for that one only. A client with a full
// queue is given up when it took nothing for five seconds.
func TestSessionStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{MaxQueued: 10_000})
		left := leavings(h)
		srv := serve(t, overPipe, h)
		stalled := srv.peer(t)
		c := srv.connect(t, nil)
		c.settle()
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
		stalled.want(OpText, `{"event":"kept"}`)

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
