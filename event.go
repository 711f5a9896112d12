package atrium

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"sync/atomic"
)

// Event is an event that the other end has sent, in its raw form. It belongs to the handler that it was given to, until
// the handler returns.
type Event struct {
	sender sender
	eventData
	given atomic.Bool // the reply was sent, which an Ack may do in any goroutine
	later *Ack        // nil unless Later was called: the handler may return without a reply
}

// sender is the other end as one who has sent an event: a *Socket at the server, a *link at the client, another node.
type sender interface {
	// reply sends the acknowledgement with that id.
	reply(id int64, answer args)
	// replyError says what was wrong with an event: in its acknowledgement if it asked for one, else as it can.
	replyError(event string, id int64, message string, data []byte)
	// logger is for what concerns an event.
	logger(event string) *slog.Logger
	// maxAttachments bounds the Binary values of an acknowledgement.
	maxAttachments() int
}

// Name returns the event's name.
func (e *Event) Name() string { return e.name }

// Args returns the arguments as they were sent. They may be kept.
func (e *Event) Args() []json.RawMessage { return e.args.values() }

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
func (e *Event) first(v any) error { return e.bind(e.args.first(), v, "data") }

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
func (e *Event) Reply(args ...any) error {
	if e.ackID == noID || e.given.Load() {
		return ErrNoAck
	}
	answer, err := encodeArgs(args, e.sender.maxAttachments())
	if err != nil {
		return fmt.Errorf("atrium: reply to %q: %w", e.name, err)
	}
	if !e.given.CompareAndSwap(false, true) {
		return ErrNoAck
	}
	e.sender.reply(e.ackID, answer)
	return nil
}

// ReplyError tells the sender what went wrong: in the acknowledgement if it asked for one, else in an event named
// "error". A server that asked for none is not told, but the Client's log. The sender is told the message and data of
// an *Error; anything else becomes "internal error" and is logged.
func (e *Event) ReplyError(err error) {
	message, data := publicError(err, e.sender.logger(e.name))
	e.fail(message, data)
}

// fail is ReplyError with what the sender is told.
func (e *Event) fail(message string, data []byte) {
	if e.given.CompareAndSwap(false, true) {
		e.sender.replyError(e.name, e.ackID, message, data)
	}
}

// finish is for when the handlers have returned. It sends the empty acknowledgement, unless they have given one or mean
// to.
func (e *Event) finish() {
	switch {
	case e.later != nil:
		e.args = args{} // the Ack needs none
	case e.ackID != noID && e.given.CompareAndSwap(false, true):
		e.sender.reply(e.ackID, args{})
	}
}

// publicError returns what the other end is told of an error, and logs what it is not told.
func publicError(err error, log *slog.Logger) (message string, data []byte) {
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
