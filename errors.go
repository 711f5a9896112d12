package atrium

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// Errors that callers may want to tell apart with errors.Is.
var (
	// ErrClosed: the connection or socket is closed or closing, by either side.
	ErrClosed = errors.New("atrium: closed")
	// ErrDisconnected: who was asked by a Call went away before the answer came.
	ErrDisconnected = errors.New("atrium: disconnected before the answer came")
	// ErrTimeout: an answer did not come in time.
	ErrTimeout = errors.New("atrium: timed out")
	// ErrMessageTooBig: the connection ended because a message was over its receiver's limit, this end's or the peer's.
	ErrMessageTooBig = errors.New("atrium: message too big")
	// ErrReserved: an event name that only the protocol itself may use.
	ErrReserved = errors.New("atrium: reserved event name")
	// ErrRoomName: a room name that is empty, too long, not UTF-8 or a live socket's id.
	ErrRoomName = errors.New("atrium: unusable room name")
	// ErrTooManyRooms: a socket would be in more rooms than Options.MaxRooms.
	ErrTooManyRooms = errors.New("atrium: too many rooms")
	// ErrNoAck: a Reply, of an Event or an Ack, to a sender that asked for no acknowledgement, or a second Reply.
	ErrNoAck = errors.New("atrium: no acknowledgement asked for, or already given")
	// ErrBus: the Bus does not work at the moment.
	ErrBus = errors.New("atrium: the bus fails")
	// ErrBufferFull: a Client has as much to send as it may; see ClientOptions.MaxOfflineBytes.
	ErrBufferFull = errors.New("atrium: too much is waiting to be sent")
	// ErrProtocol: what a server sends is not what Socket.IO's protocol has there.
	ErrProtocol = errors.New("atrium: the server does not keep to Socket.IO's protocol")
	// ErrNotReading: a Ping on a connection that nobody reads, whose pong could not be seen.
	ErrNotReading = errors.New("atrium: nobody reads the connection")
)

// CloseError is how a WebSocket connection ended: the code and reason of the close frame received, or of the
// one sent because the peer broke a rule. Code 1005 means an empty close frame, 1006 none at all.
type CloseError struct {
	Code   StatusCode
	Reason string
	// Err is what the operating system or TLS said, if that is how the connection ended.
	Err error
}

// Error returns the code and reason.
func (e *CloseError) Error() string {
	s := "atrium: connection closed with status " + strconv.Itoa(int(e.Code))
	if e.Reason != "" {
		s += ": " + strconv.Quote(e.Reason)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns e.Err.
func (e *CloseError) Unwrap() error { return e.Err }

// Is makes every CloseError match ErrClosed, and one with code 1009 ErrMessageTooBig.
func (e *CloseError) Is(target error) bool {
	return target == ErrClosed || target == ErrMessageTooBig && e.Code == StatusMessageTooBig
}

// timedOut is the error of what a context has ended: one that matches ErrTimeout, too, if it was too late.
func timedOut(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}

// protocolError is the answer to a violation of RFC 6455 itself.
func protocolError(reason string) *CloseError {
	return &CloseError{Code: StatusProtocolError, Reason: reason}
}

// Error is an error meant for the other end. A handler, a Use function or Options.Accept that returns one
// has its message and data sent to the client; any other error reaches the client as "internal error" and is
// logged. A Call whose client answers with an error returns one.
type Error struct {
	Message string
	// Data, if not nil, is sent along as JSON. In an Error received it is a json.RawMessage.
	Data any
	// Status is the HTTP status of a refusal by Options.Accept: zero means 403. In an Error that Client.Connect returns
	// it is that of the server's refusal; zero means that it was none over HTTP. Elsewhere it is not used.
	Status int

	// Err, if not nil, is what errors.Is and errors.As find behind the message, ErrRoomName for example. It is not
	// sent.
	Err error
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an *Error whose message is formatted as fmt.Errorf does, and whose Err is what a %w stands for. The
// message, with the text of that, is shown to the client.
func Errorf(format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	e := &Error{Message: err.Error()}
	switch wrapper := err.(type) {
	case interface{ Unwrap() error }:
		e.Err = wrapper.Unwrap()
	case interface{ Unwrap() []error }:
		e.Err = errors.Join(wrapper.Unwrap()...)
	}
	return e
}

// errorOf returns an error that a function of the application has returned. A nil *Error is none: it is what becomes of
// the nil in a variable of that type.
func errorOf(err error) error {
	if e, ok := err.(*Error); ok && e == nil {
		return nil
	}
	return err
}

// asError finds the *Error in an error.
func asError(err error) (*Error, bool) {
	e, ok := errors.AsType[*Error](err)
	return e, ok && e != nil
}
