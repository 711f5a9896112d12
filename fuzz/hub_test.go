package fuzz

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/atrium-go/atrium"
)

// envelope is a plain message as the package comment has it, read slowly. A field that is missing
// is nil.
type envelope struct {
	bad   bool // it is none
	event *string
	id    *int64
	args  int
	fail  bool // it has an error
}

// parseEnvelope reads a plain message by the package comment of atrium.
func parseEnvelope(p []byte) (e envelope) {
	e.bad = true
	if !json.Valid(p) || depth(p) > 1+128 { // values nest 128 levels, in one more
		return e
	}
	d := json.NewDecoder(bytes.NewReader(p))
	if start, _ := d.Token(); start != json.Delim('{') {
		return e
	}
	fields := make(map[string]json.RawMessage)
	for d.More() {
		name, _ := d.Token()
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return e
		}
		key := name.(string)
		if fields[key] != nil && slices.Contains([]string{"event", "id", "data", "args", "error"}, key) {
			return e
		}
		fields[key] = value
	}
	e.bad = false
	if v := fields["event"]; v != nil {
		if v[0] != '"' || json.Unmarshal(v, &e.event) != nil || *e.event == "" || len(*e.event) > 256 {
			e.bad = true
			e.event = nil
		}
	}
	if v := fields["id"]; v != nil {
		id, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil || id < 0 || id > 1<<53-1 || v[0] == '-' {
			e.bad = true
		} else {
			e.id = &id
		}
	}
	if fields["data"] != nil {
		e.args = 1
	}
	if v := fields["args"]; v != nil {
		var args []json.RawMessage
		e.bad = e.bad || v[0] != '[' || fields["data"] != nil
		_ = json.Unmarshal(v, &args) // if it is no array it is bad
		e.args = len(args)
	}
	if v := fields["error"]; v != nil {
		e.fail = true
		e.bad = e.bad || e.event != nil || fields["data"] != nil || fields["args"] != nil || !isFailure(v)
	}
	e.bad = e.bad || e.event == nil && e.id == nil
	return e
}

// isFailure reports whether v is an object with one message, a string, and at most one data.
func isFailure(v json.RawMessage) bool {
	d := json.NewDecoder(bytes.NewReader(v))
	if start, _ := d.Token(); start != json.Delim('{') {
		return false
	}
	messages, data := 0, 0
	for d.More() {
		name, _ := d.Token()
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return false
		}
		switch name {
		case "message":
			if messages++; value[0] != '"' {
				return false
			}
		case "data":
			data++
		}
	}
	return messages == 1 && data <= 1
}

// depth is how deep valid JSON nests.
func depth(p []byte) (deepest int) {
	now := 0
	for d := json.NewDecoder(bytes.NewReader(p)); ; {
		token, err := d.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			now++
			deepest = max(deepest, now)
		case json.Delim('}'), json.Delim(']'):
			now--
		}
	}
}

// testHub is a hub and what there is to see of it.
type testHub struct {
	*atrium.Hub
	*server
	*network
	disconnected chan string // the ids of clients that have gone
	bystander    *atrium.Conn
	probes       int
}

const maxMessage = 2000 // MessageBytes

func newHub() *atrium.Hub {
	return atrium.New(atrium.Options{
		Limits:   atrium.Limits{MessageBytes: maxMessage, Rooms: 4},
		Timeouts: atrium.Timeouts{PingInterval: time.Hour}, // the bystander seldom reads
		Logger:   slog.New(slog.DiscardHandler),
	})
}

func newTestHub(f *testing.F) *testHub {
	h := &testHub{
		Hub:          newHub(),
		network:      newNetwork(f),
		disconnected: make(chan string, 16),
	}
	h.server = serve(f, h.Hub)

	h.Use(func(s *atrium.Socket) error {
		var auth struct {
			Name string
			Room *string
		}
		if err := s.Handshake().Bind(&auth); err != nil {
			return err
		}
		if auth.Name == "nobody" {
			return atrium.Errorf("not you")
		}
		if auth.Room != nil {
			return s.Join(*auth.Room)
		}
		return nil
	})
	h.OnConnect(func(s *atrium.Socket) { s.Broadcast().Emit("joined", s.ID()) })
	h.OnDisconnect(func(s *atrium.Socket, why atrium.Reason) {
		s.To(s.Rooms()...).Emit("left", s.ID(), why)
		h.disconnected <- s.ID()
	})
	atrium.On(h.Hub, "join", func(s *atrium.Socket, room string) error { return s.Join(room) })
	atrium.On(h.Hub, "leave", func(s *atrium.Socket, room string) error {
		s.Leave(room)
		return nil
	})
	atrium.OnCall(h.Hub, "echo", func(s *atrium.Socket, v json.RawMessage) (json.RawMessage, error) { return v, nil })
	atrium.OnCall(h.Hub, "say", func(s *atrium.Socket, m struct{ Room, Text string }) (int, error) {
		to := h.To(m.Room)
		n, _ := to.Count(s.Context())
		return n, to.Volatile().Emit("said", m)
	})
	// The client is asked, and told how to answer.
	atrium.OnCall(h.Hub, "ask", func(s *atrium.Socket, answer string) (json.RawMessage, error) {
		return atrium.Call[json.RawMessage](s.Context(), s, "question", answer)
	})
	h.Handle("raw", func(e *atrium.Event) {
		var a, b any
		if err := e.Bind(&a, &b); err != nil {
			e.ReplyError(err)
			return
		}
		for _, arg := range e.Args() {
			e.Reply(arg, a, b)
		}
	})
	h.Handle("boom", func(*atrium.Event) { panic("boom") })

	// It is there before the first execution and after the last.
	h.bystander = h.dial(f, overPipe, nil)
	f.Cleanup(func() {
		h.bystander.CloseNow()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			f.Error(err)
		}
	})
	if err := h.bystander.Write(context.Background(), atrium.MessageText, []byte(`{"event":"join","data":"window"}`)); err != nil {
		f.Fatal(err)
	}
	if err := h.probe(h.bystander, 0, func(answer) {}); err != nil {
		f.Fatal(err)
	}
	return h
}

func (h *testHub) dial(t testing.TB, m medium, subprotocols []string) *atrium.Conn {
	near, far := h.connect(t, m)
	h.accept <- far
	return dial(t, near, atrium.DialOptions{Subprotocols: subprotocols})
}

// answer is what the hub sends.
type answer struct {
	Event *string
	ID    *int64
	Data  json.RawMessage
	Error *struct{ Message *string }
}

func read(c *atrium.Conn) (a answer, err error) {
	op, p, err := c.Read(context.Background())
	if err != nil {
		return a, err
	}
	if e := parseEnvelope(p); op != atrium.MessageText || e.bad {
		return a, fmt.Errorf("the hub sends %v %q", op, p)
	}
	return a, json.Unmarshal(p, &a)
}

// probe asks the hub for an echo, under another id than the one given, and waits for it. It passes
// on what comes before that, all of which answers what was sent before, and answers the hub's
// questions.
func (h *testHub) probe(c *atrium.Conn, not int64, before func(answer)) error {
	const last = 1<<53 - 1
	id := last - max(0, not-last+1) // last, or the one below
	h.probes++
	nonce := fmt.Sprintf(`"probe %d"`, h.probes)
	text := fmt.Appendf(nil, `{"event":"echo","data":%s,"id":%d}`, nonce, id)
	if err := c.Write(context.Background(), atrium.MessageText, text); err != nil && c.State() == atrium.StateOpen {
		return err
	}
	for {
		a, err := read(c)
		switch {
		case err != nil:
			return err
		case a.Event == nil && *a.ID == id && string(a.Data) == nonce:
			return nil
		case a.Event != nil && *a.Event == "question":
			var reply string
			if err := json.Unmarshal(a.Data, &reply); err != nil {
				return err
			}
			// First as the input has it, which may be anything, then right.
			for _, text := range []string{strings.ReplaceAll(reply, "ID", fmt.Sprint(*a.ID)), fmt.Sprintf(`{"id":%d,"data":"well"}`, *a.ID)} {
				if err := c.Write(context.Background(), atrium.MessageText, []byte(text)); err != nil && c.State() == atrium.StateOpen {
					return err
				}
			}
			before(a)
		default:
			before(a)
		}
	}
}

// plainClient is a client that misbehaves.
type plainClient struct {
	conn      *atrium.Conn
	connected bool
	over      bool
}

// enter connects a plainClient. One that authenticates sends auth first.
func (h *testHub) enter(t *testing.T, m medium, authenticates bool, auth []byte) (g plainClient) {
	if !authenticates {
		g.conn = h.dial(t, m, nil)
		auth = []byte(`{"event":"connect"}`)
	} else {
		g.conn = h.dial(t, m, []string{"other", "atrium"})
		if err := g.conn.Write(context.Background(), atrium.MessageText, auth); err != nil {
			t.Fatal(err)
		}
	}
	e := parseEnvelope(auth)
	right := utf8.Valid(auth) && !e.bad && e.event != nil && *e.event == "connect" && e.id == nil && e.args <= 1
	first, err := read(g.conn)
	switch {
	case err != nil:
		code := asCloseError(t, err).Code
		if tooBig := len(auth) > maxMessage; tooBig != (code == atrium.StatusMessageTooBig) ||
			!tooBig && (utf8.Valid(auth) || code != atrium.StatusInvalidPayload) {
			t.Errorf("the auth message %q is answered with %v", auth, err)
		}
		g.over = true
	case first.Event != nil && *first.Event == "connect" && right:
		g.connected = true
	case first.Event != nil && *first.Event == "connect_error":
		if _, err := read(g.conn); asCloseError(t, err).Code != atrium.StatusPolicyViolation {
			t.Errorf("a refused client's connection ends with %v", err)
		}
		g.over = true
	default:
		t.Errorf("the auth message %q is answered with %+v", auth, first)
	}
	return g
}

// send sends a message, and compares what comes back with what must.
func (h *testHub) send(t *testing.T, g *plainClient, op opcode, p []byte) {
	if err := g.conn.Write(context.Background(), atrium.MessageType(op), p); err != nil {
		t.Errorf("Write of %q: %v", p, err)
	}
	e, id := parseEnvelope(p), int64(-1)
	if e.id != nil {
		id = *e.id
	}
	failures, answers, asked := 0, 0, false
	err := h.probe(g.conn, id, func(a answer) {
		switch {
		case a.Event == nil && a.ID != nil && *a.ID == id:
			answers++
		case a.Event != nil && *a.Event == "question":
			asked = true
		}
		if a.Error != nil || a.Event != nil && *a.Event == "error" {
			failures++
		}
	})
	if asked && err == nil {
		// The answers came to the hub behind the probe: an error that they are told of is not the
		// next message's.
		err = h.probe(g.conn, -1, func(answer) {})
	}

	closed := atrium.StatusCode(0)
	if err != nil {
		closed, g.over = asCloseError(t, err).Code, true
	}
	want := atrium.StatusCode(0)
	switch event := ""; {
	case len(p) > maxMessage:
		want = atrium.StatusMessageTooBig
	case op == opBinary:
		want = atrium.StatusUnsupportedData
	case !utf8.Valid(p):
		want = atrium.StatusInvalidPayload
	case !e.bad && e.event != nil && *e.event == "boom":
		want = atrium.StatusInternalError
	default:
		if e.event != nil {
			event = *e.event
		}
		known := slices.Contains([]string{"join", "leave", "echo", "say", "ask", "raw"}, event)
		switch {
		case asked:
			// Its answer was the input's too, and may have been answered with anything.
			return
		case e.bad || event != "" && !known:
			if failures != 1 {
				t.Errorf("the bad message %q is answered by %d errors", p, failures)
			}
		case event != "" && id >= 0:
			if answers != 1 || failures > 1 {
				t.Errorf("%q is answered %d times, by %d errors", p, answers, failures)
			}
		case failures > 1:
			t.Errorf("%q is answered by %d errors", p, failures)
		}
	}
	if closed != want {
		t.Errorf("%v %q: the hub closes with %d, want %d", op, p, closed, want)
	}
}

// FuzzHub lets clients send anything to a hub. Each line of the input is one message: its first
// letter says who sends it, a to c, or as a binary message A to C; the rest is the message. b's and
// c's first message is their auth if config says so.
func FuzzHub(f *testing.F) {
	h := newTestHub(f)
	for config := range uint8(16) {
		f.Add([]byte("b{\"event\":\"connect\",\"data\":{\"name\":\"b\",\"room\":\"r\"}}\na{\"event\":\"join\",\"data\":\"r\",\"id\":1}\n"+
			"b{\"event\":\"say\",\"data\":{\"room\":\"r\",\"text\":\"hi\"},\"id\":2}\na{\"event\":\"ask\",\"data\":\"{\\\"id\\\":ID}\",\"id\":3}"), config)
		f.Add([]byte("a{\nb[]\na{\"event\":\"boom\",\"id\":1}\nc\nB123\nc{\"event\":\"raw\",\"args\":[1,2,3],\"id\":1}"), config)
	}
	f.Fuzz(func(t *testing.T, input []byte, config uint8) {
		defer guard(t)()
		clients, connected := make(map[byte]*plainClient), 0
		for i, line := range bytes.Split(input, []byte("\n")) {
			if len(line) == 0 || i == 16 {
				break
			}
			op := opText
			if line[0]&0x20 == 0 {
				op = opBinary
			}
			name, p := (line[0]|0x20-'a')%3, line[1:]
			g := clients[name]
			if g == nil {
				authenticates := name > 0 && config>>name&1 != 0
				entered := h.enter(t, medium(config&1 != 0), authenticates, p)
				g = &entered
				clients[name] = g
				if g.connected {
					connected++
				}
				if authenticates {
					continue
				}
			}
			if !g.over {
				h.send(t, g, op, p)
			}
		}
		for _, g := range clients {
			if config&8 != 0 {
				g.conn.CloseNow()
			}
			if g.over {
				// On a pipe each end would wait for the other one to hang up first.
				g.conn.NetConn().Close()
			}
			g.conn.Close(atrium.StatusNormalClosure, "")
		}
		for range connected {
			<-h.disconnected
		}

		if err := h.probe(h.bystander, 0, func(answer) {}); err != nil {
			t.Fatalf("the bystander: %v", err)
		}
		if count, err := h.Count(context.Background()); count != 1 || err != nil {
			t.Errorf("%d sockets are left, %v", count, err)
		}
		if rooms := h.LocalRooms(); !slices.Equal(rooms, []atrium.RoomInfo{{Name: "window", Sockets: 1}}) {
			t.Errorf("the rooms left are %v", rooms)
		}
	})
}
