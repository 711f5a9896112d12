package atrium

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// newHub returns a hub that is shut down, and must leave nothing behind, at the test's end.
func newHub(t testing.TB, options Options) *Hub {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	h := New(options)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil && !errors.Is(err, ErrBus) { // a test may have its Bus fail
			t.Error(err)
		}
		h.sessions.clock.mu.Lock()
		defer h.sessions.clock.mu.Unlock()
		h.Namespace.checkEmpty(t)
	})
	return h
}

// checkEmpty checks that nobody has left anything in the namespace.
func (n *Namespace) checkEmpty(t testing.TB) {
	t.Helper()
	n.mu.RLock()
	defer n.mu.RUnlock()
	if len(n.byID) != 0 || len(n.rooms) != 0 || n.everyone.count() != 0 {
		t.Errorf("left in the namespace: %d sockets, %d rooms, %d members", len(n.byID), len(n.rooms), n.everyone.count())
	}
}

// waiting returns how many events are received and not yet handled.
func (b *queue[T]) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.items.len()
}

// leavings returns a channel that gets the reason for each leaving.
func leavings(h *Hub) <-chan Reason {
	left := make(chan Reason, 1000)
	h.OnDisconnect(func(_ *Socket, why Reason) { left <- why })
	return left
}

// awaitCountedOut waits until the quota counts nobody: neither who is live nor who is still being
// let in.
func (h *Hub) awaitCountedOut(t testing.TB) {
	t.Helper()
	eventually(t, "all connections to be counted out", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.quota.total == 0 && len(h.quota.byClient) == 0
	})
}

// checkNobody checks that nothing of any socket is left: live, counted, or on the clock. Who came
// too late for a shutdown is counted until its request has been dealt with.
func (h *Hub) checkNobody(t testing.TB) {
	t.Helper()
	h.Namespace.checkEmpty(t)
	h.awaitCountedOut(t)
	// A connection is counted out before the last of its functions has returned.
	eventually(t, "the last session to be over", func() bool { return len(h.list()) == 0 })
	h.sessions.clock.mu.Lock()
	timers := h.sessions.clock.count
	h.sessions.clock.mu.Unlock()
	if timers != 0 {
		t.Errorf("%d timers are scheduled", timers)
	}
}

// connected returns a client, settled in the room "room", and its socket.
func connected(t testing.TB, h *Hub, srv *server) (*client, *Socket) {
	t.Helper()
	c := srv.connect(t, nil)
	c.settle()
	s := h.Namespace.socket(c.sid)
	if err := s.Join("room"); err != nil {
		t.Fatal(err)
	}
	return c, s
}

func beginCall[T any](ctx context.Context, s *Socket) <-chan outcome[T] {
	return begin(func() (T, error) { return Call[T](ctx, s, "q") })
}

// checkNoCalls checks that nothing waits for an answer of the sockets.
func checkNoCalls(t testing.TB, sockets ...*Socket) {
	t.Helper()
	for _, s := range sockets {
		s.calls.mu.Lock()
		if s.calls.byID != nil {
			t.Errorf("pending calls are left: %v", s.calls.byID)
		}
		s.calls.mu.Unlock()
		if n := s.session.reading.calls.Load(); n != 0 {
			t.Errorf("the session counts %d calls", n)
		}
	}
}

func asking(id int) string { return fmt.Sprintf(`{"event":"q","id":%d}`, id) }

// mailbox is a socket without a client: nothing drains its outbox, so that a test sees at once what
// was queued.
type mailbox struct{ *Socket }

func newMailbox(t testing.TB, h *Hub) mailbox {
	t.Helper()
	return newMailboxOf(t, h, "")
}

// newMailboxOf returns a mailbox of a user, unless that is empty.
func newMailboxOf(t testing.TB, h *Hub, user string) mailbox {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	conn := newConn(far, connConfig{readLimit: 1 << 16, maxQueued: 1 << 30})
	conn.out.state = writerWriting
	s := h.newPlain(conn, &Handshake{}, context.Background())
	if user != "" {
		if err := s.SetUser(user); err != nil {
			t.Fatal(err)
		}
	}
	h.quota.acquire("")
	if !h.add(s.session, "") || !s.enter() {
		t.Fatal("the socket was not let in")
	}
	m := mailbox{s}
	if got := m.take(); len(got) != 1 || !strings.HasPrefix(got[0], `{"event":"connect"`) {
		t.Fatalf("first came %q", got)
	}
	return m
}

// take empties the outbox of what was queued.
func (m mailbox) take() []string {
	o := &m.session.conn.Load().out
	o.mu.Lock()
	defer o.mu.Unlock()
	var messages []string
	for frame := o.pop(); frame != nil; frame = o.pop() {
		messages = append(messages, string(frame[2:])) // they are short
		o.bytes -= len(frame)
	}
	return messages
}

// drop is the end of the session, its reading included.
func (m mailbox) drop() {
	m.session.end(ReasonTransportClose, noCloseFrame, "")
	m.session.part()
}

// newMailboxes returns sockets that are in the rooms "room" and "twin".
func newMailboxes(t testing.TB, n int) (*Hub, []mailbox) {
	h := newHub(t, Options{})
	boxes := make([]mailbox, n)
	for i := range boxes {
		boxes[i] = newMailbox(t, h)
		t.Cleanup(boxes[i].drop)
		if err := boxes[i].Join("room", "twin"); err != nil {
			t.Fatal(err)
		}
	}
	return h, boxes
}

// counted counts how often it is encoded.
type counted struct{ times *int }

func (c counted) MarshalJSON() ([]byte, error) {
	*c.times++
	return []byte(`"counted"`), nil
}

// newEcho returns a hub with a few handlers. A client that connects to "/" hears of its auth.
func newEcho(t testing.TB, options Options) *Hub {
	h := newHub(t, options)
	t.Cleanup(func() { h.checkForgotten(t) }) // before newHub's cleanup: sessions are only forgotten when they are over
	for _, n := range []*Namespace{h.Namespace, h.Of("/custom")} {
		n.OnConnect(func(s *Socket) {
			var auth any
			s.Handshake().Bind(&auth)
			if auth != nil {
				s.Emit("auth", auth)
			}
		})
		n.Handle("message", func(e *Event) {
			args := make([]any, 0, 4)
			for _, arg := range e.Args() {
				args = append(args, arg)
			}
			e.Socket().Emit("message-back", args...)
		})
		n.Handle("bytes", func(e *Event) {
			var a, b Binary
			if err := e.Bind(&a, &b); err != nil {
				e.ReplyError(err)
				return
			}
			e.Socket().Emit("bytes-back", a, b)
			e.Reply(a, b)
		})
		OnCall(n, "echo", func(s *Socket, v any) (any, error) { return v, nil })
	}
	return h
}

// checkForgotten checks that no session can be polled any more when all have ended.
func (h *Hub) checkForgotten(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.live.polls) != 0 {
		t.Errorf("%d sessions can be polled still", len(h.live.polls))
	}
}

// wantAfter checks that d has passed, and at most two ticks of the hub's clock more.
func wantAfter(t *testing.T, h *Hub, what string, start time.Time, d time.Duration) {
	t.Helper()
	if took, late := time.Since(start), 2*time.Duration(h.sessions.clock.tick); took < d || took > d+late {
		t.Errorf("%s after %v, want %v to %v", what, took, d, d+late)
	}
}

func wantReason(t testing.TB, left <-chan Reason, want Reason) {
	t.Helper()
	if got := within(t, left, "OnDisconnect"); got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
}

func scheduledTimers(h *Hub) int {
	h.sessions.clock.mu.Lock()
	defer h.sessions.clock.mu.Unlock()
	return h.sessions.clock.count
}

// recoveryHub is a hub with recovery whose sockets tell when they come and go.
type recoveryHub struct {
	*Hub
	*server
	came chan *Socket
	went chan Reason
}

func newRecoveryHub(t testing.TB, k kind, options Options) *recoveryHub {
	if options.Recovery.MaxDisconnection == 0 {
		options.Recovery.MaxDisconnection = time.Minute
	}
	l := &recoveryHub{Hub: newHub(t, options), came: make(chan *Socket, 1000), went: make(chan Reason, 1000)}
	l.OnConnect(func(s *Socket) { l.came <- s })
	l.OnDisconnect(func(s *Socket, why Reason) { l.went <- why })
	l.server = serve(t, k, l.Hub)
	return l
}

// recoveryClient is a Socket.IO client that knows how to come back.
type recoveryClient struct {
	ioClient
	id, pid string
	missed  []string // what came before the CONNECT reply
	socket  *Socket
}

// enter connects to "/" with an auth value, which is JSON or nothing.
func (l *recoveryHub) enter(t testing.TB, auth string) *recoveryClient {
	t.Helper()
	g := &recoveryClient{ioClient: l.socketIO(t)}
	g.send("40" + auth)
	g.hello()
	g.socket = within(t, l.came, "OnConnect")
	return g
}

// hello takes what is there up to the CONNECT reply, and that.
func (g *recoveryClient) hello() {
	g.t.Helper()
	for {
		m := g.next()
		data, ok := strings.CutPrefix(m, "40")
		data = data[max(strings.Index(data, "{"), 0):] // behind the namespace
		if !ok {
			g.missed = append(g.missed, m)
			continue
		}
		var hello struct{ Sid, Pid string }
		if err := json.Unmarshal([]byte(data), &hello); err != nil || len(hello.Sid) != socketIDLength || len(hello.Pid) != pidLength {
			g.t.Fatalf("the reply is %s", m)
		}
		g.id, g.pid = hello.Sid, hello.Pid
		return
	}
}

// cut breaks the connection, and returns when the hub has noticed.
func (l *recoveryHub) cut(g *recoveryClient) {
	g.t.Helper()
	g.CloseNow()
	if why := within(g.t, l.went, "OnDisconnect"); !why.recoverable() {
		g.t.Fatalf("disconnected for %q", why)
	}
}

// proof is what a client comes back with; without an offset if that is empty.
func proof(pid, offset string) string {
	if offset == "" {
		return fmt.Sprintf(`{"pid":%q}`, pid)
	}
	return fmt.Sprintf(`{"pid":%q,"offset":%q}`, pid, offset)
}

// offset returns a packet's last argument.
func offsetOf(t testing.TB, message string) string {
	t.Helper()
	_, list, _ := strings.Cut(message, "[")
	var args []any
	if err := json.Unmarshal([]byte("["+list), &args); err != nil {
		t.Fatalf("%s: %v", message, err)
	}
	offset, ok := args[len(args)-1].(string)
	if _, err := strconv.ParseUint(offset, 10, 64); !ok || err != nil {
		t.Fatalf("%s has no offset", message)
	}
	return offset
}

// bare takes the offsets away.
func bare(t testing.TB, messages []string) []string {
	t.Helper()
	var out []string
	for _, m := range messages {
		if strings.HasPrefix(m, "4") {
			m = strings.Replace(m, `,"`+offsetOf(t, m)+`"]`, "]", 1)
		}
		out = append(out, m)
	}
	return out
}

func wantMissed(t testing.TB, g *recoveryClient, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, bare(t, g.missed)); diff != "" {
		t.Fatal(diff)
	}
}

// settleEvent has an event go to everyone, and waits for it.
func (g *recoveryClient) settleEvent(t testing.TB, l *recoveryHub) {
	t.Helper()
	l.Emit("settle")
	if m := g.next(); !strings.HasPrefix(m, `42["settle",`) {
		t.Fatalf("got %s", m)
	}
}

// takeHello is hello for a client that another may have replaced before it got the reply.
func (g *recoveryClient) takeHello() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, p, err := g.Read(ctx)
	var hello struct{ Sid string }
	if data, ok := strings.CutPrefix(string(p), "40"); err == nil && ok && json.Unmarshal([]byte(data), &hello) == nil {
		g.id = hello.Sid
	}
}

// answerPings keeps a client alive that has nothing else to do.
func (g *recoveryClient) answerPings() {
	for {
		_, p, err := g.Read(context.Background())
		if err != nil {
			return
		}
		if string(p) == "2" {
			g.Write(context.Background(), MessageText, []byte("3"))
		}
	}
}

func (l *recoveryHub) polls(t testing.TB) *pollClient {
	t.Helper()
	p := &pollClient{t, &http.Client{Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return l.kind.dial(l.listener) },
		DisableKeepAlives: true,
	}}, "http://example.com/socket.io/?EIO=4&transport=polling"}
	var handshake struct{ Sid string }
	if err := json.Unmarshal([]byte(p.do("GET", "")[1:]), &handshake); err != nil {
		t.Fatal(err)
	}
	p.url += "&sid=" + handshake.Sid
	return p
}

// newRecoveryHubs returns a recoveryHub and, on the same Bus, another hub.
func newRecoveryHubs(t testing.TB, k kind, options Options) (*recoveryHub, *Hub) {
	options.Bus = new(MemoryBus)
	options.Recovery.MaxDisconnection = time.Minute
	l, other := newRecoveryHub(t, k, options), newHub(t, options)
	for _, h := range []*Hub{l.Hub, other} {
		eventually(t, "the nodes to know each other", func() bool { return len(h.Nodes().List()) == 1 })
		h.cluster.await(context.Background(), []string{everyNode, nodeTopic(h.node)})
	}
	return l, other
}
