package atrium

import (
	"context"
	"encoding/json"
)

// Reply is one socket's answer to a Call.
type Reply struct {
	SocketID string
	// Data is the answer, its first value if it had several; nil if it had none.
	Data json.RawMessage
	// Values are all values of the answer, as a JSON array; nil if there was no answer, but an Err.
	Values json.RawMessage
	// Err is nil if the socket answered; an *Error with what it answered; ErrDisconnected if it went away before
	// it did; or matches ErrTimeout or ctx's error if it took too long.
	Err error
}

// newReply returns what an acknowledgement says: fail, or the answer, of which it keeps nothing.
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

// Call sends an event to the other end, waits for its acknowledgement, and decodes that into a T, which is
// validated if it has a Validate() error method: the value itself, not what is in it; see On. It waits until ctx ends,
// or for Options.CallTimeout if ctx has no deadline: that of New, or of NewClient.
//
// Beside the errors of Emit it returns an *Error with what the other end answered or, if the answer is no T,
// with what was expected; ErrDisconnected if the other end went away; and one that matches ErrTimeout, or ctx's
// error, if no answer came in time. Inside a handler Call may ask the handler's own socket.
func Call[T any](ctx context.Context, c Caller, event string, args ...any) (T, error) {
	var v T
	r := c.call(ctx, event, args)
	if r.Err != nil {
		return v, r.Err
	}
	return v, bind(r.Data, &v, "data")
}

// CallValues is Call for an acknowledgement that may have any number of values. It returns them all, as JSON; an
// empty list if there were none.
func CallValues(ctx context.Context, c Caller, event string, args ...any) ([]json.RawMessage, error) {
	r := c.call(ctx, event, args)
	if r.Err != nil {
		return nil, r.Err
	}
	return parseArray(r.Values).values(), nil
}
