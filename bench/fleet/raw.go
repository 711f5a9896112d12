package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"
)

// rawLink is the connection of a client that does no more than it must. It comes back as
// Socket.IO's own clients do: after 1 s, and then 2, 4 and 5 s, each time up to half more or less.
type rawLink struct {
	c        *Client
	protocol protocol

	mu     sync.Mutex // guards:
	wire   wire       // nil while there is none that calls may use
	up     chan struct{}
	calls  map[int]chan reply
	nextID int
}

// reply is the answer to a call.
type reply struct {
	data json.RawMessage
	err  error
}

// wire carries messages.
type wire interface {
	send(text string) error
	// receive returns the next message, or why there is none any more.
	receive() (string, error)
	// leave sends a last message and ends the connection.
	leave(bye string)
	// cut ends the connection without a word.
	cut()
}

// protocol is what a client says.
type protocol interface {
	// greet is called with a new connection, and hears until the server has accepted the client.
	greet(w wire, hear func(event, data string)) error
	// encode returns the message of a call.
	encode(id int, event, data string) string
	// decode handles a message.
	decode(w wire, text string, hear func(event, data string), answer func(id int, r reply)) error
	// bye is what a client says when it leaves for good; "" if that is the end of its connection.
	bye() string
}

// httpError is a response that was no success.
type httpError struct{ what, status string }

func (e httpError) Error() string { return e.what + ": " + e.status }

// errEnded is how a connection ends that the server has closed.
var errEnded = errors.New("the server has closed the connection")

func newRawLink(c *Client) *rawLink {
	l := &rawLink{c: c, up: make(chan struct{}), calls: make(map[int]chan reply)}
	if c.Kind.Protocol == Plain {
		l.protocol = plainProtocol{}
	} else {
		l.protocol = &socketIOProtocol{}
	}
	return l
}

// run implements link.
func (l *rawLink) run() {
	for failures := 0; ; failures++ {
		w, err := l.dial()
		if err == nil {
			stop := context.AfterFunc(l.c.ctx, w.cut)
			err = l.protocol.greet(w, l.c.hear)
			if err == nil {
				failures = 0
				l.note(l.session(w), "connection")
			} else {
				l.note(err, "attempt")
			}
			w.cut()
			stop()
		} else {
			l.note(err, "attempt")
		}
		if l.c.leaving.Load() {
			return
		}
		delay := min(time.Second<<min(failures, 3), 5*time.Second)
		select {
		case <-time.After(time.Duration((0.5 + rand.Float64()) * float64(delay))):
		case <-l.c.ctx.Done():
			return
		}
	}
}

func (l *rawLink) dial() (wire, error) {
	switch k := l.c.Kind; k.Protocol {
	case Polling:
		w, err := openPolling(l.c)
		if err != nil || !k.Upgrade {
			return w, err
		}
		return w.upgraded()
	case Plain:
		return openWebSocket(l.c, "")
	default:
		return openWebSocket(l.c, "?EIO=4&transport=websocket")
	}
}

// note counts how a connection, or an attempt, has ended.
func (l *rawLink) note(err error, what string) {
	e, isHTTP := errors.AsType[httpError](err)
	switch {
	case l.c.leaving.Load():
	case isHTTP:
		l.c.fleet.noteHTTP(l.c.Kind.String(), e.Error())
	case what == "attempt":
		l.c.fleet.Refused.Add(1)
	case errors.Is(err, errEnded):
		l.c.fleet.Closed.Add(1)
	}
}

// session lets calls use the connection until it ends.
func (l *rawLink) session(w wire) error {
	l.mu.Lock()
	l.wire = w
	close(l.up)
	l.mu.Unlock()
	defer l.down()
	for {
		text, err := w.receive()
		if err == nil {
			err = l.protocol.decode(w, text, l.c.hear, l.answer)
		}
		if errors.Is(err, errProtocol) {
			l.c.fail(err)
		}
		if err != nil {
			return err
		}
	}
}

func (l *rawLink) down() {
	l.c.down()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wire, l.up = nil, make(chan struct{})
	for id, answered := range l.calls {
		delete(l.calls, id)
		answered <- reply{err: errBroken}
	}
}

func (l *rawLink) answer(id int, r reply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if answered := l.calls[id]; answered != nil {
		delete(l.calls, id)
		answered <- r
		return
	}
	l.c.fail(fmt.Errorf("doubled: an answer to call %d, which has one or was not sent by this connection", id))
}

// call implements link.
func (l *rawLink) call(ctx context.Context, event string, data any) (json.RawMessage, error) {
	b, err := json.Marshal(data)
	check(err)
	w, id, answered, err := l.begin(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.send(l.protocol.encode(id, event, string(b))); err != nil {
		w.cut() // what reads notices, and the call ends
	}
	select {
	case r := <-answered:
		return r.data, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// begin waits for a connection.
func (l *rawLink) begin(ctx context.Context) (wire, int, chan reply, error) {
	for {
		l.mu.Lock()
		if l.wire != nil {
			defer l.mu.Unlock()
			id, answered := l.nextID, make(chan reply, 1)
			l.nextID++
			l.calls[id] = answered
			return l.wire, id, answered, nil
		}
		up := l.up
		l.mu.Unlock()
		select {
		case <-up:
		case <-ctx.Done():
			return nil, 0, nil, ctx.Err()
		}
	}
}

// cut implements link.
func (l *rawLink) cut() {
	if w := l.current(); w != nil {
		w.cut()
	}
}

// leave implements link.
func (l *rawLink) leave() {
	if w := l.current(); w != nil {
		w.leave(l.protocol.bye())
	}
}

func (l *rawLink) current() wire {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wire
}

// errProtocol is the error of a message that no server should send.
var errProtocol = errors.New("damaged")

// plainProtocol is Atrium's plain protocol.
type plainProtocol struct{}

func (plainProtocol) greet(w wire, hear func(event, data string)) error {
	text, err := w.receive()
	if err == nil && !strings.HasPrefix(text, `{"event":"connect"`) {
		err = fmt.Errorf("%w: %.60q in place of a connect message", errProtocol, text)
	}
	return err
}

func (plainProtocol) encode(id int, event, data string) string {
	return fmt.Sprintf(`{"event":%q,"data":%s,"id":%d}`, event, data, id)
}

func (plainProtocol) decode(_ wire, text string, hear func(event, data string), answer func(id int, r reply)) error {
	var m struct {
		Event string
		ID    *int
		Data  json.RawMessage
		Error json.RawMessage
	}
	err := json.Unmarshal([]byte(text), &m)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %.60q: %w", errProtocol, text, err)
	case m.Event != "":
		hear(m.Event, unquoted(m.Data))
	case m.ID != nil:
		answer(*m.ID, reply{m.Data, failure(m.Error)})
	}
	return nil
}

func (plainProtocol) bye() string { return "" }

// unquoted returns the text of a JSON string; "" if it is another value.
func unquoted(b json.RawMessage) (s string) {
	json.Unmarshal(b, &s)
	return s
}

func failure(b json.RawMessage) error {
	if b == nil {
		return nil
	}
	return errors.New(string(b))
}

// socketIOProtocol is Socket.IO's, with what a client needs to continue its socket.
type socketIOProtocol struct{ pid, offset string }

func (p *socketIOProtocol) greet(w wire, hear func(event, data string)) error {
	text, err := w.receive()
	if err == nil && !strings.HasPrefix(text, "0{") {
		err = fmt.Errorf("%w: %.60q in place of a handshake", errProtocol, text)
	}
	if err != nil {
		return err
	}
	hello := "40"
	if p.pid != "" {
		b, err := json.Marshal(map[string]string{"pid": p.pid, "offset": p.offset})
		check(err)
		if p.offset == "" {
			b, err = json.Marshal(map[string]string{"pid": p.pid})
			check(err)
		}
		hello += string(b)
	}
	if err := w.send(hello); err != nil {
		return err
	}
	for { // what it has missed may come first
		text, err := w.receive()
		if err != nil {
			return err
		}
		rest, ok := strings.CutPrefix(text, "40")
		if !ok {
			if err := p.decode(w, text, hear, nil); err != nil {
				return err
			}
			continue
		}
		var accepted struct{ PID string }
		if err := json.Unmarshal([]byte(rest), &accepted); err != nil {
			return fmt.Errorf("%w: %.60q", errProtocol, text)
		}
		if accepted.PID != p.pid {
			p.pid, p.offset = accepted.PID, ""
		}
		return nil
	}
}

func (p *socketIOProtocol) encode(id int, event, data string) string {
	return fmt.Sprintf(`42%d[%q,%s]`, id, event, data)
}

func (p *socketIOProtocol) decode(w wire, text string, hear func(event, data string), answer func(id int, r reply)) error {
	bad := fmt.Errorf("%w: %.60q", errProtocol, text)
	if len(text) < 2 || text[0] != '4' {
		switch text {
		case "2":
			return w.send("3")
		case "1":
			return errEnded
		case "6", "3":
			return nil
		}
		return bad
	}
	kind, rest := text[1], text[2:]
	digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
	id := 0
	fmt.Sscan(rest[:digits], &id)
	var list []json.RawMessage
	switch kind {
	case '1':
		return fmt.Errorf("%w: the server has disconnected the client", errProtocol)
	case '2', '3':
		if err := json.Unmarshal([]byte(rest[digits:]), &list); err != nil {
			return bad
		}
	default:
		return bad
	}
	if kind == '3' {
		if len(list) != 1 || answer == nil {
			return bad
		}
		var failed struct{ Error json.RawMessage }
		json.Unmarshal(list[0], &failed)
		answer(id, reply{list[0], failure(failed.Error)})
		return nil
	}
	if len(list) < 2 {
		return bad
	}
	hear(unquoted(list[0]), unquoted(list[1]))
	if last := list[len(list)-1]; p.pid != "" && last[0] == '"' {
		p.offset = unquoted(last)
	}
	return nil
}

func (*socketIOProtocol) bye() string { return "41" }

// ended returns io.EOF and the like as errEnded.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", errEnded, err)
	}
	return err
}
