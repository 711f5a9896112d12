package atrium

import (
	"context"
	"encoding/json"
	"reflect"
)

// Reply is one socket's answer to a Call of a Target.
type Reply struct {
	SocketID string
	// Data is the answer, its first value if it had several; nil if it had none.
	Data json.RawMessage
	// Values are all values of the answer, as a JSON array; nil if there was no answer, but an Err.
	Values json.RawMessage
	// Err is nil if the socket answered; an *Error with what it answered; ErrDisconnected if it
	// went away before it did; ErrTooManyCalls if it was not asked because of Limits.Calls; or
	// matches ErrTimeout or ctx's error if it took too long.
	Err error
}

// newReply returns the Reply for an acknowledgement: fail, or a copy of the answer.
func newReply(answer args, fail *Error) (r Reply) {
	if fail != nil {
		r.Err = fail
		return r
	}
	r.Values = make(json.RawMessage, 0, len("[]")+len(answer.json))
	r.Values = append(append(append(r.Values, '['), answer.json...), ']')
	if answer.n > 0 {
		end := 1 + answer.first().end
		r.Data = r.Values[1:end:end]
	}
	return r
}

// Caller is the other end as Call sees it: a *Socket at the server, a *Client at the client.
type Caller interface {
	call(ctx context.Context, event string, args []any) Reply
}

// Call sends an event to the other end, waits for the acknowledgement, decodes its first value into
// a T, and calls the Validate() error method of that if it has one; see On. It waits until ctx
// ends, or if ctx has no deadline for Timeouts.Call or ClientOptions.CallTimeout.
//
// Beside the errors of Emit it returns an *Error that the other end replied with, or that says why
// the value is no T; ErrDisconnected if the other end was disconnected; ErrTooManyCalls if a socket
// has Limits.Calls to answer already; and an error that matches ErrTimeout, or ctx's error, if no
// acknowledgement came in time. A handler may Call its own socket.
func Call[T any](ctx context.Context, c Caller, event string, args ...any) (T, error) {
	mustValidate(reflect.TypeFor[T]())
	var v T
	r := c.call(ctx, event, args)
	if r.Err != nil {
		return v, r.Err
	}
	var answer eventData
	answer.args.json = r.Data
	return v, answer.args.bind(span{0, len(r.Data)}, &v, "data")
}

// CallValues is Call for an acknowledgement with any number of values. It returns all of them, as
// JSON; an empty list if there are none.
func CallValues(ctx context.Context, c Caller, event string, args ...any) ([]json.RawMessage, error) {
	r := c.call(ctx, event, args)
	if r.Err != nil {
		return nil, r.Err
	}
	return parseArray(r.Values).values(), nil
}
