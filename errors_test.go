package atrium

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCloseError(t *testing.T) {
	sentinels := []error{ErrClosed, ErrDisconnected, ErrTimeout, ErrMessageTooBig, ErrReserved, ErrRoomName, ErrTooManyRooms, ErrNoAck, ErrNotReading}
	reset := &net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer")}
	for _, test := range []struct {
		err  *CloseError
		text string
		is   []error // of the sentinels
	}{
		{&CloseError{Code: StatusNormalClosure}, "atrium: connection closed with status 1000", []error{ErrClosed}},
		{&CloseError{Code: StatusGoingAway, Reason: "bye"}, `atrium: connection closed with status 1001: "bye"`, []error{ErrClosed}},
		{&CloseError{Code: StatusPolicyViolation, Reason: "a\n\"b\""}, `atrium: connection closed with status 1008: "a\n\"b\""`, []error{ErrClosed}},
		{&CloseError{Code: StatusMessageTooBig}, "atrium: connection closed with status 1009", []error{ErrClosed, ErrMessageTooBig}},
		{&CloseError{Code: StatusAbnormalClosure, Err: io.EOF}, "atrium: connection closed with status 1006: EOF", []error{ErrClosed}},
		{&CloseError{Code: StatusAbnormalClosure, Reason: "cut", Err: reset},
			`atrium: connection closed with status 1006: "cut": read tcp: connection reset by peer`, []error{ErrClosed}},
		{&CloseError{Code: StatusAbnormalClosure, Err: ErrTimeout}, "atrium: connection closed with status 1006: atrium: timed out", []error{ErrClosed, ErrTimeout}},
	} {
		if got := test.err.Error(); got != test.text {
			t.Errorf("got %q, want %q", got, test.text)
		}
		wrapped := fmt.Errorf("reading: %w", test.err)
		var as *CloseError
		if !errors.As(wrapped, &as) || as != test.err {
			t.Errorf("%v: errors.As gives %v", test.err, as)
		}
		var is []error
		for _, sentinel := range sentinels {
			if errors.Is(wrapped, sentinel) {
				is = append(is, sentinel)
			}
		}
		if diff := cmp.Diff(test.is, is, cmp.Comparer(func(a, b error) bool { return a == b })); diff != "" {
			t.Errorf("%v: %s", test.err, diff)
		}
		if !errors.Is(wrapped, test.err) || errors.Unwrap(test.err) != test.err.Err {
			t.Errorf("%v is not itself, or does not unwrap to its Err", test.err)
		}
	}
	var op *net.OpError
	if err := fmt.Errorf("reading: %w", &CloseError{Code: StatusAbnormalClosure, Err: reset}); !errors.As(err, &op) || op != reset {
		t.Errorf("the operating system's error is lost: %v", op)
	}
}

func TestProtocolError(t *testing.T) {
	if diff := cmp.Diff(&CloseError{Code: 1002, Reason: "why"}, protocolError("why")); diff != "" {
		t.Error(diff)
	}
}

func TestError(t *testing.T) {
	err := Errorf("%s: %d is too many", "rooms", 3)
	if diff := cmp.Diff(&Error{Message: "rooms: 3 is too many"}, err); diff != "" {
		t.Error(diff)
	}
	if err.Error() != "rooms: 3 is too many" {
		t.Errorf("Error() = %q", err.Error())
	}
	var as *Error
	withData := &Error{Message: "Required", Data: json.RawMessage(`{"field":"name"}`)}
	if !errors.As(fmt.Errorf("calling: %w", withData), &as) || as != withData {
		t.Errorf("errors.As gives %v", as)
	}
	// An Error says nothing about the connection.
	if errors.Is(withData, ErrClosed) {
		t.Error("an Error is ErrClosed")
	}
}

// What %w stands for is found by errors.Is, and its text is part of the message.
func TestErrorfWraps(t *testing.T) {
	one := Errorf("join %q: %w", "a", ErrRoomName)
	if diff := cmp.Diff(`join "a": atrium: unusable room name`, one.Error()); diff != "" {
		t.Error(diff)
	}
	two := Errorf("%w and %w", ErrTimeout, fmt.Errorf("wrapped: %w", ErrClosed))
	for _, test := range []struct {
		err    *Error
		target error
		is     bool
	}{
		{one, ErrRoomName, true}, {one, ErrClosed, false},
		{two, ErrTimeout, true}, {two, ErrClosed, true}, {two, ErrBus, false},
		{Errorf("%v", ErrClosed), ErrClosed, false},
	} {
		if is := errors.Is(test.err, test.target); is != test.is {
			t.Errorf("errors.Is(%v, %v) = %t", test.err, test.target, is)
		}
	}
	if Errorf("none").Err != nil {
		t.Error("there is nothing behind it")
	}
}

// nilValid returns the nil in a variable of type *Error.
type nilValid struct{}

func (nilValid) Validate() error { return nilError() }

func nilError() error {
	var e *Error
	return e
}

// A nil *Error that a function returns as an error is none, wherever the application's errors are
// taken.
func TestNilErrorIsNone(t *testing.T) {
	noLeaks(t)
	logger, log := newLog()
	h := newHub(t, Options{Logger: logger, Accept: func(*http.Request) (context.Context, error) { return nil, nilError() }})
	h.Use(func(*Socket) error { return nilError() })
	h.UseEvent(func(*Event) error { return nilError() })
	On(h, "on", func(*Socket, nilValid) error { return nilError() })
	OnCall(h, "call", func(*Socket, nilValid) (int, error) { return 5, nilError() })
	OnAck(h, "ack", func(_ *Socket, _ nilValid, ack *Ack) error { ack.Reply(6); return nilError() })
	h.Handle("raw", func(e *Event) {
		if err := e.Bind(new(nilValid)); err != nil {
			t.Error(err)
		}
	})
	h.Handle("tell", func(e *Event) { e.ReplyError(nilError()) })
	h.Handle("tell wrapped", func(e *Event) { e.ReplyError(fmt.Errorf("wrapped: %w", nilError())) })
	srv := serve(t, overPipe, h)
	c := srv.connect(t, nil)
	for _, test := range []struct{ event, hears string }{
		{"on", `{"id":1}`}, {"call", `{"id":1,"data":5}`}, {"ack", `{"id":1,"data":6}`}, {"raw", `{"id":1}`},
	} {
		c.send(fmt.Sprintf(`{"event":%q,"data":{},"id":1}`, test.event))
		c.want(test.hears)
	}
	if log.String() != "" {
		t.Errorf("the log: %s", log)
	}
	// Whoever has an error told has one to tell, even if it says nothing.
	for _, event := range []string{"tell", "tell wrapped"} {
		c.send(fmt.Sprintf(`{"event":%q,"id":1}`, event))
		c.want(`{"id":1,"error":{"message":"internal error"}}`)
	}
	client := srv.client(t, ClientOptions{AuthFunc: func(context.Context) (any, error) { return map[string]int{"N": 1}, nilError() }})
	mustConnect(t, client)
}
