package atrium

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

type testMessage struct {
	Room, Text string
}

func (m testMessage) Validate() error {
	if m.Text == "" {
		return Errorf("Text: expected some")
	}
	return nil
}

func TestChat(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		h.Use(func(s *Socket) error {
			var auth struct{ Name string }
			if err := s.Handshake().Bind(&auth); err != nil {
				return err
			}
			if auth.Name == "mallory" {
				return Errorf("Auth failed")
			}
			s.Set("name", auth.Name)
			return nil
		})
		h.OnConnect(func(s *Socket) {
			if err := s.Join("lobby"); err != nil {
				t.Error(err)
			}
			s.To("lobby").Emit("joined", s.ID())
		})
		h.OnDisconnect(func(s *Socket, why Reason) { s.To(s.Rooms()...).Emit("left", why) })
		OnCall(h, "say", func(s *Socket, m testMessage) (int, error) {
			return len(m.Text), h.To(m.Room).Emit("said", m)
		})
		srv := serve(t, k, h)
		alice := srv.connect(t, map[string]string{"Name": "alice"})
		alice.settle()
		bob := srv.connect(t, map[string]string{"Name": "bob"})
		alice.want(`{"event":"joined","data":"` + bob.sid + `"}`)
		alice.send(`{"event":"say","data":{"Room":"lobby","Text":"<hi>"},"id":7}`)
		alice.want(`{"event":"said","data":{"Room":"lobby","Text":"<hi>"}}`)
		alice.want(`{"id":7,"data":4}`)
		bob.want(`{"event":"said","data":{"Room":"lobby","Text":"<hi>"}}`)
		bob.send(`{"event":"say","data":{"Room":"lobby"},"id":8}`)
		bob.want(`{"id":8,"error":{"message":"Text: expected some"}}`)

		mallory := srv.offer(t)
		mallory.emit("connect", map[string]string{"Name": "mallory"})
		mallory.want(`{"event":"connect_error","data":{"message":"Auth failed"}}`)
		mallory.wantClosed(StatusPolicyViolation)

		if err := bob.Close(StatusNormalClosure, "bye"); err != nil {
			t.Error(err)
		}
		alice.want(`{"event":"left","data":"transport close"}`)
	})
}

func TestAcceptRefuses(t *testing.T) {
	tests := []struct {
		name   string
		err    error
		status int
		says   string
	}{
		{"an Error", Errorf("no cookie"), 403, "no cookie\n"},
		{"an Error with a status", &Error{Message: "who are you?", Status: 401}, 401, "who are you?\n"},
		{"a wrapped Error", fmt.Errorf("session: %w", Errorf("expired")), 403, "expired\n"},
		{"any other error", errors.New("db at 10.0.0.7 is down"), 403, "the server refuses this client\n"},
	}
	overKinds(t, func(t *testing.T, k kind) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				noLeaks(t)
				h := newHub(t, Options{Accept: func(*http.Request) (context.Context, error) { return nil, test.err }})
				h.Use(func(*Socket) error { t.Error("Use ran"); return nil })
				r := request(t, serve(t, k, h).raw(t), handshakeHead+"\r\n")
				if got := bodyOf(t, r); r.StatusCode != test.status || got != test.says {
					t.Errorf("%d %q, want %d %q", r.StatusCode, got, test.status, test.says)
				}
				h.checkNobody(t)
			})
		}
	})
}

// Accept is the application's code: what cannot become a connection anyway does not reach it.
func TestRefusedBeforeAccept(t *testing.T) {
	tests := []struct {
		name, request string
		status        int
		says          string
	}{
		{"no handshake", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426, "no Upgrade: websocket header"},
		{"POST", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 405, "a GET request"},
		{"another origin", handshakeHead + "Origin: https://evil.example\r\n\r\n", 403, "https://evil.example"},
	}
	h := newHub(t, Options{Accept: func(r *http.Request) (context.Context, error) {
		t.Errorf("Accept was asked about %s %s", r.Method, r.URL)
		return nil, nil
	}})
	srv := serve(t, overTCP, h)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := request(t, srv.raw(t), test.request)
			if got := bodyOf(t, r); r.StatusCode != test.status || !strings.Contains(got, test.says) {
				t.Errorf("%d %q, want %d %q", r.StatusCode, got, test.status, test.says)
			}
		})
	}
}

func TestAcceptContext(t *testing.T) {
	type key struct{}
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{Accept: func(r *http.Request) (context.Context, error) {
			user := r.Header.Get("User")
			if user == "" {
				return nil, nil
			}
			ctx, cancel := context.WithCancel(context.WithValue(r.Context(), key{}, user))
			cancel() // as net/http does with the request's
			return ctx, nil
		}})
		OnCall(h, "who", func(s *Socket, _ any) (any, error) { return s.Context().Value(key{}), s.Context().Err() })
		srv := serve(t, k, h)
		for user, answer := range map[string]string{"ann": `{"id":1,"data":"ann"}`, "": `{"id":1,"data":null}`} {
			c := srv.connect(t, nil, "User: "+user)
			c.send(`{"event":"who","id":1}`)
			c.want(answer)
		}
	})
}

func TestAcceptPanics(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{Accept: func(*http.Request) (context.Context, error) { panic("oops") }})
	nc := serve(t, overTCP, h).raw(t)
	io.WriteString(nc, handshakeHead+"\r\n")
	if p, err := io.ReadAll(nc); len(p) > 0 || err != nil {
		t.Errorf("got %q, %v; want net/http to close the connection", p, err)
	}
	h.checkNobody(t)
}

func TestUse(t *testing.T) {
	tests := []struct {
		name  string
		use   func(*Socket) error
		hears string // "" if accepted
		code  StatusCode
		log   string
	}{
		{"accepted", func(*Socket) error { return nil }, "", 0, ""},
		{"refused", func(*Socket) error { return Errorf("banned") },
			`{"event":"connect_error","data":{"message":"banned"}}`, StatusPolicyViolation, ""},
		{"refused with data", func(*Socket) error { return &Error{Message: "banned", Data: map[string]int{"days": 3}} },
			`{"event":"connect_error","data":{"message":"banned","data":{"days":3}}}`, StatusPolicyViolation, ""},
		{"refused, wrapped", func(*Socket) error { return fmt.Errorf("no: %w", Errorf("banned")) },
			`{"event":"connect_error","data":{"message":"banned"}}`, StatusPolicyViolation, ""},
		{"failed", func(*Socket) error { return errors.New("db at 10.0.0.7 is down") },
			`{"event":"connect_error","data":{"message":"internal error"}}`, StatusPolicyViolation, "db at 10.0.0.7 is down"},
		{"panicked", func(*Socket) error { panic("oops") }, "closed", StatusInternalError, "oops"},
		{"disconnected", func(s *Socket) error { s.Disconnect(); return nil }, "closed", StatusNormalClosure, ""},
	}
	overKinds(t, func(t *testing.T, k kind) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				noLeaks(t)
				logger, log := newLog()
				h := newHub(t, Options{Logger: logger})
				accepted := test.hears == ""
				var ran []string
				h.Use(func(*Socket) error { ran = append(ran, "first"); return nil })
				h.Use(func(s *Socket) error { ran = append(ran, "second"); return test.use(s) })
				h.Use(func(*Socket) error { ran = append(ran, "third"); return nil })
				h.OnConnect(func(*Socket) {
					if !accepted {
						t.Error("OnConnect ran")
					}
				})
				h.OnDisconnect(func(*Socket, Reason) {
					if !accepted {
						t.Error("OnDisconnect ran")
					}
				})
				srv := serve(t, k, h)
				c := srv.offer(t)
				c.emit("connect", nil)
				want := []string{"first", "second"}
				switch {
				case accepted:
					var hello struct{ Sid string }
					c.expect("connect", &hello)
					if len(hello.Sid) != socketIDLength || !strings.HasPrefix(hello.Sid, h.node) {
						t.Errorf("socket id %q", hello.Sid)
					}
					c.settle()
					want = append(want, "third")
				case test.hears == "closed":
					c.wantClosed(test.code)
				default:
					c.want(test.hears)
					c.wantClosed(test.code)
				}
				if accepted {
					c.CloseNow()
				}
				if err := h.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				if test.name == "disconnected" {
					want = append(want, "third") // it is the application that stops asking
				}
				if !slices.Equal(ran, want) {
					t.Errorf("ran %q, want %q", ran, want)
				}
				if got := log.String(); test.log == "" && got != "" || !strings.Contains(got, test.log) {
					t.Errorf("log: %s", got)
				}
				h.checkNobody(t)
			})
		}
	})
}

// A client that hears that it is connected is in the rooms that it joined in Use.
func TestUseJoins(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		h.Use(func(s *Socket) error { return s.Join("room") })
		srv := serve(t, k, h)
		for i := range 50 {
			c := srv.connect(t, nil)
			if n := h.roomSize("room"); n != i+1 {
				t.Fatalf("%d members when client %d hears that it is connected", n, i+1)
			}
			h.To("room").Emit("hello", i)
			c.want(fmt.Sprintf(`{"event":"hello","data":%d}`, i))
		}
	})
}

// While its Use functions run a socket is nobody: not counted, in no room, reached by nothing. What
// they Set and Join holds from the connect message on.
func TestUseBeforeDelivery(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		asked, gate := make(chan *Socket), make(chan struct{})
		h.Use(func(s *Socket) error {
			s.Set("n", 1)
			if err := s.Join("a", "b"); err != nil {
				t.Error(err)
			}
			s.Leave("b")
			if err := s.Emit("early"); err != nil {
				t.Error(err)
			}
			if _, err := Call[any](s.Context(), s, "early"); !errors.Is(err, ErrDisconnected) {
				t.Errorf("Call in Use: %v", err)
			}
			asked <- s
			<-gate
			return nil
		})
		srv := serve(t, k, h)
		c := srv.offer(t)
		c.emit("connect", nil)
		s := within(t, asked, "Use")
		for what, target := range map[string]Target{"everyone": h.Local(), "the room": h.To("a"), "the id": h.To(s.ID())} {
			if n, err := target.Count(t.Context()); n != 0 || err != nil {
				t.Errorf("%s: %d sockets before they are let in, %v", what, n, err)
			}
			if err := target.Emit("early"); err != nil {
				t.Error(err)
			}
		}
		if rooms := h.LocalRooms(); len(rooms) != 0 {
			t.Errorf("rooms %v", rooms)
		}
		if !slices.Equal(s.Rooms(), []string{"a"}) {
			t.Errorf("its rooms %q", s.Rooms())
		}
		close(gate)
		c.want(`{"event":"connect","data":{"sid":"` + s.ID() + `"}}`)
		c.sid = s.ID()
		if got := c.socket(h); got != s {
			t.Error("another socket")
		}
		h.To("a").Emit("late")
		c.want(`{"event":"late"}`)
		h.To("b").Emit("nobody")
		if n, ok := Value[int](s, "n"); n != 1 || !ok {
			t.Errorf("value %d, %v", n, ok)
		}
		c.settle()
	})
}

func TestOnDisconnect(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		var happened []string // by one goroutine
		done := make(chan struct{})
		gate := make(chan struct{})
		h.OnConnect(func(s *Socket) { happened = append(happened, "connect"); s.Join("b", "a") })
		h.OnConnect(func(s *Socket) { happened = append(happened, "connect 2") })
		On(h, "e", func(s *Socket, n int) error {
			<-gate
			happened = append(happened, fmt.Sprint("e", n, " ", s.Context().Err() != nil))
			return nil
		})
		h.OnDisconnect(func(s *Socket, why Reason) {
			n, _ := h.To("a", s.ID()).Count(t.Context())
			happened = append(happened, fmt.Sprintf("%v %v %v %d %v", why, s.Rooms(), s.In("a"), n, s.Context().Err()))
			if err := errors.Join(s.Emit("late"), s.Join("c")); err != nil {
				t.Error(err) // after the disconnect they do nothing
			}
			s.Leave("a")
			s.Disconnect()
		})
		h.OnDisconnect(func(s *Socket, _ Reason) {
			happened = append(happened, fmt.Sprint("and ", s.Rooms()))
			close(done)
		})
		c := serve(t, k, h).connect(t, nil)
		s := c.socket(h)
		eventually(t, "the event before to be over", func() bool { return s.inbox.waiting() == 0 })
		for i := range 3 {
			c.send(fmt.Sprintf(`{"event":"e","data":%d}`, i))
		}
		eventually(t, "three events in the inbox", func() bool { return s.inbox.waiting() == 3 })
		s.Disconnect()
		s.Disconnect()
		if n, _ := h.Count(t.Context()); n != 0 || len(h.LocalRooms()) != 0 {
			t.Errorf("after Disconnect %d sockets, rooms %v", n, h.LocalRooms())
		}
		close(gate)
		c.wantClosed(StatusNormalClosure)
		within(t, done, "OnDisconnect")
		h.Shutdown(t.Context())
		want := []string{"connect", "connect 2", "e0 true", "e1 true", "e2 true",
			"server namespace disconnect [a b] true 0 context canceled", "and [a b]"}
		if !slices.Equal(happened, want) {
			t.Errorf("got  %q\nwant %q", happened, want)
		}
		h.checkNobody(t)
	})
}

func TestShutdown(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		var left atomic.Int32
		inHandler, gate := make(chan struct{}, 1), make(chan struct{})
		open := sync.OnceFunc(func() { close(gate) })
		t.Cleanup(open) // a test that has failed must not hold up the next
		h.Handle("block", func(e *Event) { inHandler <- struct{}{}; <-gate })
		h.OnDisconnect(func(s *Socket, why Reason) {
			if why != ReasonShutdown {
				t.Errorf("reason %q", why)
			}
			s.Emit("left") // to one who has left: reaches nobody, and does no harm
			left.Add(1)
		})
		srv := serve(t, k, h)
		clients := make([]*client, 5)
		for i := range clients {
			clients[i] = srv.connect(t, nil)
			clients[i].settle()
		}
		late := srv.raw(t)
		clients[0].send(`{"event":"block"}`)
		within(t, inHandler, "the handler")

		const n = 100
		for i := range n {
			h.Emit("tick", i)
		}
		down := make(chan error, 3)
		for range cap(down) {
			go func() { down <- h.Shutdown(t.Context()) }()
		}
		for at, c := range clients {
			for i := range n { // what was queued comes before the close frame
				c.want(fmt.Sprintf(`{"event":"tick","data":%d}`, i))
			}
			if at == 0 {
				continue // its handler runs: see below
			}
			if e := wantClosed(t, c.Conn, StatusServiceRestart); e.Reason != "server shutting down" {
				t.Errorf("reason %q", e.Reason)
			}
		}
		r := request(t, late, handshakeHead+"\r\n")
		if got := bodyOf(t, r); r.StatusCode != 503 || r.Header.Get("Retry-After") == "" || got != "the server is shutting down\n" {
			t.Errorf("a late client got %s %v %q", r.Status, r.Header, got)
		}
		select {
		case err := <-down:
			t.Fatalf("Shutdown returned %v while a handler runs", err)
		default:
		}
		open()
		clients[0].wantClosed(StatusServiceRestart)
		for range cap(down) {
			if err := within(t, down, "Shutdown"); err != nil {
				t.Error(err)
			}
		}
		if left.Load() != 5 {
			t.Errorf("OnDisconnect ran %d times before Shutdown returned", left.Load())
		}
		h.checkNobody(t)
	})
}

// Shutdown's ctx bounds the wait for a handler that does not come back; a later call waits again.
func TestShutdownHonoursContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{})
		gate := make(chan struct{})
		h.OnDisconnect(func(*Socket, Reason) { <-gate })
		c := serve(t, overPipe, h).connect(t, nil)
		c.settle()
		heard := c.listen()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		err := h.Shutdown(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 clients left") || time.Since(start) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if _, open := <-heard; open {
			t.Error("a message")
		}
		close(gate)
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		h.checkNobody(t)
	})
}

// A client that does not read cannot hold up the others' farewell, nor Shutdown for longer than a
// stalled network is waited for. Shutdown says that it has missed something.
func TestShutdownWithStalledClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := New(Options{Logger: slog.New(slog.DiscardHandler)})
		srv := serve(t, overPipe, h)
		srv.upgrade(t) // and never reads
		c := srv.connect(t, nil)
		c.settle()
		heard := c.listen()
		synctest.Wait() // the other is connected, too
		h.Emit("x", strings.Repeat("x", 100_000))
		start := time.Now()
		err := h.Shutdown(t.Context())
		if err == nil || err.Error() != "atrium: shutdown with 1 clients that did not take all that was queued for them" {
			t.Errorf("Shutdown: %v", err)
		}
		if took := time.Since(start); took != stallTimeout && took != stallTimeout+time.Millisecond { // as first or second, at DrainRate
			t.Errorf("Shutdown took %v", took)
		}
		if m, open := <-heard; !open || len(*m) < 100_000 {
			t.Error("the message did not come")
		}
		h.checkNobody(t)
	})
}

// Clients that come while a hub shuts down are refused with 503 or, if they were upgraded already,
// with 1012. Broadcasts go on meanwhile, and everything ends.
func TestShutdownRaces(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		h.OnConnect(func(s *Socket) { s.Join("room") })
		h.Handle("say", func(e *Event) { e.Socket().To("room").Emit("said") })
		srv := serve(t, k, h)
		var clients, emitters sync.WaitGroup
		var upgraded, refused atomic.Int32
		for range 8 {
			clients.Go(func() {
				for refused.Load() == 0 {
					nc := srv.raw(t)
					r := request(t, nc, handshakeHead+"\r\n")
					if r.StatusCode == http.StatusServiceUnavailable {
						refused.Add(1)
						return
					}
					if r.StatusCode != http.StatusSwitchingProtocols {
						t.Errorf("status %s", r.Status)
						return
					}
					upgraded.Add(1)
					c := newConn(nc, connConfig{client: true, readLimit: 1 << 20, maxQueued: 1 << 20, early: r.rest})
					c.Write(context.Background(), MessageText, []byte(`{"event":"say"}`))
					clients.Go(func() {
						for {
							_, _, err := c.Read(context.Background())
							if e, ok := errors.AsType[*CloseError](err); ok {
								if e.Code != StatusServiceRestart {
									t.Errorf("closed: %v", err)
								}
								return
							}
						}
					})
				}
			})
		}
		stop := make(chan struct{})
		emitters.Go(func() {
			for range 20_000 { // and no more: nobody is to become a slow consumer
				select {
				case <-stop:
					return
				default:
					h.To("room").Emit("tick")
					runtime.Gosched()
				}
			}
		})
		eventually(t, "some clients", func() bool { return upgraded.Load() > 20 })
		for range 3 {
			if err := h.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		}
		close(stop)
		emitters.Wait()
		clients.Wait()
		h.checkNobody(t)
	})
}

// What a client gets wrong is its own affair: it is told, it may go on, and nobody else hears of
// it.
func TestBadInput(t *testing.T) {
	const badID = "id: expected an integer from 0 to 9007199254740991"
	report := func(event, message string) string {
		if event != "" {
			event = `"event":"` + event + `",`
		}
		return `{"event":"error","data":{` + event + `"message":"` + message + `"}}`
	}
	refusal := func(message string) string { return `{"id":1,"error":{"message":"` + message + `"}}` }
	long := strings.Repeat("e", maxEventName+1)
	tests := []struct{ name, sends, hears string }{
		{"not JSON", `hello`, report("", `expected a JSON object such as {\"event\":\"name\",\"data\":…}`)},
		{"empty", ``, report("", `expected a JSON object such as {\"event\":\"name\",\"data\":…}`)},
		{"neither event nor id", `{}`, report("", "expected an event, or the id of an acknowledgement")},
		{"wrong type", `{"event":"say","data":7}`, report("say", "data: expected an object, got number")},
		{"wrong type, id", `{"event":"say","data":7,"id":1}`, refusal("data: expected an object, got number")},
		{"wrong type of a field", `{"event":"say","data":{"Text":7},"id":1}`, refusal("Text: expected a string, got number")},
		{"invalid", `{"event":"say","data":{"Room":"a"},"id":1}`, refusal("Text: expected some")},
		{"nothing", `{"event":"say","id":1}`, refusal("Text: expected some")},
		{"unknown event", `{"event":"sya"}`, report("sya", `event: \"sya\" is not one that this server knows`)},
		{"unknown event, id", `{"event":"sya","id":1}`, refusal(`event: \"sya\" is not one that this server knows`)},
		{"id -1", `{"event":"say","id":-1}`, report("say", badID)},
		{"id 1.5", `{"event":"say","id":1.5}`, report("say", badID)},
		{"id 2^53", `{"event":"say","id":9007199254740992}`, report("say", badID)},
		{"id a string", `{"event":"say","id":"7"}`, report("say", badID)},
		{"an acknowledgement's id -1", `{"id":-1}`, report("", badID)},
		{"nobody asked", `{"id":1,"data":2}`, report("", "id: expected the id of a call, 1 is none")},
		{"connect", `{"event":"connect","id":1}`, refusal(`event: \"connect\" is reserved`)},
		{"disconnect", `{"event":"disconnect"}`, report("disconnect", `event: \"disconnect\" is reserved`)},
		{"a long name", `{"event":"` + long + `"}`, report("", "event: expected a string of 1 to 256 bytes")},
		{"an empty name", `{"event":""}`, report("", "event: expected a string of 1 to 256 bytes")},
		{"two fields", `{"event":"say","data":1,"args":[],"id":1}`, refusal("data and args: expected only one of them")},
	}
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		logger, log := newLog()
		h := newHub(t, Options{Logger: logger})
		said := 0
		On(h, "say", func(*Socket, testMessage) error { said++; return nil })
		srv := serve(t, k, h)
		c, bystander := srv.connect(t, nil), srv.connect(t, nil)
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				c := &client{c.Conn, t, c.sid}
				c.send(test.sends)
				c.want(test.hears)
				c.settle()
			})
		}
		bystander.settle()
		if got := log.String(); said != 0 || got != "" {
			t.Errorf("the handler ran %d times; log: %s", said, got)
		}
	})
}

// A panic costs the socket whose function it was, and no other.
func TestPanics(t *testing.T) {
	const broken = `{"id":1,"error":{"message":"internal error"}}`
	tests := []struct {
		where string
		sends string
		hears []string // "connect" is the connect message
		left  []Reason
	}{
		{"Use", "", nil, nil},
		{"OnConnect", "", []string{"connect"}, []Reason{ReasonForcedServerClose}},
		{"handler", `{"event":"handler","id":1}`, []string{"connect", broken}, []Reason{ReasonForcedServerClose}},
		{"handler", `{"event":"handler"}`, []string{"connect", `{"event":"error","data":{"event":"handler","message":"internal error"}}`}, []Reason{ReasonForcedServerClose}},
		{"HandleAny", `{"event":"any","id":1}`, []string{"connect", broken}, []Reason{ReasonForcedServerClose}},
		{"OnDisconnect", `{"event":"leave"}`, []string{"connect"}, []Reason{ReasonServerDisconnect}},
	}
	overKinds(t, func(t *testing.T, k kind) {
		for _, test := range tests {
			t.Run(test.where, func(t *testing.T) {
				noLeaks(t)
				logger, log := newLog()
				h := newHub(t, Options{Logger: logger})
				oops := func(s *Socket, where string) {
					if where == test.where && s.Handshake().Header().Get("Clumsy") != "" {
						panic("oops in " + where)
					}
				}
				left := leavings(h)
				h.Use(func(s *Socket) error { oops(s, "Use"); return nil })
				h.OnConnect(func(s *Socket) { oops(s, "OnConnect") })
				h.OnDisconnect(func(s *Socket, _ Reason) { oops(s, "OnDisconnect") })
				h.Handle("handler", func(e *Event) { oops(e.Socket(), "handler") })
				h.Handle("leave", func(e *Event) { e.Socket().Disconnect() })
				h.Handle("fine", func(e *Event) { e.Reply("fine") })
				if test.where == "HandleAny" {
					h.HandleAny(func(e *Event) { oops(e.Socket(), "HandleAny") })
				}
				srv := serve(t, k, h)
				bystander := srv.connect(t, nil)
				c := &client{srv.conn(t, "Clumsy: yes"), t, ""}
				if test.sends != "" {
					c.send(test.sends)
				}
				for _, m := range test.hears {
					if m == "connect" {
						c.expect(m, new(any))
					} else {
						c.want(m)
					}
				}
				if test.where == "OnDisconnect" {
					c.wantClosed(StatusNormalClosure)
				} else {
					c.wantClosed(StatusInternalError)
				}
				for _, why := range test.left {
					if got := within(t, left, "OnDisconnect"); got != why {
						t.Errorf("reason %q, want %q", got, why)
					}
				}
				bystander.send(`{"event":"fine","id":5}`)
				bystander.want(`{"id":5,"data":"fine"}`)
				bystander.CloseNow()
				c.CloseNow()
				if err := h.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
				if got := log.String(); strings.Count(got, "panic=") != 1 || !strings.Contains(got, "oops in "+test.where) || !strings.Contains(got, "hub_test.go") {
					t.Errorf("log: %s", got)
				}
				h.checkNobody(t)
			})
		}
	})
}

func TestAnswers(t *testing.T) {
	tests := []struct{ event, data, hears, hearsWithoutID, log string }{
		{event: "nothing", hears: `{"id":1}`},
		{event: "reply", hears: `{"id":1,"args":[1,"two"]}`},
		{event: "secret", hears: `{"id":1,"error":{"message":"internal error"}}`,
			hearsWithoutID: `{"event":"error","data":{"event":"secret","message":"internal error"}}`, log: "db at 10.0.0.7 is down"},
		{event: "shown", hears: `{"id":1,"error":{"message":"no","data":[1]}}`,
			hearsWithoutID: `{"event":"error","data":{"event":"shown","message":"no","data":[1]}}`},
		{event: "call", hears: `{"id":1,"data":3}`},
		{event: "unencodable", hears: `{"id":1,"error":{"message":"internal error"}}`, log: "unsupported type"},
	}
	noLeaks(t)
	logger, log := newLog()
	h := newHub(t, Options{Logger: logger})
	h.Handle("nothing", func(*Event) {})
	h.Handle("reply", func(e *Event) {
		first := e.Reply(1, "two")
		if asked := e.ackID != noID; asked != (first == nil) || !asked && !errors.Is(first, ErrNoAck) {
			t.Errorf("Reply: %v", first)
		}
		if err := e.Reply(3); !errors.Is(err, ErrNoAck) {
			t.Errorf("a second Reply: %v", err)
		}
	})
	h.Handle("secret", func(e *Event) { e.ReplyError(errors.New("db at 10.0.0.7 is down")) })
	On(h, "shown", func(*Socket, any) error { return fmt.Errorf("x: %w", &Error{Message: "no", Data: []int{1}}) })
	OnCall(h, "call", func(*Socket, any) (int, error) { return 3, nil })
	OnCall(h, "unencodable", func(*Socket, any) (any, error) { return func() {}, nil })
	c := serve(t, overTCP, h).connect(t, nil)
	for _, test := range tests {
		t.Run(test.event, func(t *testing.T) {
			c := &client{c.Conn, t, c.sid}
			before := len(log.String())
			c.send(`{"event":"` + test.event + `","id":1}`)
			c.want(test.hears)
			c.send(`{"event":"` + test.event + `"}`)
			if test.hearsWithoutID != "" {
				c.want(test.hearsWithoutID)
			}
			c.settle()
			if got := log.String()[before:]; test.log == "" && got != "" || !strings.Contains(got, test.log) {
				t.Errorf("log: %s", got)
			}
		})
	}
}

func TestHandleAny(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	var saw []string
	h.HandleAny(func(e *Event) { saw = append(saw, fmt.Sprintf("any %s %s", e.Name(), e.Args())) })
	h.Handle("e", func(e *Event) { saw = append(saw, "e"); e.Reply(len(saw)) })
	c := serve(t, overTCP, h).connect(t, nil)
	c.send(`{"event":"e","args":[1,"a"],"id":1}`)
	c.want(`{"id":1,"data":2}`)
	c.send(`{"event":"unknown","id":2}`)
	c.want(`{"id":2}`)
	c.CloseNow()
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if want := []string{`any e [1 "a"]`, "e", "any unknown []"}; !slices.Equal(saw, want) {
		t.Errorf("saw %q, want %q", saw, want)
	}
}

func TestHandlePanics(t *testing.T) {
	h := newHub(t, Options{})
	h.Handle("e", func(*Event) {})
	for _, name := range []string{"e", "", "connect", "disconnect", strings.Repeat("e", maxEventName+1)} {
		for how, register := range map[string]func(){
			"Handle": func() { h.Handle(name, func(*Event) {}) },
			"On":     func() { On(h, name, func(*Socket, any) error { return nil }) },
			"OnCall": func() { OnCall(h, name, func(*Socket, any) (any, error) { return nil, nil }) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s(%.10q) did not panic", how, name)
					}
				}()
				register()
			}()
		}
	}
	h.Handle("f", func(*Event) {}) // nothing is left locked
}

func TestValues(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	c := serve(t, overTCP, h).connect(t, nil)
	s := c.socket(h)
	if v, ok := s.Get("n"); v != nil || ok {
		t.Errorf("got %v, %t", v, ok)
	}
	s.Set("n", 7)
	if n, ok := Value[int](s, "n"); n != 7 || !ok {
		t.Errorf("got %d, %t", n, ok)
	}
	if n, ok := Value[string](s, "n"); n != "" || ok {
		t.Errorf("got %q, %t of another type", n, ok)
	}
	if n, ok := Value[int](s, "m"); n != 0 || ok {
		t.Errorf("got %d, %t of another key", n, ok)
	}
	ctx := s.Context()
	if ctx.Err() != nil || ctx != s.Context() {
		t.Error("a context that ended, or another one")
	}
	c.CloseNow()
	within(t, ctx.Done(), "the context's end")
	if v, ok := s.Get("n"); v != 7 || !ok {
		t.Errorf("got %v, %t after the disconnect", v, ok)
	}
}

// The log says which function it was that failed or panicked: an event's handler by the event, the
// others by their name.
func TestLogNamesFunction(t *testing.T) {
	for _, test := range []struct {
		name    string
		prepare func(h *Hub)
		want    string
	}{
		{"Use fails", func(h *Hub) { h.Use(func(*Socket) error { return errors.New("oops") }) }, "function=Use"},
		{"Use panics", func(h *Hub) { h.Use(func(*Socket) error { panic("oops") }) }, "function=Use"},
		{"OnConnect panics", func(h *Hub) { h.OnConnect(func(*Socket) { panic("oops") }) }, "function=OnConnect"},
		{"OnDisconnect panics", func(h *Hub) {
			h.OnConnect(func(s *Socket) { s.Disconnect() })
			h.OnDisconnect(func(*Socket, Reason) { panic("oops") })
		}, "function=OnDisconnect"},
		{"a handler fails", func(h *Hub) {
			On(h, "e", func(*Socket, any) error { return errors.New("oops") })
		}, "event=e"},
		{"a handler panics", func(h *Hub) { h.Handle("e", func(*Event) { panic("oops") }) }, "event=e"},
	} {
		t.Run(test.name, func(t *testing.T) {
			noLeaks(t)
			logger, log := newLog()
			h := newHub(t, Options{Logger: logger})
			test.prepare(h)
			c := serve(t, overTCP, h).socketIO(t)
			c.send("40")
			c.send(`42["e"]`)
			eventually(t, "the log entry", func() bool { return strings.Contains(log.String(), "oops") })
			if got := log.String(); !strings.Contains(got, test.want) || strings.Contains(got, `event=""`) {
				t.Errorf("the log: %s\nwant %s", got, test.want)
			}
		})
	}
}
