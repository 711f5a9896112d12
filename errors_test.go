package atrium

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
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
