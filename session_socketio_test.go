package atrium

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestSocketIOConnect(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	guarded := h.Of("/guarded")
	guarded.Use(func(s *Socket) error {
		var auth struct{ Token string }
		s.Handshake().Bind(&auth)
		switch auth.Token {
		case "right":
			return nil
		case "odd":
			return fmt.Errorf("secret")
		}
		return &Error{Message: "Auth failed", Data: map[string]int{"code": 7}}
	})
	overTransports(t, h, func(t *testing.T, open func() talker) {
		for _, test := range []struct {
			say  string
			hear []string
		}{
			{`40`, []string{welcome("")}},
			{`40/`, []string{welcome("")}},
			{`40{}`, []string{welcome(""), `42["auth",{}]`}},
			{`40{"token":"<1>"}`, []string{welcome(""), `42["auth",{"token":"<1>"}]`}},
			{`40/custom`, []string{welcome("/custom,")}},
			{`40/custom,`, []string{welcome("/custom,")}},
			{`40/custom,{"token":"a"}`, []string{welcome("/custom,"), `42/custom,["auth",{"token":"a"}]`}},
			{`40/random`, []string{`44/random,{"message":"Invalid namespace"}`}},
			{`40/custom?token=a`, []string{`44/custom?token=a,{"message":"Invalid namespace"}`}},
			{`40/guarded`, []string{`44/guarded,{"message":"Auth failed","data":{"code":7}}`}},
			{`40/guarded,{"token":"odd"}`, []string{`44/guarded,{"message":"internal error"}`}},
			{`40/guarded,{"token":"right"}`, []string{welcome("/guarded,")}},
		} {
			c := open()
			c.say(test.say)
			wantHears(t, c, test.hear...)
			c.say("1")
		}

		// Who is refused may try again at once, and is not refused elsewhere.
		c := open()
		for range 20 {
			c.say("40/guarded,")
			wantHears(t, c, `44/guarded,{"message":"Auth failed","data":{"code":7}}`)
		}
		c.say(`40/guarded,{"token":"right"}`, `40/nowhere`, `40`)
		heard := map[string]bool{}
		for range 3 {
			heard[c.hear()[:6]] = true
		}
		if len(heard) != 3 || !heard["44/now"] {
			t.Errorf("heard %v", heard)
		}
		c.say("1")
	})
}

func TestSocketIOEvents(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	OnCall(h, "fails", func(*Socket, any) (any, error) { return nil, &Error{Message: "no", Data: 1} })
	answers := make(chan string, 1)
	On(h, "ask me", func(s *Socket, _ any) error {
		answer, err := Call[any](s.Context(), s, "question", 1, "two")
		answers <- fmt.Sprint(answer, err)
		return nil
	})
	On(h, "ask for bytes", func(s *Socket, _ any) error {
		answer, err := Call[Binary](s.Context(), s, "bytes?")
		answers <- fmt.Sprint(answer, err)
		return nil
	})
	const two = `{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`
	overTransports(t, h, func(t *testing.T, open func() talker) {
		c := open()
		c.say("40")
		wantHears(t, c, welcome(""))
		for _, test := range []struct{ say, hear []string }{
			{[]string{`42["message"]`}, []string{`42["message-back"]`}},
			{[]string{`42["message",1,"2",{"3":[true]},null]`}, []string{`42["message-back",1,"2",{"3":[true]},null]`}},
			{[]string{`42["message","\u001e<&>"]`}, []string{`42["message-back","\u001e<&>"]`}},
			{[]string{`420["echo",{"a":1}]`}, []string{`430[{"a":1}]`}},
			{[]string{`42["echo",1]`, `429007199254740991["echo"]`}, []string{`439007199254740991[null]`}},
			{[]string{`427["message"]`}, []string{`42["message-back"]`, `437[]`}},
			{[]string{`427["fails"]`}, []string{`437[{"error":{"message":"no","data":1}}]`}},
			{[]string{`42["fails"]`}, []string{`42["error",{"event":"fails","message":"no","data":1}]`}},
			{[]string{`427["nobody"]`}, []string{`437[{"error":{"message":"event: \"nobody\" is not one that this server knows"}}]`}},
			{[]string{`452-["bytes",` + two, "bAQID", "b"}, []string{`452-["bytes-back",` + two, "bAQID", "b"}},
			{[]string{`452-789["bytes",` + two, "bAQID", "bBAUG"},
				[]string{`452-["bytes-back",` + two, "bAQID", "bBAUG", `462-789[` + two, "bAQID", "bBAUG"}},
			{[]string{`43999[1]`, `42["message"]`}, []string{`42["message-back"]`}}, // nobody has asked
		} {
			c.say(test.say...)
			wantHears(t, c, test.hear...)
		}

		c.say(`42["ask me"]`)
		question := c.hear()
		found := regexp.MustCompile(`^42(\d+)\["question",1,"two"\]$`).FindStringSubmatch(question)
		if found == nil {
			t.Fatalf("heard %s", question)
		}
		c.say(`43`+found[1]+`["yes"]`, `43`+found[1]+`["no"]`)
		if got := within(t, answers, "the answer"); got != "yes<nil>" {
			t.Errorf("answered %s", got)
		}
		c.say(`42["ask for bytes"]`)
		found = regexp.MustCompile(`^42(\d+)\["bytes\?"\]$`).FindStringSubmatch(c.hear())
		if found == nil {
			t.Fatal("no question")
		}
		c.say(`461-`+found[1]+`[{"_placeholder":true,"num":0}]`, "bAQID")
		if got := within(t, answers, "the answer"); got != "[1 2 3] <nil>" {
			t.Errorf("answered %s", got)
		}
		c.say("1")
	})
}

// Leaving one namespace, from either end, leaves the client in its others.
func TestSocketIONamespaces(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	custom := h.Of("/custom")
	left := make(chan Reason, 10)
	custom.OnDisconnect(func(s *Socket, why Reason) { left <- why })
	On(custom, "throw me out", func(s *Socket, _ any) error { s.Disconnect(); return nil })
	overTransports(t, h, func(t *testing.T, open func() talker) {
		c := open()
		c.say("40", "40/custom")
		heard := c.hear()[:3] + c.hear()[:3]
		if heard != "40{40/" && heard != "40/40{" {
			t.Fatalf("heard %s", heard)
		}
		c.say(`42/custom,["message",1]`)
		wantHears(t, c, `42/custom,["message-back",1]`)

		c.say("41/custom")
		wantReason(t, left, ReasonClientDisconnect)
		c.say("40/custom")
		wantHears(t, c, welcome("/custom,"))
		c.say(`42/custom,["throw me out"]`, `42/custom,["crosses the news"]`)
		wantHears(t, c, "41/custom,")
		wantReason(t, left, ReasonServerDisconnect)
		c.say(`42/custom,["crosses the news"]`, "41/custom", `43/custom,1[]`)

		c.say("40/custom")
		wantHears(t, c, welcome("/custom,"))
		c.say("41")
		c.say(`42/custom,["message",2]`)
		wantHears(t, c, `42/custom,["message-back",2]`)
		c.say("41/custom")
		wantReason(t, left, ReasonClientDisconnect)
		c.say("40") // a client that is nowhere may come back
		wantHears(t, c, welcome(""))
		c.say("1")
	})
}

func TestSocketIOViolations(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	left := leavings(h)
	const placeholder = `{"_placeholder":true,"num":0}`
	bad := [][]string{
		{"4abc"}, {"4"}, {"47"}, {"42{}"}, {"42[]"}, {"42[null]"}, {"42"}, {"42[\"message\""}, {"42abc[\"echo\"]"}, {`42["message"] x`},
		{`42["connect"]`}, {`42["connect_error"]`}, {`42["disconnect"]`}, {`42["disconnecting"]`}, {`42["newListener"]`}, {`42["removeListener"]`},
		{"41{}"}, {`44{"message":"x"}`}, {"40"}, {"40/custom,[]"}, {`40/custom,"x"`}, {"40/custom,null"},
		{`42/custom,["message"]`}, {"41/custom"}, {"43/custom,1[]"}, {"43[]"},
		{"bAQID"}, {`450-["bytes"]`}, {`45["bytes"]`}, {`451-["bytes",{"_placeholder":true,"num":1}]`},
		{`451-["bytes",` + placeholder + `]`, "3", `42["message"]`},
		{`451-["connect",` + placeholder + `]`, "bAQID"},
		{`451-["bytes",{"_placeholder":true,"num":"0"}]`, "bAQID"},
	}
	overTransports(t, h, func(t *testing.T, open func() talker) {
		for _, packets := range bad {
			c := open()
			c.say("40")
			wantHears(t, c, welcome(""))
			c.say(packets...)
			wantHears(t, c, "closed")
			if got := within(t, left, "OnDisconnect"); got != ReasonParseError {
				t.Errorf("after %q: %q", packets, got)
			}
		}
		for _, packet := range []string{`42["message"]`, "41", "431[]", "4abc", `44{}`} { // and no connect before them
			c := open()
			c.say(packet)
			wantHears(t, c, "closed")
		}
	})
}

// A packet with more attachments than Limits.Attachments costs its sender that packet: the
// attachments are passed over, and the error is told, to a Call as well.
func TestTooManyAttachmentsCostThePacket(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{Limits: Limits{Attachments: 2}})
	sockets := newChannel[*Socket]()
	h.OnConnect(func(s *Socket) { sockets <- s })
	overTransports(t, h, func(t *testing.T, open func() talker) {
		c := open()
		c.say("40")
		wantHears(t, c, welcome(""))
		s := within(t, sockets, "OnConnect")
		const first = `{"_placeholder":true,"num":0}`
		c.say(`453-["message",`+first+`]`, "bAQID", "3", "bAQID", "bAQID")
		wantHears(t, c, `42["error",{"event":"message","message":"attachments: expected at most 2, got 3"}]`)
		c.say(`453-7["message",`+first+`]`, "bAQID", "bAQID", "bAQID")
		wantHears(t, c, `437[{"error":{"message":"attachments: expected at most 2, got 3"}}]`)

		answered := make(chan error, 1)
		go func() {
			_, err := Call[any](context.Background(), s, "ask")
			answered <- err
		}()
		asked := c.hear()
		c.say("463-"+strings.TrimSuffix(strings.TrimPrefix(asked, "42"), `["ask"]`)+"["+first+"]", "bAQID", "bAQID", "bAQID")
		if e, ok := errors.AsType[*Error](within(t, answered, "Call")); !ok || e.Message != "attachments: expected at most 2, got 3" {
			t.Errorf("Call: %v", e)
		}

		// What is sent has the same bound.
		if err := s.Emit("e", Binary{1}, Binary{2}, Binary{3}); err == nil || !strings.Contains(err.Error(), "3 binary values, more than the 2 that are allowed") {
			t.Errorf("Emit: %v", err)
		}
		if err := s.Emit("e", Binary{1}, Binary{2}); err != nil {
			t.Errorf("Emit: %v", err)
		}
		wantHears(t, c, `452-["e",`+first+`,{"_placeholder":true,"num":1}]`, "bAQ==", "bAg==")
		c.say(`42["message",1]`)
		wantHears(t, c, `42["message-back",1]`) // the connection has outlived it all
		c.say("1")
	})
}

// A client that asks whether the connection still is one gets an answer; a pong asks nothing.
func TestSocketIOProbe(t *testing.T) {
	h := newEcho(t, Options{})
	c := serve(t, overTCP, h).socketIO(t)
	c.say("3probe", "3", "3prob", "40")
	if got := c.hear(); got != "6" {
		t.Errorf("heard %s", got)
	}
	if got := c.hear(); !strings.HasPrefix(got, "40{") {
		t.Errorf("heard %s", got)
	}
}

func TestSocketIOConnectTimeout(t *testing.T) {
	const timeout = 5 * time.Second
	for _, kind := range talkers[:2] {
		t.Run(kind.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newEcho(t, Options{Timeouts: Timeouts{Connect: timeout, PingInterval: time.Hour}})
				srv := serve(t, overPipe, h)
				idle, joined := kind.open(t, srv), kind.open(t, srv)
				refused := kind.open(t, srv)
				start := time.Now()
				joined.say("40")
				wantHears(t, joined, welcome(""))
				joined.say("41")
				refused.say("40/nowhere")
				wantHears(t, refused, `44/nowhere,{"message":"Invalid namespace"}`)
				wantHears(t, idle, "closed")
				wantAfter(t, h, "the end", start, timeout)
				wantHears(t, refused, "closed")
				<-time.After(timeout)
				joined.say("40")
				wantHears(t, joined, welcome(""))
				joined.say("1")
			})
		})
	}
}

// Who is disconnected while it is being let in is refused, and once.
func TestSocketIODisconnectInUse(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	for name, err := range map[string]error{"/gone": nil, "/gone-and-refused": Errorf("no")} {
		n := h.Of(name)
		n.Use(func(s *Socket) error { s.Disconnect(); return err })
		n.OnConnect(func(*Socket) { t.Error("it is connected") })
	}
	overTransports(t, h, func(t *testing.T, open func() talker) {
		c := open()
		for _, name := range []string{"/gone", "/gone-and-refused"} {
			c.say("40" + name)
			wantHears(t, c, "44"+name+`,{"message":"server namespace disconnect"}`)
		}
		c.say("40")
		wantHears(t, c, welcome(""))
		c.say("1")
	})
}

// What OnConnect emits follows the connect message at once, over every transport. It once came 5 ms
// later over a WebSocket, and what was emitted to the socket's rooms meanwhile came before it.
func TestSocketIOFirstEventAtOnce(t *testing.T) {
	for _, kind := range talkers[:2] { // the third is a WebSocket, too
		t.Run(kind.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
				h.Use(func(s *Socket) error { return s.Join("lobby") })
				h.OnConnect(func(s *Socket) { s.Emit("hello") })
				c := kind.open(t, serve(t, overPipe, h))
				start := time.Now()
				c.say("40")
				wantHears(t, c, welcome(""))
				synctest.Wait() // all is done that happens without time passing
				h.To("lobby").Emit("news")
				wantHears(t, c, `42["hello"]`, `42["news"]`)
				if after := time.Since(start); after != 0 {
					t.Errorf("heard after %v", after)
				}
				c.say("1")
			})
		})
	}
}

// A thousand handshakes that nothing follows are forgotten.
func TestSocketIOHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newEcho(t, Options{Timeouts: Timeouts{Connect: 5 * time.Second}, Limits: Limits{Connections: 1000}})
		e := serve(t, overPipe, h).engine(t)
		for range 1000 {
			if r := e.get(); r.status != 200 {
				t.Fatal(r)
			}
		}
		if r := e.get(); r.status != 503 {
			t.Error("one too many is let in")
		}
		<-time.After(5*time.Second + pollLinger + 2*time.Duration(h.sessions.clock.tick))
		synctest.Wait()
		h.checkNobody(t)
		if len(h.live.polls) != 0 {
			t.Errorf("%d are left", len(h.live.polls))
		}
		if r := e.get(); r.status != 200 {
			t.Error("the place is not free again")
		}
	})
}

// What OnDisconnect is told, for each way to go over each transport.
func TestSocketIOReasons(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	left := leavings(h)
	for _, test := range []struct {
		name   string
		leave  func(c talker)
		reason map[string]Reason // by transport; "" stands for the others
	}{
		{"disconnect", func(c talker) { c.say("41", "1") }, map[string]Reason{"": ReasonClientDisconnect}},
		{"disconnect and cut", func(c talker) { c.say("41"); c.hangUp(h) }, map[string]Reason{"": ReasonClientDisconnect}},
		{"events and disconnect", func(c talker) { c.say(`42["message"]`, "41", "1") }, map[string]Reason{"": ReasonClientDisconnect}},
		{"close", func(c talker) { c.say("1") }, map[string]Reason{"": ReasonTransportClose}},
		{"cut", func(c talker) { c.hangUp(h) }, map[string]Reason{"": ReasonTransportClose, "polling": ReasonTransportError}},
		{"nonsense", func(c talker) { c.say("4abc") }, map[string]Reason{"": ReasonParseError}},
		{"thrown out", func(c talker) { h.sockets(1)[0].Disconnect(); wantHears(t, c, "41"); c.say("1") }, map[string]Reason{"": ReasonServerDisconnect}},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := serve(t, overTCP, h)
			for _, kind := range talkers {
				reason, ok := test.reason[kind.name]
				if !ok {
					reason = test.reason[""]
				}
				for range 10 {
					c := kind.open(t, srv)
					c.say("40")
					wantHears(t, c, welcome(""))
					test.leave(c)
					if got := within(t, left, "OnDisconnect"); got != reason {
						t.Errorf("%s: %q, want %q", kind.name, got, reason)
					}
					h.sockets(0)
				}
			}
		})
	}
}

// A client that disconnects and is gone, over TCP, has disconnected: whatever the network says of
// it.
func TestSocketIODisconnectWins(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	left := leavings(h)
	srv := serve(t, overTCP, h)
	noise := make(chan struct{}, 3)
	var busy sync.WaitGroup
	busy.Go(func() { // writes to the client meanwhile, which fail
		for range noise {
			h.Emit("noise", strings.Repeat("x", 100))
		}
	})
	makeNoise := func() {
		for range cap(noise) {
			noise <- struct{}{}
		}
	}
	for range 100 {
		c := srv.direct(t)
		c.send("40")
		for !strings.HasPrefix(c.next(), "40") {
		}
		makeNoise()
		c.send("41")
		eventually(t, "it is sent", func() bool { return c.out.status().bytes == 0 })
		makeNoise()
		c.CloseNow() // with noise that it has not read, which resets the connection
		wantReason(t, left, ReasonClientDisconnect)
	}
	close(noise)
	busy.Wait()
}

// A plain client and clients of each transport share a room.
func TestSocketIOSharesRooms(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	On(h, "join", func(s *Socket, room string) error { return s.Join(room) })
	OnCall(h, "say", func(s *Socket, text string) (int, error) { return len(text), s.To("r").Emit("said", text) })
	srv := serve(t, overTCP, h)
	plain := srv.connect(t, nil)
	plain.send(`{"event":"join","data":"r","id":1}`)
	plain.want(`{"id":1}`)
	var others []talker
	for _, kind := range talkers {
		c := kind.open(t, srv)
		c.say("40")
		wantHears(t, c, welcome(""))
		c.say(`421["join","r"]`)
		wantHears(t, c, "431[]")
		others = append(others, c)
	}
	plain.send(`{"event":"say","data":"hi","id":2}`)
	plain.want(`{"id":2,"data":2}`)
	for _, c := range others {
		wantHears(t, c, `42["said","hi"]`)
	}
	others[1].say(`422["say","ho"]`)
	plain.want(`{"event":"said","data":"ho"}`)
	wantHears(t, others[1], "432[2]")
	wantHears(t, others[0], `42["said","ho"]`)
	wantHears(t, others[2], `42["said","ho"]`)
	for _, c := range others {
		c.say("1")
	}
	plain.Close(StatusNormalClosure, "")
}

// An Accept that refuses, or panics, leaves nothing.
func TestSocketIOAccept(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{Accept: func(r *http.Request) (context.Context, error) {
		switch r.URL.Query().Get("as") {
		case "nobody":
			return nil, &Error{Message: "not you", Status: http.StatusUnauthorized}
		case "panic":
			panic("accept")
		}
		return context.WithValue(r.Context(), testKey{}, r.URL.Query().Get("as")), nil
	}})
	names := make(chan any, 1)
	h.OnConnect(func(s *Socket) { names <- s.Context().Value(testKey{}) })
	e := serve(t, overTCP, h).engine(t)
	e.do("GET", "?EIO=4&transport=polling&as=nobody", "").want(t, 401, `{"code":4,"message":"not you"}`)
	if _, err := e.request(t.Context(), "GET", "?EIO=4&transport=polling&as=panic", ""); err == nil {
		t.Error("answered")
	}
	h.checkNobody(t)
	r := e.do("GET", "?EIO=4&transport=polling&as=ann", "")
	e.sid = handshakeForm.FindStringSubmatch(r.body)[1]
	e.post("40")
	if name := within(t, names, "OnConnect"); name != "ann" {
		t.Errorf("the context knows %v", name)
	}
	e.get()
	e.leave()
}

type testKey struct{}

// A panicking handler costs its client the connection, over polling, too.
func TestSocketIOPanics(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	left := leavings(h)
	h.Handle("boom", func(*Event) { panic("boom") })
	overTransports(t, h, func(t *testing.T, open func() talker) {
		c := open()
		c.say("40")
		wantHears(t, c, welcome(""))
		c.say(`421["boom"]`)
		wantHears(t, c, `431[{"error":{"message":"internal error"}}]`, "closed")
		wantReason(t, left, ReasonForcedServerClose)
	})
}

// While a client's inbox is full its POST waits; the heartbeat does not blame the client.
func TestPollingBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newEcho(t, Options{Limits: Limits{InboxEvents: 2}, Timeouts: Timeouts{PingInterval: 8 * time.Second, Ping: 6 * time.Second}})
		gate := make(chan struct{})
		h.Handle("wait", func(*Event) { <-gate })
		srv := serve(t, overPipe, h)
		e := srv.polls(t)
		e.post("40")
		e.get()
		posted := make(chan reply, 1)
		go func() {
			r, _ := e.request(context.Background(), "POST", e.query(), strings.Repeat("42[\"wait\"]\x1e", 9)+`42["message"]`)
			posted <- r
		}()
		<-time.After(time.Minute)
		if len(posted) != 0 {
			t.Error("the POST did not wait")
		}
		close(gate)
		r := <-posted
		r.want(t, 200, "ok")
		got := e.get().body
		for !strings.Contains(got, "message-back") {
			got = e.get().body
		}
		e.leave()
	})
}

// An event whose name is empty or over 256 bytes costs the event, and not the connection, as for
// plain clients.
func TestSocketIOUnusableEventName(t *testing.T) {
	noLeaks(t)
	const problem = `"message":"event: expected a string of 1 to 256 bytes"`
	h := newEcho(t, Options{})
	overTransports(t, h, func(t *testing.T, open func() talker) {
		c := open()
		c.say("40")
		c.hear()
		for _, name := range []string{`""`, `"` + strings.Repeat("n", maxEventName+1) + `"`, strings.Repeat("1", maxEventName+1)} {
			c.say(`42[` + name + `,1]`)
			if got, want := c.hear(), `42["error",{`+problem+`}]`; got != want {
				t.Errorf("%.9s: got  %s\nwant %s", name, got, want)
			}
			c.say(`427[` + name + `]`)
			if got, want := c.hear(), `437[{"error":{`+problem+`}}]`; got != want {
				t.Errorf("%.9s: got  %s\nwant %s", name, got, want)
			}
			c.say(`451-8[`+name+`,`+p0+`]`, "bAQI=") // its attachment belongs to it
			if got, want := c.hear(), `438[{"error":{`+problem+`}}]`; got != want {
				t.Errorf("%.9s: got  %s\nwant %s", name, got, want)
			}
		}
		c.say(`42["message","still here"]`)
		if got := c.hear(); got != `42["message-back","still here"]` {
			t.Errorf("got %s", got)
		}
		c.say("41", "1")
		if e, polls := c.(*engine); polls {
			e.get()
		}
	})
}
