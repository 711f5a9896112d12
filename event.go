package atrium

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync/atomic"
)

// Event is an event that the other end has sent, in its raw form. It belongs to the handler that it
// was given to, until the handler returns.
type Event struct {
	sender sender
	eventData
	given atomic.Bool // a reply was sent; an Ack may do that in any goroutine
	later *Ack        // nil unless Later was called
}

// sender is where an event came from, and where the reply goes: a *Socket of a hub, a *link of a
// Client, another node.
type sender interface {
	// reply sends the acknowledgement with that id.
	reply(id int64, answer args)
	// replyError reports an error in the acknowledgement, or without an id in the way that this end
	// has for it.
	replyError(event string, id int64, message string, data []byte)
	// logger returns the logger for messages about the event.
	logger(event string) *slog.Logger
	// maxAttachments returns how many Binary values an acknowledgement may have.
	maxAttachments() int
}

// Name returns the event's name.
func (e *Event) Name() string { return e.name }

// Args returns the arguments as they were sent. They may be kept.
func (e *Event) Args() []json.RawMessage { return e.args.values() }

// Bind decodes the arguments in order into the values that the pointers point to, as json.Unmarshal
// does, and calls the Validate() error method of each value that has one; see On. A missing
// argument is null, an additional one is ignored. The error is an *Error that names the field and
// what was expected, or what Validate returned; either can be passed to ReplyError.
func (e *Event) Bind(pointers ...any) error {
	next := 0
	for i, p := range pointers {
		mustPointer(p)
		var at span
		at, next = e.args.value(next)
		what := "data"
		if len(pointers) > 1 {
			what = fmt.Sprintf("argument %d", i+1)
		}
		if err := e.args.bind(at, p, what); err != nil {
			return err
		}
	}
	return nil
}

// Reply sends the acknowledgement that the sender asked for. It returns ErrNoAck if the sender
// asked for none or has been sent it already, and another error if an argument cannot be encoded. A
// reply that takes a while to make is for Later.
func (e *Event) Reply(args ...any) error {
	if e.ackID == noID || e.given.Load() {
		e.later.settle()
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
	e.later.settle() // not before: see session.endIfAnswered
	return nil
}

// ReplyError reports an error to the sender: in the acknowledgement if the sender asked for one,
// else in an event named "error". A Client logs the error instead if the server asked for no
// acknowledgement. The sender gets the message and data of an *Error; any other error is logged,
// and the sender gets "internal error".
func (e *Event) ReplyError(err error) {
	if sender, ok := e.sender.(interface{ countError() }); ok { // a *Socket
		sender.countError()
	}
	message, data := publicError(err, e.sender.logger(e.name))
	e.fail(message, data)
}

// fail sends an error to the sender, unless a reply was sent already.
func (e *Event) fail(message string, data []byte) {
	if e.given.CompareAndSwap(false, true) {
		e.sender.replyError(e.name, e.ackID, message, data)
		e.later.settle()
	}
}

// finish ends the handling of the event, when its handlers have returned: it sends an empty
// acknowledgement if none was sent and Later was not called.
func (e *Event) finish() {
	switch {
	case e.later != nil:
		e.args = args{} // the Ack needs none
	case e.ackID != noID && e.given.CompareAndSwap(false, true):
		e.sender.reply(e.ackID, args{})
	}
}

// publicError returns the part of an error that the other end gets, and logs the rest.
func publicError(err error, log *slog.Logger) (message string, data []byte) {
	e, ok := asError(err)
	if !ok {
		log.Error("atrium: a handler failed", loggedFailure(err)...)
		return "internal error", nil
	}
	if e.Data != nil {
		encoded, err := encodeArgs([]any{e.Data}, noBound)
		if err != nil {
			log.Error("atrium: the data of an error cannot be encoded", loggedFailure(err)...)
			return e.Message, nil
		}
		data = encoded.json
	}
	return e.Message, data
}

// validator is implemented by types of the application that check their own values.
type validator interface{ Validate() error }

// bind decodes the value that stands at at, null if that is empty, into the value that v points to,
// and validates that. what names the value in errors. The caller has checked the type: see
// mustValidate.
func (a args) bind(at span, v any, what string) error {
	if value := a.json[at.start:at.end]; len(value) > 0 {
		if into, ok := v.(*any); ok && len(a.attachments) > 0 {
			*into = a.decodeAny(at)
		} else if err := json.Unmarshal(value, v); err != nil {
			return decodeError(err, what)
		}
	}
	if pointed := reflect.ValueOf(v).Elem(); pointed.Kind() == reflect.Pointer {
		if pointed.IsNil() {
			return nil // a *T says that null is fine
		}
		v = pointed.Interface()
	}
	validates, ok := v.(validator)
	if !ok {
		return nil
	}
	err := errorOf(validates.Validate())
	if public, ok := asError(err); ok {
		return public
	}
	return err
}

// mustPointer panics if v is not what Bind decodes into.
func mustPointer(v any) {
	pointer := reflect.ValueOf(v)
	if pointer.Kind() != reflect.Pointer || pointer.IsNil() {
		panic(fmt.Sprintf("atrium: Bind needs pointers, got %T", v))
	}
	mustValidate(pointer.Type().Elem())
}

// mustValidate panics if type t has a method Validate that is not validator's, and would never be
// called.
func mustValidate(t reflect.Type) {
	if t.Kind() != reflect.Pointer {
		t = reflect.PointerTo(t)
	}
	if m, ok := t.MethodByName("Validate"); ok && !t.Implements(reflect.TypeFor[validator]()) {
		panic(fmt.Sprintf("atrium: the method Validate of %v: expected func() error, got a %v", t.Elem(), m.Type))
	}
}

// decodeError turns an error of encoding/json into one for the sender, who knows nothing of Go's
// types.
func decodeError(err error, what string) error {
	e, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return Errorf("%s: %s", what, strings.TrimPrefix(err.Error(), "json: "))
	}
	if e.Field != "" {
		what = e.Field
	}
	return Errorf("%s: expected %s, got %s", what, jsonTypeName(e.Type), e.Value)
}

// jsonTypeName describes the JSON values that decode into a type.
func jsonTypeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Int, reflect.Int64:
		return "an integer"
	case reflect.Int8, reflect.Int16, reflect.Int32:
		return fmt.Sprintf("an integer from %d to %d", -1<<(t.Bits()-1), 1<<(t.Bits()-1)-1)
	case reflect.Uint, reflect.Uint64, reflect.Uintptr:
		return "an integer that is not negative"
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		return fmt.Sprintf("an integer from 0 to %d", uint64(1)<<t.Bits()-1)
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Pointer:
		return jsonTypeName(t.Elem())
	}
	return "a " + t.String()
}
