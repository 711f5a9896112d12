package atrium

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// These have a method Validate that is not the one that is called.
type (
	boolValid    struct{ N int }
	contextValid struct{ N int }
	silentValid  struct{ N int }
)

func (boolValid) Validate() bool                     { return false }
func (*contextValid) Validate(context.Context) error { return nil }
func (silentValid) Validate()                        {}

// A type whose Validate nobody would call cannot be registered, nor bound to.
func TestValidateOfAnotherForm(t *testing.T) {
	h := newHub(t, Options{})
	c := NewClient("http://example.com", ClientOptions{})
	for name, f := range map[string]func(){
		"On":                  func() { On(h, "e", func(*Socket, boolValid) error { return nil }) },
		"On a pointer":        func() { On(h, "e", func(*Socket, *boolValid) error { return nil }) },
		"On a client":         func() { On(c, "e", func(*Client, contextValid) error { return nil }) },
		"On nodes":            func() { On(h.Nodes(), "e", func(string, silentValid) error { return nil }) },
		"OnCall":              func() { OnCall(h, "e", func(*Socket, *contextValid) (int, error) { return 0, nil }) },
		"OnAck":               func() { OnAck(h, "e", func(*Socket, silentValid, *Ack) error { return nil }) },
		"Event.Bind":          func() { (&Event{eventData: dataOf("", "{}", 1, noID)}).Bind(new(boolValid)) },
		"Event.Bind, pointer": func() { (&Event{eventData: dataOf("", "{}", 1, noID)}).Bind(new(*contextValid)) },
		"Handshake.Bind":      func() { new(Handshake).Bind(new(silentValid)) },
	} {
		wantPanic(t, name, "expected func() error, got a func(", f)
	}
	// What is right is not refused.
	On(h, "value", func(*Socket, valueValid) error { return nil })
	On(h, "pointer", func(*Socket, pointerValid) error { return nil })
	On(h, "pointer to it", func(*Socket, *pointerValid) error { return nil })
	On(h, "interface", func(*Socket, validator) error { return nil })
	On(h, "anything", func(*Socket, any) error { return nil })
}

// To register nil panics at once, not when the first client comes.
func TestRegisterNil(t *testing.T) {
	h := newHub(t, Options{})
	n := h.Of("/n")
	c := NewClient("http://example.com", ClientOptions{})
	for name, f := range map[string]func(){
		"On":             func() { On[*Socket, int](h, "e", nil) },
		"OnCall":         func() { OnCall[*Client, int, int](c, "e", nil) },
		"OnAck":          func() { OnAck[string, int](h.Nodes(), "e", nil) },
		"Handle":         func() { h.Handle("e", nil) },
		"HandleAny":      func() { n.HandleAny(nil) },
		"Use":            func() { h.Use(nil) },
		"UseEvent":       func() { h.UseEvent(nil) },
		"OnConnect":      func() { n.OnConnect(nil) },
		"OnDisconnect":   func() { h.OnDisconnect(nil) },
		"OnEmit":         func() { h.OnEmit(nil) },
		"OfFunc":         func() { h.OfFunc(nil) },
		"Handle ":        func() { c.Handle("e", nil) },
		"HandleAny ":     func() { c.HandleAny(nil) },
		"OnConnect ":     func() { c.OnConnect(nil) },
		"OnDisconnect ":  func() { c.OnDisconnect(nil) },
		"OnConnectError": func() { c.OnConnectError(nil) },
		"OnState":        func() { c.OnState(nil) },
	} {
		wantPanic(t, name, strings.TrimSpace(name)+": expected a function, got nil", f)
	}
	h.Handle("e", func(*Event) {}) // nothing is left of them
}

// A reserved name says what to use instead.
func TestReservedNameHints(t *testing.T) {
	h := newHub(t, Options{})
	for event, want := range map[string]string{
		"connect":        `reserved event name: "connect": use OnConnect`,
		"disconnect":     `reserved event name: "disconnect": use Disconnect to send it, and OnDisconnect to handle it`,
		"disconnecting":  `OnDisconnect`,
		"connect_error":  `return an error from Use to send it; a Client handles it with OnConnectError`,
		"newListener":    `reserved event name: "newListener"`,
		"removeListener": `reserved event name: "removeListener"`,
	} {
		if err := h.Emit(event); !errors.Is(err, ErrReserved) || !strings.Contains(err.Error(), want) {
			t.Error(err)
		}
		wantPanic(t, event, want, func() { h.Handle(event, func(*Event) {}) })
	}
}

// hidden validates with an error that is not for the other end.
type hidden struct{ N int }

func (h hidden) Validate() error {
	if h.N < 0 {
		return errors.New("table accounts has no such row")
	}
	return nil
}

// An error of Validate that is no *Error is a handler's error: for the log, not for the other end.
func TestValidateHides(t *testing.T) {
	noLeaks(t)
	logger, log := newLog()
	h := newHub(t, Options{Logger: logger})
	On(h, "typed", func(*Socket, hidden) error { t.Error("called"); return nil })
	h.Handle("raw", func(e *Event) { e.ReplyError(e.Bind(new(hidden))) })
	h.Handle("ask", func(e *Event) {
		s := e.Socket()
		go func() {
			_, err := Call[hidden](t.Context(), s, "q")
			s.Emit("got", fmt.Sprint(err))
		}()
	})
	srv := serve(t, overPipe, h)
	c := srv.connect(t, nil)
	for _, event := range []string{"typed", "raw"} {
		c.send(fmt.Sprintf(`{"event":%q,"data":{"N":-1},"id":1}`, event))
		c.want(`{"id":1,"error":{"message":"internal error"}}`)
		if !strings.Contains(log.String(), "event="+event) || !strings.Contains(log.String(), "no such row") {
			t.Errorf("the log: %s", log)
		}
	}
	c.send(`{"event":"ask"}`)
	c.want(`{"event":"q","id":0}`)
	c.send(`{"id":0,"data":{"N":-1}}`)
	c.want(`{"event":"got","data":"table accounts has no such row"}`)

	h.Use(func(s *Socket) error { return s.Handshake().Bind(new(hidden)) })
	refused := &client{srv.conn(t, "Sec-WebSocket-Protocol: atrium"), t, ""}
	refused.emit("connect", map[string]int{"N": -1})
	refused.want(`{"event":"connect_error","data":{"message":"internal error"}}`)
}
