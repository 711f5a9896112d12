package atrium

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"strings"
)

// Event is an event that the other end has sent, in its raw form. It belongs to the handler that it was given to, until
// the handler returns.
type Event struct {
	sender sender
	eventData
	answered bool // by the handler; not used any more after Later
	later    *Ack // nil unless Later was called
}

// sender is the other end as one who has sent an event: a *Socket at the server, a *Client at the client.
type sender interface {
	// answer sends the acknowledgement with that id.
	answer(id int64, answer args)
	// answerError says what was wrong with an event: in its acknowledgement if it asked for one, else as it can.
	answerError(event string, id int64, message string, data []byte)
	// logger is for what concerns an event.
	logger(event string) *slog.Logger
	// maxAttachments bounds the Binary values of an acknowledgement.
	maxAttachments() int
}

// Name returns the event's name.
func (e *Event) Name() string { return e.name }

// Socket returns the socket that the event came from. It is nil if the event came to a Client.
func (e *Event) Socket() *Socket {
	s, _ := e.sender.(*Socket)
	return s
}

// Args returns the arguments as they were sent. They may be kept.
func (e *Event) Args() []json.RawMessage {
	return e.args.values()
}

// Bind decodes the arguments in their order into what the pointers point to, as json.Unmarshal does, and validates
// each that has a Validate() error method: the value itself, not what is in it; see On. A missing argument is null, one
// too many is ignored. An error is an *Error that names the field and what was expected, or what Validate has returned;
// either is fit for ReplyError.
func (e *Event) Bind(pointers ...any) error {
	next := 0
	for i, p := range pointers {
		var at span
		at, next = e.args.value(next)
		what := "data"
		if len(pointers) > 1 {
			what = fmt.Sprintf("argument %d", i+1)
		}
		if err := e.bind(at, p, what); err != nil {
			return err
		}
	}
	return nil
}

// first decodes the first argument, which is the one that typed handlers take.
func (e *Event) first(v any) error {
	return e.bind(e.args.first(), v, "data")
}

// bind decodes the argument at at, which is empty if there is no such argument.
func (e *Event) bind(at span, v any, what string) error {
	if into, ok := v.(*any); ok && at.start < at.end && len(e.args.attachments) > 0 {
		*into = e.args.decodeAny(at)
		return nil
	}
	return bind(e.args.json[at.start:at.end], v, what)
}

// Reply sends the acknowledgement that the sender asked for. It returns ErrNoAck if there was none asked for, or it
// is given already, and another error if an argument cannot be encoded. Later is for what takes a while.
func (e *Event) Reply(values ...any) error {
	if e.later != nil {
		return e.later.Reply(values...)
	}
	if e.ackID == noID || e.answered {
		return ErrNoAck
	}
	answer, err := encodeArgs(values, e.sender.maxAttachments())
	if err != nil {
		return fmt.Errorf("atrium: reply to %q: %w", e.name, err)
	}
	e.answered = true
	e.sender.answer(e.ackID, answer)
	return nil
}

// ReplyError tells the sender what went wrong: in the acknowledgement if it asked for one, else in an event named
// "error". A server that asked for none is not told, but the Client's log. The sender is told the message and data of
// an *Error; anything else becomes "internal error" and is logged.
func (e *Event) ReplyError(err error) {
	message, data := shown(err, e.sender.logger(e.name))
	e.fail(message, data)
}

func (e *Event) fail(message string, data []byte) {
	switch {
	case e.later != nil:
		e.later.fail(message, data)
	case !e.answered:
		e.answered = true
		e.sender.answerError(e.name, e.ackID, message, data)
	}
}

// finish sends the empty acknowledgement of a handler that has given none and does not mean to.
func (e *Event) finish() {
	if e.ackID != noID && !e.answered && e.later == nil {
		_ = e.Reply() // nothing to encode
	}
}

// dispatch runs the handlers of an event.
func (n *Namespace) dispatch(s *Socket, e *Event) {
	r := n.functions()
	for _, f := range r.useEvent {
		if err := errorOf(f(e)); err != nil {
			e.ReplyError(err)
			return
		}
	}
	for _, f := range r.any {
		f(e)
	}
	if f := r.handlers[e.name]; f != nil {
		f(s, e)
	} else if len(r.any) == 0 {
		e.ReplyError(Errorf("event: %q is not one that this server knows", e.name))
	}
	e.finish()
}

// Registrar is what On, OnCall and OnAck register handlers with: *Hub or *Namespace, with S being *Socket, or *Client,
// with S being *Client.
type Registrar[S any] interface {
	handle(event string, f func(S, *Event))
}

// mustFunc panics if the application registers a nil function. what names the function or method that it has called.
func mustFunc(isNil bool, what string) {
	if isNil {
		panic("atrium: " + what + ": expected a function, got nil")
	}
}

// withHandler returns a copy of handlers with one more. It panics if that cannot be.
func withHandler[S any](handlers map[string]func(S, *Event), event string, f func(S, *Event)) map[string]func(S, *Event) {
	if err := checkEventName(event); err != nil {
		panic("atrium: an event cannot be handled: " + strings.TrimPrefix(err.Error(), "atrium: "))
	}
	if handlers[event] != nil {
		panic(fmt.Sprintf("atrium: the event %q has a handler already", event))
	}
	handlers = maps.Clone(handlers)
	if handlers == nil {
		handlers = make(map[string]func(S, *Event))
	}
	handlers[event] = f
	return handlers
}

// On registers the handler of an event whose first argument decodes into a T. A missing argument is null.
//
// If T has a Validate() error method, in T or *T, it is called first. If it returns an error, f is not called, and the
// sender is told as if f had returned it. Only the value itself is validated: what is in it, its fields and elements,
// is for its Validate to look at. A method Validate of another form makes On panic.
//
// If f returns an error, the sender is told, as Event.ReplyError does. If it returns nil and the sender asked for an
// acknowledgement, an empty one is sent; OnCall and OnAck are for others. On panics where Namespace.Handle does, whose
// comment says how handlers run.
func On[S, T any](r Registrar[S], event string, f func(S, T) error) {
	mustFunc(f == nil, "On")
	mustValidate(reflect.TypeFor[T]())
	r.handle(event, func(s S, e *Event) {
		var v T
		err := e.first(&v)
		if err == nil {
			err = errorOf(f(s, v))
		}
		if err != nil {
			e.ReplyError(err)
		}
	})
}

// OnCall is On for a handler that has an answer: what f returns is the acknowledgement, if one was asked for.
func OnCall[S, T, R any](r Registrar[S], event string, f func(S, T) (R, error)) {
	mustFunc(f == nil, "OnCall")
	mustValidate(reflect.TypeFor[T]())
	r.handle(event, func(s S, e *Event) {
		var v T
		err := e.first(&v)
		var result R
		if err == nil {
			result, err = f(s, v)
			err = errorOf(err)
		}
		if err == nil && e.ackID != noID {
			err = e.Reply(result)
		}
		if err != nil {
			e.ReplyError(err)
		}
	})
}

// shown returns what the other end is told of an error, and logs what it is not told.
func shown(err error, log *slog.Logger) (message string, data []byte) {
	e, ok := asError(err)
	if !ok {
		log.Error("atrium: a handler failed", slog.Any("error", err))
		return "internal error", nil
	}
	if e.Data != nil {
		encoded, err := encodeArgs([]any{e.Data}, noBound)
		if err != nil {
			log.Error("atrium: the data of an error cannot be encoded", slog.Any("error", err))
			return e.Message, nil
		}
		data = encoded.json
	}
	return e.Message, data
}
