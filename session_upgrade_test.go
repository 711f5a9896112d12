package atrium

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	unknownSession = `{"code":1,"message":"Session ID unknown"}`
	badRequest     = `{"code":3,"message":"Bad request"}`
)

func TestEngineHandshake(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{Timeouts: Timeouts{PingInterval: 30 * time.Second, Ping: 20500 * time.Millisecond}, Limits: Limits{MessageBytes: 1_000_000}})
	srv := serve(t, overTCP, h)
	const times = `"pingInterval":30000,"pingTimeout":20500,"maxPayload":1000000}`
	e := srv.engine(t)
	r := e.get()
	sid := handshakeForm.FindStringSubmatch(r.body)[1]
	e.sid = sid
	e.leave()
	r.want(t, 200, `0{"sid":"`+sid+`","upgrades":["websocket"],`+times)
	if r.header.Get("Content-Type") != "text/plain; charset=UTF-8" || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("the headers are %v", r.header)
	}
	c := srv.websocket(t, "?EIO=4&transport=websocket")
	message := c.next()
	sid = handshakeForm.FindStringSubmatch(message)[1]
	if want := `0{"sid":"` + sid + `","upgrades":[],` + times; message != want {
		t.Errorf("got %s, want %s", message, want)
	}
	c.send("40")
	if strings.Contains(c.next(), sid) {
		t.Error("the session's id is the socket's, which others may know")
	}
}

func TestEngineRefusals(t *testing.T) {
	noLeaks(t)
	const (
		transportUnknown = `{"code":0,"message":"Transport unknown"}`
		handshakeMethod  = `{"code":2,"message":"Bad handshake method"}`
		protocolVersion  = `{"code":5,"message":"Unsupported protocol version"}`
	)
	h := newEcho(t, Options{Limits: Limits{Connections: 1}})
	e := serve(t, overTCP, h).engine(t)
	websocket := []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"}
	for _, test := range []struct {
		method, query string
		lines         []string
		body          string
	}{
		{"GET", "?EIO=4", nil, transportUnknown},
		{"GET", "?EIO=4&transport=abc", nil, transportUnknown},
		{"GET", "?EIO=4&transport=webtransport", nil, transportUnknown},
		{"GET", "?EIO=4&transport=abc", websocket, transportUnknown},
		{"GET", "?transport=polling", nil, protocolVersion},
		{"GET", "?EIO=abc&transport=polling", nil, protocolVersion},
		{"GET", "?EIO=3&transport=polling", nil, protocolVersion},
		{"GET", "?EIO=&transport=websocket", websocket, protocolVersion},
		{"GET", "?transport=websocket", websocket, protocolVersion},
		{"GET", "?EIO=3&transport=websocket", websocket, protocolVersion},
		{"GET", "?EIO=4&transport=polling&sid=abc", nil, unknownSession},
		{"GET", "?EIO=4&transport=polling&sid=", nil, unknownSession},
		{"POST", "?EIO=4&transport=polling&sid=abc", nil, unknownSession},
		{"GET", "?EIO=4&transport=websocket&sid=abc", websocket, unknownSession},
		{"POST", "?EIO=4&transport=polling", nil, handshakeMethod},
		{"PUT", "?EIO=4&transport=polling", nil, handshakeMethod},
		{"OPTIONS", "?EIO=4&transport=polling", nil, handshakeMethod},
		{"POST", "?EIO=4&transport=websocket", nil, handshakeMethod},
		{"GET", "?EIO=4&transport=websocket", nil, badRequest},
	} {
		r := e.do(test.method, test.query, "", test.lines...)
		if r.status != 400 || r.body != test.body || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %d %s %s, want %s", test.method, test.query, r.status, r.header, r.body, test.body)
		}
	}
	live := e.server.polls(t)
	for _, method := range []string{"PUT", "DELETE", "OPTIONS"} {
		live.do(method, live.query(), "").want(t, 400, badRequest)
	}
	full := e.get()
	full.want(t, 503, `{"code":4,"message":"the server has as many connections as it may have"}`)
	if full.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	live.leave()
}

func TestEngineShutdown(t *testing.T) {
	h := newEcho(t, Options{})
	e := serve(t, overTCP, h).engine(t)
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.get().want(t, 503, `{"code":4,"message":"the server is shutting down"}`)
}

// The server's pings reach a client that has joined nothing, over each transport, and any answer
// keeps the session.
func TestEngineHeartbeat(t *testing.T) {
	const interval, timeout = 8 * time.Second, 6 * time.Second
	options := Options{Timeouts: Timeouts{PingInterval: interval, Ping: timeout}}
	t.Run("polling", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newEcho(t, options)
			e := serve(t, overPipe, h).polls(t)
			var last time.Time
			for i := range 4 {
				e.get().want(t, 200, "2")
				if i > 0 {
					wantAfter(t, h, "a ping", last, interval-2*time.Duration(h.sessions.clock.tick))
				}
				last = time.Now()
				e.post("3").want(t, 200, "ok")
			}
			e.leave()
		})
	})
	t.Run("websocket", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newEcho(t, options)
			c := serve(t, overPipe, h).direct(t)
			for range 3 { // the fourth is before Timeouts.Connect
				c.want("2")
				c.send("3")
			}
			c.want("2")
			start := time.Now()
			c.wantClosed(StatusPolicyViolation)
			wantAfter(t, h, "the close frame", start, timeout)
		})
	})
}

// A client that is silent is gone when its time is over, not a tick of the clock later.
func TestEnginePingTimeout(t *testing.T) {
	options := Options{Timeouts: Timeouts{PingInterval: 300 * time.Millisecond, Ping: 200 * time.Millisecond}}
	synctest.Test(t, func(t *testing.T) {
		h := newEcho(t, options)
		srv := serve(t, overPipe, h)
		for range 50 {
			e := srv.polls(t)
			e.post("40").want(t, 200, "ok") // life, but before the first ping
			<-time.After(options.Timeouts.PingInterval + options.Timeouts.Ping)
			e.get().want(t, 400, unknownSession)
		}
	})
	t.Run("tcp", func(t *testing.T) {
		noLeaks(t)
		h := newEcho(t, Options{Timeouts: Timeouts{PingInterval: options.Timeouts.PingInterval, Ping: time.Second}})
		left := leavings(h)
		srv := serve(t, overTCP, h)
		for range 10 {
			srv.polls(t).post("40").want(t, 200, "ok")
		}
		for range 10 {
			wantReason(t, left, ReasonPingTimeout)
		}
	})
}

// What a request does before anything else is to look at the clock, which may be late.
func TestEngineLateClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newEcho(t, Options{Timeouts: Timeouts{PingInterval: 8 * time.Second, Ping: 6 * time.Second}})
		e := serve(t, overPipe, h).polls(t)
		e.get().want(t, 200, "2")
		s := h.poll(e.sid).session
		h.sessions.clock.stop(&s.timer)
		<-time.After(6 * time.Second)
		e.get().want(t, 400, unknownSession)
	})
}

func TestEngineOverWebSocket(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	left := leavings(h)
	srv := serve(t, overTCP, h)
	connect := func() *client {
		c := srv.direct(t)
		c.send("40")
		c.next()
		return c
	}
	t.Run("messages", func(t *testing.T) {
		c := connect()
		c.send(`42["message",1,"2",{"3":[true]}]`)
		c.want(`42["message-back",1,"2",{"3":[true]}]`)
		c.send("6") // noop
		c.send("3")
		c.send("5")
		c.send(`42["message"]`)
		c.want(`42["message-back"]`)
		c.Close(StatusNormalClosure, "")
		wantReason(t, left, ReasonTransportClose)
	})
	t.Run("the client says that it closes", func(t *testing.T) {
		c := connect()
		c.send("1")
		c.wantClosed(StatusNormalClosure)
		wantReason(t, left, ReasonTransportClose)
	})
	for _, bad := range []string{"abc", "", "2", "2probe", "b!", "bAQID", "4abc"} {
		t.Run("bad "+bad, func(t *testing.T) {
			c := connect()
			c.send(bad)
			c.wantClosed(StatusPolicyViolation)
			wantReason(t, left, ReasonParseError)
		})
	}
	t.Run("its id is no session to poll", func(t *testing.T) {
		c := connect()
		e := srv.engine(t)
		e.sid = c.sid
		e.get().want(t, 400, unknownSession)
		c.Close(StatusNormalClosure, "")
		wantReason(t, left, ReasonTransportClose)
	})
}

// upgrading makes a client that has connected, and has opened a WebSocket.
func (s *server) upgrading(t testing.TB) (*engine, *client) {
	t.Helper()
	e := s.polls(t)
	e.post("40").want(t, 200, "ok")
	e.get()
	return e, e.probing()
}

func TestEngineUpgrade(t *testing.T) {
	noLeaks(t)
	for _, k := range []kind{overTCP, overTLS} {
		t.Run(k.name, func(t *testing.T) {
			h := newEcho(t, Options{})
			left := leavings(h)
			e, c := serve(t, k, h).upgrading(t)
			if h.sockets(1)[0].session.conn.Load() != nil {
				t.Error("upgraded without a word")
			}
			waiting := e.getting(h)
			c.send("2probe")
			c.want("3probe")
			within(t, waiting, "the GET").want(t, 200, "6")
			c.send("2probe")
			c.want("3probe")
			e.get().want(t, 200, "6") // a client that waits is not held up
			h.Emit("before", Binary("abc"))
			e.get().want(t, 200, "451-[\"before\",{\"_placeholder\":true,\"num\":0}]\x1ebYWJj")
			h.Emit("during", Binary("abc"), 1)
			h.Emit("during", 2)
			c.send("5")
			c.want(`451-["during",{"_placeholder":true,"num":0},1]`)
			c.want("abc")
			c.want(`42["during",2]`)
			e.get().want(t, 400, badRequest)
			e.post("40").want(t, 400, badRequest)
			c.send("452-[\"bytes\",{\"_placeholder\":true,\"num\":1},{\"_placeholder\":true,\"num\":0}]")
			c.sendBinary("x")
			c.sendBinary("y")
			c.want("452-[\"bytes-back\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]")
			c.want("y")
			c.want("x")
			late := e.probing()
			late.wantClosed(StatusPolicyViolation)
			c.send(`42["message"]`)
			c.want(`42["message-back"]`)
			c.Close(StatusNormalClosure, "")
			wantReason(t, left, ReasonTransportClose)
			e.wantForgotten(h) // until when it is one that has upgraded
			e.wantOver(h, nil, "")
		})
	}
}

// sockets waits until that many are connected, and returns them.
func (h *Hub) sockets(count int) []*Socket {
	var all []*Socket
	poll(func() bool {
		all = h.LocalSockets()
		return len(all) == count
	})
	return all
}

// A client that breaks the rules, and changes without a probe or while it polls: that GET is the
// one too many.
func TestEngineHastyUpgrade(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	e, c := serve(t, overTCP, h).upgrading(t)
	c.send("5")
	c.send(`42["message",1]`)
	c.want(`42["message-back",1]`)
	e.get().want(t, 400, badRequest)
	c.Close(StatusNormalClosure, "")
}

// What is wrong with a WebSocket is not the session's affair before it has upgraded.
func TestEngineFailedUpgrade(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	srv := serve(t, overTCP, h)
	for _, test := range []struct {
		name string
		fail func(e *engine, c *client)
	}{
		{"bad first packet", func(e *engine, c *client) { c.send("4hello"); c.wantClosed(StatusPolicyViolation) }},
		{"a ping without a probe", func(e *engine, c *client) { c.send("2"); c.wantClosed(StatusPolicyViolation) }},
		{"binary", func(e *engine, c *client) { c.sendBinary("2probe"); c.wantClosed(StatusPolicyViolation) }},
		{"bad packet after the probe", func(e *engine, c *client) {
			c.send("2probe")
			c.want("3probe")
			c.send("42[\"message\"]")
			c.wantClosed(StatusPolicyViolation)
		}},
		{"too large", func(e *engine, c *client) { c.send(strings.Repeat("2", 1<<17)); c.wantClosed(StatusMessageTooBig) }},
		{"closed", func(e *engine, c *client) { c.send("2probe"); c.want("3probe"); c.Close(StatusNormalClosure, "") }},
		{"cut", func(e *engine, c *client) { c.send("2probe"); c.want("3probe"); c.CloseNow() }},
		{"a second one", func(e *engine, c *client) {
			e.probing().wantClosed(StatusPolicyViolation)
			c.send("2probe")
			c.want("3probe")
			c.CloseNow()
		}},
		{"during a POST", func(e *engine, c *client) {
			c.send("2probe")
			c.want("3probe")
			body, w := io.Pipe()
			posted := make(chan struct{})
			go func() {
				defer close(posted)
				if r, err := e.http.Post("http://example.com/socket.io/"+e.query(), "text/plain", body); err == nil {
					r.Body.Close()
				}
			}()
			e.waitFor(h, "a POST", func(p *polling) bool { return p.posting })
			c.send("5")
			c.wantClosed(StatusPolicyViolation)
			io.WriteString(w, "3")
			w.Close()
			within(t, posted, "the POST")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, c := srv.upgrading(t)
			e.waitFor(h, "the trial", func(p *polling) bool { return p.probing != nil })
			test.fail(e, c)
			e.waitFor(h, "the trial's end", func(p *polling) bool { return p.probing == nil })
			e.post(`42["message",1]`).want(t, 200, "ok")
			e.get().want(t, 200, `42["message-back",1]`)
			// It may try again.
			c = e.probing()
			c.send("2probe")
			c.want("3probe")
			c.send("5")
			c.send(`42["message",2]`)
			c.want(`42["message-back",2]`)
			c.Close(StatusNormalClosure, "")
		})
	}
}

func TestEngineUpgradeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newEcho(t, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
		e, c := serve(t, overPipe, h).upgrading(t)
		start := time.Now()
		c.send("2probe")
		c.want("3probe")
		if _, p, err := c.Read(context.Background()); err == nil || time.Since(start) != upgradeTimeout {
			t.Errorf("%q, %v, after %v", p, err, time.Since(start))
		}
		e.post(`42["message",1]`).want(t, 200, "ok")
		e.get().want(t, 200, `42["message-back",1]`)
		e.leave()
	})
}

// The trial of a WebSocket ends with the session, not by its time-out.
func TestEngineSessionEndsDuringUpgrade(t *testing.T) {
	noLeaks(t)
	for _, test := range []struct {
		name   string
		end    func(h *Hub, e *engine)
		reason Reason
	}{
		{"by its client", func(h *Hub, e *engine) { e.post("1") }, ReasonTransportClose},
		{"by a violation", func(h *Hub, e *engine) { e.post("abc") }, ReasonParseError},
		{"by the server", func(h *Hub, e *engine) { h.sockets(1)[0].session.endSlow() }, ReasonSlowConsumer},
		{"by the hub's end", func(h *Hub, e *engine) { go h.Shutdown(t.Context()) }, ReasonShutdown},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newEcho(t, Options{})
			left := leavings(h)
			e, c := serve(t, overTCP, h).upgrading(t)
			c.send("2probe")
			c.want("3probe")
			test.end(h, e)
			e.get() // which may be told, or come too late
			c.wantGone()
			wantReason(t, left, test.reason)
		})
	}
}

// Whoever polls could take the connect message before the socket was in its rooms, and missed what
// was emitted then.
func TestEngineConnectedClientIsInItsRooms(t *testing.T) {
	noLeaks(t)
	h := New(Options{})
	h.Use(func(s *Socket) error { return s.Join("room") })
	srv := serve(t, overTCP, h)
	for range 200 {
		e := srv.polls(t)
		e.post("40").want(t, 200, "ok")
		e.get() // the connect message
		h.To("room").Emit("welcome")
		e.get().want(t, 200, `42["welcome"]`)
		e.leave()
	}
	h.checkForgotten(t)
}

// A client that has stopped polling, because it upgrades, gets the last words over its WebSocket.
func TestEngineUpgradeOfClosedSession(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	left := leavings(h)
	e, c := serve(t, overTCP, h).upgrading(t)
	c.send("2probe")
	c.want("3probe")
	h.Emit("last", "word")
	go h.Shutdown(t.Context())
	wantReason(t, left, ReasonShutdown)
	e.waitFor(h, "the session's end", func(p *polling) bool { return p.state == pollClosing })
	c.send("5")
	c.want(`42["last","word"]`)
	c.wantClosed(StatusServiceRestart)
	h.checkForgotten(t)
}

// What several goroutines emit while a client upgrades arrives once, and in each goroutine's order.
func TestUpgradeKeepsOrder(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{Limits: Limits{QueuedBytes: 1 << 30}})
	srv := serve(t, overTCP, h)
	for range 5 {
		e, c := srv.upgrading(t)
		s := h.sockets(1)[0]
		const emitters = 4
		for i := range emitters {
			emit := h.Emit
			if i%2 == 0 {
				emit = s.Emit
			}
			go func() {
				n := 0
				for after := 0; after < 100; n++ { // as many after the upgrade
					if s.session.conn.Load() != nil {
						after++
					}
					emit("n", i, n)
				}
				emit("last", i, n)
			}()
		}
		e.waitFor(h, "a long queue", func(p *polling) bool { return len(p.packets) > 100 })
		c.send("5")
		var got [emitters]int
		for done := 0; done < emitters; {
			var event string
			var i, n int
			m := strings.NewReplacer("[", " ", ",", " ", "]", " ").Replace(c.next())
			if _, err := fmt.Sscanf(m, "42 %q %d %d", &event, &i, &n); err != nil || n != got[i] {
				t.Fatalf("%s, %v; want %d", m, err, got[i])
			}
			got[i]++
			if event == "last" {
				done++
			}
		}
		c.Close(StatusNormalClosure, "")
		h.sockets(0)
	}
}

// What a session does to the transport that it had before the upgrade is done to the WebSocket,
// too.
func TestUpgradeTakesOver(t *testing.T) {
	h := newHub(t, Options{})
	open := func() (*session, *polling, *Conn) {
		p := newPolling(h, &socketIOCodec{handshake: new(Handshake)})
		conn := newConn(&scriptedConn{}, connConfig{})
		conn.out.state = writerWriting // nobody writes
		return p.session, p, conn
	}
	t.Run("bounds", func(t *testing.T) {
		s, p, conn := open()
		s.onTransport(func(now transport) {
			if now == transport(p) && !p.upgrade(conn) {
				t.Fatal("no upgrade")
			}
			now.permit(1234, 5678)
		})
		if size, limit := conn.readLimit.Load(), conn.out.limit; size != 1234 || limit != 5678 {
			t.Errorf("the WebSocket's limits are %d and %d", size, limit)
		}
	})
	t.Run("what is pushed", func(t *testing.T) {
		s, p, conn := open()
		s.sendText(append(newFrame(1), '3'))
		p.upgrade(conn)
		if v, _ := p.push(pingForms[socketIOProtocol], false, forEmitter); v != pushRefused {
			t.Errorf("polling takes a packet: %d", v)
		}
		s.sendText(append(newFrame(1), '6'))
		var payload []byte
		for f := conn.out.pop(); f != nil; f = conn.out.pop() {
			payload = append(payload, f[len(f)-1])
		}
		if string(payload) != "36" {
			t.Errorf("queued: %q", payload)
		}
	})
	t.Run("signs of life", func(t *testing.T) {
		s, p, conn := open()
		p.received.Add(7)
		p.upgrade(conn)
		if n := s.transport().status().received; n != 7 {
			t.Errorf("%d, want 7", n)
		}
	})
	t.Run("a Flush", func(t *testing.T) {
		s, p, conn := open()
		p.permit(1000, 10)
		s.sendText(append(newFrame(20), "6xxxxxxxxxx"...))
		flushed := make(chan error)
		go func() { flushed <- s.waitUntilHalf(t.Context()) }()
		eventually(t, "Flush to wait", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.room.opened != nil
		})
		p.upgrade(conn)
		conn.out.stop(net.ErrClosed)
		if err := within(t, flushed, "Flush"); !errors.Is(err, ErrClosed) {
			t.Errorf("Flush: %v", err)
		}
	})
	t.Run("closing", func(t *testing.T) {
		s, p, conn := open()
		s.onTransport(func(now transport) {
			if now == transport(p) {
				p.upgrade(conn)
			}
			now.close(StatusGoingAway, "", deliverQueued)
		})
		if conn.State() != StateClosing {
			t.Errorf("the WebSocket is %v", conn.State())
		}
		_ = conn.CloseNow()
	})
}

// Messages that are sent all the time, both ways, arrive once and in order while clients upgrade.
func TestEngineUpgradeUnderTraffic(t *testing.T) {
	noLeaks(t)
	const messages = 300
	h := newEcho(t, Options{Limits: Limits{InboxEvents: 16}})
	var mu sync.Mutex
	got := make(map[*Socket]int)
	On(h, "up", func(s *Socket, n int) error {
		mu.Lock()
		defer mu.Unlock()
		if got[s] != n {
			t.Errorf("got %d, want %d", n, got[s])
		}
		got[s] = n + 1
		return s.Emit("down", n, Binary{'a' + byte(n%26)})
	})
	for _, k := range []kind{overTCP, overPipe} {
		srv := serve(t, k, h)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				e := srv.polls(t)
				e.post("40")
				down := new(downstream)
				sent := 0
				for range 5 {
					e.post(fmt.Sprintf(`42["up",%d]%c42["up",%d]`, sent, payloadSeparator, sent+1))
					sent += 2
					down.take(t, e.get().body)
				}
				c := e.probing()
				c.send("2probe")
				c.want("3probe")
				for range 3 {
					e.post(fmt.Sprintf(`42["up",%d]`, sent))
					sent++
					down.take(t, e.get().body)
				}
				c.send("5")
				for ; sent < messages; sent++ {
					c.send(fmt.Sprintf(`42["up",%d]`, sent))
				}
				for down.next < messages {
					down.take(t, c.next())
				}
				c.settleUp()
				c.Close(StatusNormalClosure, "")
			})
		}
		all.Wait()
	}
	for _, n := range got {
		if n != messages {
			t.Errorf("%d of %d came", n, messages)
		}
	}
}

// settleUp waits until the hub has handled all that the client has sent.
func (c *client) settleUp() {
	c.t.Helper()
	c.send(`4299["echo",1]`)
	c.want(`4399[1]`)
}

// downstream checks that what a client gets is complete and in order.
type downstream struct {
	next   int  // number that is expected
	header bool // its attachment is
}

func (d *downstream) take(t testing.TB, payload string) {
	for p := range strings.SplitSeq(payload, "\x1e") {
		switch {
		case !d.header && (p == "6" || p == "2" || strings.HasPrefix(p, "40")):
		case !d.header:
			if want := fmt.Sprintf(`451-["down",%d,{"_placeholder":true,"num":0}]`, d.next); p != want {
				t.Errorf("got %s, want %s", p, want)
			}
			d.header = true
		default:
			raw := string([]byte{'a' + byte(d.next%26)})
			if p != raw && p != "b"+base64.StdEncoding.EncodeToString([]byte(raw)) {
				t.Errorf("got %q as attachment %d", p, d.next)
			}
			d.header = false
			d.next++
		}
	}
}
