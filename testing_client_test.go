package atrium

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// client is a plain client of a Hub.
type client struct {
	*Conn
	t   testing.TB
	sid string
}

// connect connects a plain client; unless auth is nil, with that first.
func (s *server) connect(t testing.TB, auth any, lines ...string) *client {
	t.Helper()
	if auth != nil {
		lines = append(lines, "Sec-WebSocket-Protocol: atrium")
	}
	c := &client{s.conn(t, lines...), t, ""}
	if auth != nil {
		c.emit("connect", auth)
	}
	var hello struct{ Sid string }
	c.expect("connect", &hello)
	c.sid = hello.Sid
	return c
}

// send sends a text as it is.
func (c *client) send(text string) {
	c.t.Helper()
	if err := c.Write(context.Background(), MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) emit(event string, data any) {
	c.t.Helper()
	b, err := json.Marshal(map[string]any{"event": event, "data": data})
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(string(b))
}

// next returns the next message as it came. A client that hears nothing for ten seconds has failed.
func (c *client) next() string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, p, err := c.Read(ctx)
	if err != nil {
		c.t.Fatalf("waiting for a message: %v", err)
	}
	return string(p)
}

// want expects the next message to be this one.
func (c *client) want(message string) {
	c.t.Helper()
	if got := c.next(); got != message {
		c.t.Fatalf("got  %s\nwant %s", got, message)
	}
}

// settled is the answer that settle waits for.
const settled = `{"id":999,"error":{"message":"event: \"settle\" is not one that this server knows"}}`

// settle waits until the hub has handled all that it got from the client before, OnConnect
// included.
func (c *client) settle() {
	c.t.Helper()
	c.send(`{"event":"settle","id":999}`)
	c.want(settled)
}

// expect expects the next message to be an event, whose data it decodes.
func (c *client) expect(event string, data any) {
	c.t.Helper()
	var m struct {
		Event string
		Data  json.RawMessage
	}
	raw := c.next()
	if err := json.Unmarshal([]byte(raw), &m); err != nil || m.Event != event {
		c.t.Fatalf("got %s, want the event %q (%v)", raw, event, err)
	}
	if err := json.Unmarshal(m.Data, data); err != nil {
		c.t.Fatal(err)
	}
}

// wantClosed expects the connection to end with the code, with nothing before it.
func (c *client) wantClosed(code StatusCode) {
	c.t.Helper()
	wantClosed(c.t, c.Conn, code)
}

// offer connects a client that has offered to authenticate and has not done so yet.
func (s *server) offer(t testing.TB) *client {
	t.Helper()
	return &client{s.conn(t, "Sec-WebSocket-Protocol: atrium"), t, ""}
}

// socket returns the hub's end of the client when all that the client sent before is handled.
func (c *client) socket(h *Hub) *Socket {
	c.t.Helper()
	c.settle()
	s := h.Namespace.socket(c.sid)
	if s == nil {
		c.t.Fatal("the hub does not know the client")
	}
	return s
}

// listen reads in the background, so that pings are answered, and passes on what comes, and in the
// end a nil.
func (c *client) listen() <-chan *string {
	heard := make(chan *string, 10_000)
	go func() {
		defer close(heard)
		for {
			_, p, err := c.Read(context.Background())
			if err != nil {
				return
			}
			m := string(p)
			heard <- &m
		}
	}()
	return heard
}

// ioClient is a Socket.IO client over a WebSocket. It is a talker.
type ioClient struct{ *client }

// socketIO connects an ioClient, to no namespace yet.
func (s *server) socketIO(t testing.TB) ioClient {
	t.Helper()
	return ioClient{s.direct(t)}
}

// join connects to a namespace and returns the socket's id.
func (c ioClient) join(namespace string) (id string) {
	c.t.Helper()
	prefix := "40" + namespace
	if namespace != "" {
		prefix += ","
	}
	c.send(prefix)
	var hello struct{ Sid string }
	data, ok := strings.CutPrefix(c.next(), prefix)
	if err := json.Unmarshal([]byte(data), &hello); !ok || err != nil || len(hello.Sid) != socketIDLength {
		c.t.Fatalf("got %s, %v", data, err)
	}
	return hello.Sid
}

// engine is a client of Engine.IO by polling, which makes one request at a time. It is a talker.
type engine struct {
	*server
	t    testing.TB
	http *http.Client
	sid  string

	packets []string // received, and not yet heard
}

// reply is what a request was answered with.
type reply struct {
	status int
	body   string
	header http.Header
}

// engine makes a client without a session.
func (s *server) engine(t testing.TB) *engine {
	transport := &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return s.kind.dial(s.listener) },
		DisableCompression: true,
		DisableKeepAlives:  true,
	}
	return &engine{server: s, t: t, http: &http.Client{Transport: transport}}
}

// polls makes a client with a session.
func (s *server) polls(t testing.TB) *engine {
	t.Helper()
	e := s.engine(t)
	handshake := e.get()
	found := handshakeForm.FindStringSubmatch(handshake.body)
	if found == nil {
		t.Fatalf("handshake: %v", handshake)
	}
	e.sid = found[1]
	return e
}

// joined makes one whose client is connected to the main namespace, and has been told so.
func (s *server) joined(t testing.TB) *engine {
	t.Helper()
	e := s.polls(t)
	e.post("40")
	e.get()
	return e
}

var handshakeForm = regexp.MustCompile(
	`^0\{"sid":"([\w-]{20})","upgrades":\[(|"websocket")\],"pingInterval":\d+,"pingTimeout":\d+,"maxPayload":\d+\}$`)

// request makes a request with header lines; ctx may break it off.
func (e *engine) request(ctx context.Context, method, query, body string, lines ...string) (reply, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://example.com/socket.io/"+query, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	answer, err := e.http.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, string(b), answer.Header}, err
}

// query is that of the client's session.
func (e *engine) query() string {
	query := "?EIO=4&transport=polling"
	if e.sid != "" {
		query += "&sid=" + e.sid
	}
	return query
}

func (e *engine) do(method, query, body string, lines ...string) reply {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // with synctest, of virtual time
	defer cancel()
	r, err := e.request(ctx, method, query, body, lines...)
	if err != nil {
		e.t.Fatalf("%s %s: %v", method, query, err)
	}
	return r
}

func (e *engine) get(lines ...string) reply {
	e.t.Helper()
	return e.do("GET", e.query(), "", lines...)
}

func (e *engine) post(body string, lines ...string) reply {
	e.t.Helper()
	return e.do("POST", e.query(), body, append([]string{"Content-Type: text/plain;charset=UTF-8"}, lines...)...)
}

// leave ends the session, in the way that leaves nothing waiting: with a GET, for which the hub
// waits a second.
func (e *engine) leave() {
	e.t.Helper()
	e.post("1").want(e.t, 200, "ok")
	if r := e.get(); r.body != unknownSession {
		r.want(e.t, 200, "6")
	}
}

// getting makes a GET and returns when it waits, or has its answer: while its client upgrades it
// waits for a moment only.
func (e *engine) getting(h *Hub) <-chan reply {
	e.t.Helper()
	answered := make(chan reply, 1)
	go func() {
		r, err := e.request(context.Background(), "GET", e.query(), "")
		if err != nil {
			r.body = err.Error()
		}
		answered <- r
	}()
	e.waitFor(h, "a GET that waits", func(p *polling) bool { return len(answered) > 0 || p.getting && p.arrived.opened != nil })
	return answered
}

// waitFor waits until something holds of the session.
func (e *engine) waitFor(h *Hub, what string, holds func(p *polling) bool) {
	e.t.Helper()
	p := h.poll(e.sid)
	if p == nil {
		e.t.Fatalf("waiting for %s: the session is gone", what)
	}
	eventually(e.t, what, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return holds(p)
	})
}

// probing opens a WebSocket for a session that polls.
func (e *engine) probing() *client {
	e.t.Helper()
	return e.websocket(e.t, "?EIO=4&transport=websocket&sid="+e.sid)
}

// want compares an answer's status and body.
func (r reply) want(t testing.TB, status int, body string) {
	t.Helper()
	if r.status != status || r.body != body {
		t.Fatalf("got  %d %q\nwant %d %q", r.status, r.body, status, body)
	}
}

// wantOver expects the session to be over, for its client and for the hub.
func (e *engine) wantOver(h *Hub, left <-chan Reason, reason Reason) {
	e.t.Helper()
	e.get().want(e.t, 400, unknownSession)
	e.post("40").want(e.t, 400, unknownSession)
	if left != nil {
		wantReason(e.t, left, reason)
	}
	e.wantForgotten(h)
}

func (e *engine) wantForgotten(h *Hub) {
	e.t.Helper()
	eventually(e.t, "the session is forgotten", func() bool { return h.poll(e.sid) == nil })
}

// talker is a Socket.IO client over some transport. Its packets are in the form that they have in a
// payload.
type talker interface {
	say(packets ...string) // one after the other, at once
	hear() string          // the next packet
	hangUp(h *Hub)         // as one whose machine loses its power, if the network tells
}

// talkers make one for each transport.
var talkers = []struct {
	name string
	open func(t testing.TB, srv *server) talker
}{
	{"websocket", func(t testing.TB, srv *server) talker { return srv.socketIO(t) }},
	{"polling", func(t testing.TB, srv *server) talker { return srv.polls(t) }},
	{"upgraded", func(t testing.TB, srv *server) talker {
		e := srv.polls(t)
		c := e.probing()
		c.send("2probe")
		c.want("3probe")
		c.send("5")
		return ioClient{c}
	}},
}

// overTransports runs a test once for each transport.
func overTransports(t *testing.T, h *Hub, test func(t *testing.T, open func() talker)) {
	srv := serve(t, overTCP, h)
	for _, kind := range talkers {
		t.Run(kind.name, func(t *testing.T) {
			test(t, func() talker { return kind.open(t, srv) })
		})
	}
}

func (c ioClient) say(packets ...string) {
	for _, p := range packets {
		if base64, binary := strings.CutPrefix(p, "b"); binary {
			c.sendBinary(string(decoded(c.t, base64)))
		} else {
			c.send(p)
		}
	}
}

func (c ioClient) hear() string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	op, p, err := c.Read(ctx)
	switch {
	case err != nil:
		return "closed"
	case op == MessageBinary:
		return string(appendEngineBinary(nil, p))
	}
	return string(p)
}

func (c ioClient) hangUp(*Hub) { c.CloseNow() }

func (e *engine) say(packets ...string) { e.post(strings.Join(packets, "\x1e")) }

func (e *engine) hear() string {
	e.t.Helper()
	if len(e.packets) == 0 {
		answer := e.get()
		if answer.status != 200 {
			return "closed"
		}
		e.packets = strings.Split(answer.body, "\x1e")
	}
	p := e.packets[0]
	e.packets = e.packets[1:]
	if p == "1" {
		return "closed"
	}
	return p
}

func (e *engine) hangUp(h *Hub) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.request(ctx, "GET", e.query(), "")
	}()
	e.waitFor(h, "a GET", func(p *polling) bool { return p.getting })
	cancel()
	<-done
}

func decoded(t testing.TB, text string) []byte {
	t.Helper()
	p, err := parseEngine(opText, []byte("b"+text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return p.data
}

// wantHears expects the next packets to be these. A packet that begins with a slash is a regular
// expression.
func wantHears(t testing.TB, c talker, packets ...string) {
	t.Helper()
	for _, want := range packets {
		got := c.hear()
		for got == "2" || got == "6" {
			got = c.hear()
		}
		pattern, isPattern := strings.CutPrefix(want, "~")
		if isPattern && !regexp.MustCompile("^"+pattern+"$").MatchString(got) || !isPattern && got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
}

// welcome matches a CONNECT reply.
func welcome(namespace string) string { return `~40` + namespace + `\{"sid":"[\w-]{20}"\}` }

// ask is Call for ten seconds.
func ask[T any](t testing.TB, c Caller, event string, args ...any) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	v, err := Call[T](ctx, c, event, args...)
	if err != nil {
		t.Fatalf("%s: %v", event, err)
	}
	return v
}

// websocket opens a WebSocket with the query.
func (s *server) websocket(t testing.TB, query string, lines ...string) *client {
	t.Helper()
	nc := s.raw(t)
	head := strings.Replace(handshakeHead, "GET / ", "GET /socket.io/"+query+" ", 1)
	r := request(t, nc, head+strings.Join(append(lines, "", ""), "\r\n"))
	if r.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(r.Body)
		t.Fatalf("handshake: %s %s", r.Status, body)
	}
	c := newConn(nc, connConfig{client: true, readLimit: 64 << 20, maxQueued: 64 << 20, early: r.rest})
	t.Cleanup(func() { c.CloseNow() })
	return &client{c, t, ""}
}

// direct opens a session over a WebSocket.
func (s *server) direct(t testing.TB) *client {
	t.Helper()
	c := s.websocket(t, "?EIO=4&transport=websocket")
	handshake := c.next()
	found := handshakeForm.FindStringSubmatch(handshake)
	if found == nil {
		t.Fatalf("handshake: %s", handshake)
	}
	c.sid = found[1]
	return c
}

// sendBinary sends bytes as a message of its own.
func (c *client) sendBinary(p string) {
	c.t.Helper()
	if err := c.Write(context.Background(), MessageBinary, []byte(p)); err != nil {
		c.t.Fatal(err)
	}
}

// wantGone expects the connection to end, whatever came before.
func (c *client) wantGone() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		if _, _, err := c.Read(ctx); err != nil {
			if ctx.Err() != nil {
				c.t.Fatal("the connection is not closed")
			}
			return
		}
	}
}
