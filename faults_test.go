package atrium

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A faultScenario is what a client and a hub do with each other while the network breaks.
type faultScenario struct {
	name    string
	options Options
	step    int // in bytes, between the faults of one round
	// talk is the client's side. It ends at the first thing that goes wrong: see guest.
	talk func(g *guest)
}

// guest is a client whose network breaks. Its methods end its goroutine when they fail.
type guest struct {
	run   *faultRun
	conn  *Conn
	http  *http.Client
	sid   string // of Engine.IO
	heard []string
}

// faultRun is a hub on a network that breaks, with a witness whose network does not.
type faultRun struct {
	t         *testing.T
	net       *faultNet
	hub       *Hub
	witness   *client
	seen      <-chan *string // what the witness hears
	heardSays int            // by the witness
	bytes     [2]int         // that the latest play took

	mu      sync.Mutex // guards:
	handled []string   // what the handlers got, from the guest
	says    int        // broadcasts, of all guests
	came    int        // of the guest's sockets
	left    []Reason
	leftAt  time.Time // the latest
	wrong   []string
}

func newFaultRun(t *testing.T, s shape, options Options) *faultRun {
	options.Timeouts.PingInterval, options.Timeouts.Ping = 20*time.Second, 10*time.Second // see foundWithin
	f := &faultRun{t: t, net: newFaultNet(s), hub: newHub(t, options)}
	h := f.hub
	isGuest := func(s *Socket) bool { return f.witness != nil && s.ID() != f.witness.sid }
	note := func(s *Socket, what string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if isGuest(s) {
			f.handled = append(f.handled, what)
		}
	}
	h.OnConnect(func(s *Socket) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if isGuest(s) {
			f.came++
		}
	})
	h.OnDisconnect(func(s *Socket, why Reason) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if isGuest(s) {
			f.left, f.leftAt = append(f.left, why), time.Now()
		}
	})
	On(h, "say", func(s *Socket, text string) error {
		note(s, text)
		f.mu.Lock()
		f.says++
		n := f.says
		f.mu.Unlock()
		return errorOf(h.Emit("said", n, len(text)))
	})
	OnCall(h, "echo", func(s *Socket, v any) (any, error) {
		note(s, fmt.Sprintf("echo %.40v", v))
		return v, nil
	})
	h.Handle("bytes", func(e *Event) {
		var b Binary
		if err := e.Bind(&b); err != nil {
			f.fail("bytes: %v", err)
		}
		note(e.Socket(), fmt.Sprintf("%d bytes, %x", len(b), b[:2]))
		e.Socket().Emit("bytes-back", b)
		e.Reply(b)
	})
	w := serve(t, overPipe, h).connect(t, nil)
	w.settle()
	f.mu.Lock()
	f.witness, f.seen = w, w.listen()
	f.mu.Unlock()
	serve(t, f.net.over(), h)
	return f
}

func (f *faultRun) fail(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
}

// play has the client talk while the fault comes, and returns what was heard and handled.
func (f *faultRun) play(s faultScenario, planned fault) (heard, handled []string) {
	f.mu.Lock()
	f.handled, f.left, f.came = nil, nil, 0
	f.mu.Unlock()
	g := &guest{run: f, http: &http.Client{Transport: &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return f.net.dial() },
		DisableCompression: true,
		DisableKeepAlives:  true,
	}}}
	f.net.plan(planned)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if g.conn != nil {
				g.conn.CloseNow()
			}
		}()
		s.talk(g)
	}()
	<-done
	var at time.Time
	f.bytes, at = f.net.plan(fault{}) // what is to come is over with the client
	handled = f.settle(planned)
	if planned.kind == breakStall && !at.IsZero() && len(f.left) > 0 && f.leftAt.Sub(at) > foundWithin {
		f.t.Fatalf("%v: it was noticed after %v, want at most %v", planned, f.leftAt.Sub(at), foundWithin)
	}
	return g.heard, handled
}

// settle waits until the hub has got over the guest, checks what it made of it, and that the
// witness has noticed nothing.
func (f *faultRun) settle(planned fault) (handled []string) {
	f.t.Helper()
	began := time.Now()
	for !f.alone() {
		if time.Since(began) > 10*time.Minute {
			f.t.Fatalf("%v: the hub does not get over it", planned)
		}
		<-time.After(250 * time.Millisecond)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.wrong) > 0 {
		f.t.Fatalf("%v: %s", planned, f.wrong)
	}
	if len(f.left) != f.came {
		f.t.Fatalf("%v: OnConnect %d times, OnDisconnect for %q", planned, f.came, f.left)
	}
	for _, why := range f.left {
		if !slices.Contains(sensible[planned.kind], why) {
			f.t.Fatalf("%v: the reason is %q, want one of %q", planned, why, sensible[planned.kind])
		}
	}
	return slices.Clone(f.handled)
}

// alone reports whether nobody but the witness is left, in any way.
func (f *faultRun) alone() bool {
	h := f.hub
	if len(h.list()) != 1 || len(h.LocalSockets()) != 1 {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.quota.total == 1 && len(h.live.polls) == 0
}

// asWitness checks that the witness has got all that was said, in order, and is served.
func (f *faultRun) asWitness(planned fault) {
	f.t.Helper()
	f.witness.send(`{"event":"settle","id":999}`)
	for next := <-f.seen; *next != settled; next = <-f.seen {
		f.heardSays++
		if want := fmt.Sprintf(`{"event":"said","args":[%d,`, f.heardSays); !strings.HasPrefix(*next, want) {
			f.t.Fatalf("%v: the witness got %s, want %s", planned, *next, want)
		}
	}
	if f.heardSays != f.says {
		f.t.Fatalf("%v: the witness got %d of %d broadcasts", planned, f.heardSays, f.says)
	}
}

// sensible are the reasons for which a guest may have left, by what the network has done.
var sensible = [breakages][]Reason{
	noBreakage: {ReasonTransportClose, ReasonClientDisconnect},
	breakReset: {ReasonTransportClose, ReasonTransportError, ReasonClientDisconnect, ReasonPingTimeout},
	breakLost:  {ReasonTransportClose, ReasonTransportError, ReasonClientDisconnect, ReasonPingTimeout},
	breakEnd:   {ReasonTransportClose, ReasonTransportError, ReasonClientDisconnect, ReasonPingTimeout},
	breakHalf:  {ReasonTransportClose, ReasonTransportError, ReasonClientDisconnect, ReasonPingTimeout},
	breakStall: {ReasonTransportClose, ReasonPingTimeout, ReasonForcedServerClose, ReasonClientDisconnect},
	breakWrite: {ReasonTransportClose, ReasonTransportError, ReasonClientDisconnect, ReasonPingTimeout},
	breakRead:  {ReasonTransportClose, ReasonTransportError, ReasonClientDisconnect, ReasonPingTimeout},
}

// foundWithin is the hub's PingInterval and Ping, and two ticks of its clock.
const foundWithin = 31 * time.Second

// quit ends the guest.
func (g *guest) quit() { runtime.Goexit() }

// secrets are what differs between two runs.
var secrets = regexp.MustCompile(`"[sp]id":"[\w-]{20,}"|said",("args":\[)?\d+`)

// note keeps what was heard, without what differs between two runs.
func (g *guest) note(m string) string {
	text := secrets.ReplaceAllString(m, "…")
	if len(text) > 100 {
		text = fmt.Sprintf("%.50s… (%d)", text, len(text))
	}
	g.heard = append(g.heard, text)
	return m
}

// dial opens a WebSocket.
func (g *guest) dial(rest string, subprotocols ...string) {
	conn, _, err := Dial(context.Background(), "ws://localhost"+rest, DialOptions{
		Subprotocols: subprotocols,
		Compression:  Compression{Level: 1},
		DialContext:  func(context.Context, string, string) (net.Conn, error) { return g.run.net.dial() },
	})
	if err != nil {
		g.quit()
	}
	g.conn = conn
}

func (g *guest) say(messages ...string) {
	for _, m := range messages {
		if g.conn.Write(context.Background(), MessageText, []byte(m)) != nil {
			g.quit()
		}
	}
}

func (g *guest) sayBytes(b []byte) {
	if g.conn.Write(context.Background(), MessageBinary, b) != nil {
		g.quit()
	}
}

// hear takes the next message. A guest that hears nothing for two minutes leaves.
func (g *guest) hear() string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	op, p, err := g.conn.Read(ctx)
	if e, ok := errors.AsType[*CloseError](err); ok && e.Code != StatusAbnormalClosure && e.Code != StatusNormalClosure {
		g.run.fail("closed: %v", err)
	}
	switch {
	case err != nil:
		g.quit()
	case op == MessageText && string(p) == "2":
		g.say("3")
		return g.hear()
	case op == MessageBinary:
		return g.note(fmt.Sprintf("%d bytes, %x", len(p), p[:min(2, len(p))]))
	}
	return g.note(string(p))
}

// bye closes the connection with a handshake.
func (g *guest) bye() {
	if g.conn.Close(StatusNormalClosure, "") == nil {
		g.note("closed")
	}
}

// request makes a request of polling and returns the answer's body.
func (g *guest) request(method, body string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	url := "http://localhost/socket.io/?EIO=4&transport=polling"
	if g.sid != "" {
		url += "&sid=" + g.sid
	}
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	answer, err := g.http.Do(r)
	if err != nil {
		g.quit()
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != 200 {
		g.quit()
	}
	return string(b)
}

// poll takes what a GET brings, packet by packet, until one has the prefix.
func (g *guest) poll(prefix string) {
	for range 20 {
		for _, p := range strings.Split(g.request("GET", ""), "\x1e") {
			g.note(p)
			if strings.HasPrefix(p, prefix) {
				return
			}
		}
	}
	g.run.fail("polled in vain for %s: %q", prefix, g.heard)
	g.quit()
}

// open begins a session of polling.
func (g *guest) open() {
	found := handshakeForm.FindStringSubmatch(g.note(g.request("GET", "")))
	if found == nil {
		g.run.fail("no handshake")
		g.quit()
	}
	g.sid = found[1]
}

var large = strings.Repeat("large ", 12_000)

// faultScenarios are what clients do.
var faultScenarios = []faultScenario{
	{"plain", Options{}, 1, func(g *guest) {
		g.dial("/", "atrium")
		g.say(`{"event":"connect","data":{"token":"t"}}`)
		g.hear()
		g.say(`{"event":"echo","id":1,"data":"one"}`, `{"event":"say","data":"two"}`, `{"event":"echo","id":2,"data":[3]}`)
		for range 3 {
			g.hear()
		}
		g.bye()
	}},
	{"Socket.IO", Options{}, 1, func(g *guest) {
		g.dial("/socket.io/?EIO=4&transport=websocket")
		g.hear()
		g.say("40")
		g.hear()
		g.say(`421["echo","one"]`, `42["say","two"]`, `451-3["bytes",{"_placeholder":true,"num":0}]`)
		g.sayBytes([]byte("abc"))
		for range 6 {
			g.hear()
		}
		g.say("41")
		g.bye()
	}},
	{"polling", Options{}, 8, func(g *guest) {
		g.open()
		g.request("POST", "40")
		g.poll("40")
		g.request("POST", "42[\"say\",\"one\"]\x1e451-[\"bytes\",{\"_placeholder\":true,\"num\":0}]\x1ebYWJj\x1e421[\"echo\",\"two\"]")
		g.poll("43")
		g.request("POST", "1")
	}},
	{"upgrade", Options{}, 8, func(g *guest) {
		g.open()
		g.request("POST", "40\x1e42[\"say\",\"one\"]")
		g.poll("42")
		g.dial("/socket.io/?EIO=4&transport=websocket&sid=" + g.sid)
		g.say("2probe")
		g.hear()
		g.request("POST", `42["say","two"]`)
		g.say("5", `421["echo","three"]`)
		g.hear()
		g.hear()
		g.bye()
	}},
	{"compressed", Options{Compression: Compression{Level: 1, Threshold: 1}}, 3, func(g *guest) {
		g.dial("/", "atrium")
		g.say(`{"event":"connect","data":{}}`)
		g.hear()
		for i := range 3 {
			g.say(fmt.Sprintf(`{"event":"echo","id":%d,"data":%q}`, i+1, large[:200]))
			g.hear()
		}
		g.say(fmt.Sprintf(`{"event":"say","data":%q}`, large[:200]))
		g.hear()
		g.bye()
	}},
	{"large", Options{}, 20, func(g *guest) {
		g.dial("/socket.io/?EIO=4&transport=websocket")
		g.hear()
		g.say("40")
		g.hear()
		g.say(`421["echo","`+large+`"]`, `42["say","after"]`)
		g.hear()
		g.hear()
		g.bye()
	}},
}

// isPrefix reports whether all that is in part is what whole begins with.
func isPrefix(part, whole []string) bool {
	return len(part) <= len(whole) && slices.Equal(part, whole[:len(part)])
}

// forSeeds runs a test in a bubble, for each seed of faultRounds.
func forSeeds(t *testing.T, name string, test func(t *testing.T, seed uint64)) {
	for _, seed := range faultRounds(t) {
		t.Run(fmt.Sprintf("%s, seed %d", name, seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, seed) })
		})
	}
}

// Whatever a client does, and wherever its connection is cut, stalls or fails: nothing panics,
// hangs or is left behind, each socket leaves once, for a reason that fits, a connection that has
// stalled is found within PingInterval and Ping, what arrived is the beginning of what would have
// arrived, and the other clients notice nothing.
func TestFaultsAtEveryByte(t *testing.T) {
	for _, s := range faultScenarios {
		for kind := breakReset; int(kind) < breakages; kind++ {
			forSeeds(t, fmt.Sprintf("%s, %v", s.name, kind), func(t *testing.T, seed uint64) { breakEverywhere(t, s, kind, seed) })
		}
	}
}

// breakEverywhere plays the scenario without a fault and then with the fault at each byte, step by
// step: a long message is broken near its ends and at some places between.
func breakEverywhere(t *testing.T, s faultScenario, kind breakage, seed uint64) {
	f := newFaultRun(t, shapeOf(seed), s.options)
	heard, handled := f.play(s, fault{})
	f.asWitness(fault{})
	if len(handled) < 2 || len(heard) < len(handled) {
		t.Fatalf("without a fault the handlers got %q, and the client %q", handled, heard)
	}
	for dir, total := range f.bytes {
		for at := (int(seed) + int(kind)) % s.step; at <= total; at += s.step {
			if at > 1000 && at < total-300 {
				at = min(at+4999, total-300)
			}
			planned := fault{kind, dir, at}
			hear, handle := f.play(s, planned)
			if !isPrefix(hear, heard) || !isPrefix(handle, handled) {
				t.Fatalf("%v: heard %q\nof %q\nhandled %q\nof %q", planned, hear, heard, handle, handled)
			}
			f.asWitness(planned)
		}
	}
}

// On a network that delivers a byte at a time, takes a byte at a time, and takes its time for it,
// all goes as on any other.
func TestFaultsShortReadsAndWrites(t *testing.T) {
	shapes := []shape{{piece: 1}, {buffer: 1}, {piece: 3, buffer: 1000}, {piece: 2000, buffer: 10, delay: time.Millisecond}}
	for _, s := range faultScenarios {
		forSeeds(t, s.name, func(t *testing.T, seed uint64) {
			heard, handled := newFaultRun(t, shape{}, s.options).play(s, fault{})
			for _, shape := range shapes {
				shape.seed = seed
				f := newFaultRun(t, shape, s.options)
				hear, handle := f.play(s, fault{})
				if !slices.Equal(hear, heard) || !slices.Equal(handle, handled) {
					t.Fatalf("%+v: heard %q\nwant %q\nhandled %q\nwant %q", shape, hear, heard, handle, handled)
				}
				f.asWitness(fault{})
			}
		})
	}
}
