package atrium

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// Errors that callers may want to tell apart with errors.Is.
var (
	// ErrClosed is returned when the connection, the socket or the client is closed or closing, by
	// either side.
	ErrClosed = errors.New("atrium: closed")
	// ErrDisconnected is returned when the other end of a Call went away before it answered.
	ErrDisconnected = errors.New("atrium: disconnected before the answer came")
	// ErrTimeout is returned when an answer did not come in time.
	ErrTimeout = errors.New("atrium: timed out")
	// ErrMessageTooBig is returned when a message is over its receiver's limit, this end's or the
	// peer's. If it was sent, the connection has ended because of it.
	ErrMessageTooBig = errors.New("atrium: message too big")
	// ErrReserved is returned when an event has a name that only the protocol itself may use.
	ErrReserved = errors.New("atrium: reserved event name")
	// ErrRoomName is returned when the name of a room is empty, too long, not UTF-8 or the id of
	// another socket.
	ErrRoomName = errors.New("atrium: unusable room name")
	// ErrTooManyRooms is returned when a socket would be in more rooms than Limits.Rooms allows.
	ErrTooManyRooms = errors.New("atrium: too many rooms")
	// ErrUserID is returned when the id of a user is empty, too long or not UTF-8.
	ErrUserID = errors.New("atrium: unusable user id")
	// ErrUserSet is returned when the user of a socket would change.
	ErrUserSet = errors.New("atrium: the user of a socket does not change")
	// ErrTooManyCalls is returned when as many Calls wait for a socket's answer as Limits.Calls
	// allows.
	ErrTooManyCalls = errors.New("atrium: too many calls wait for an answer")
	// ErrNoAck is returned by Reply, of an Event or an Ack, when the sender asked for no
	// acknowledgement, or it has been given.
	ErrNoAck = errors.New("atrium: no acknowledgement asked for, or already given")
	// ErrBus is returned when the Bus does not work at the moment.
	ErrBus = errors.New("atrium: the bus fails")
	// ErrBufferFull is returned when a Client has as much to send as it may; see
	// ClientOptions.MaxOfflineBytes.
	ErrBufferFull = errors.New("atrium: too much is waiting to be sent")
	// ErrProtocol is returned when a server sends what is not Socket.IO's protocol.
	ErrProtocol = errors.New("atrium: the server does not keep to Socket.IO's protocol")
	// ErrNotReading is returned by Conn.Ping when nobody reads the connection, so that the pong
	// could not be received.
	ErrNotReading = errors.New("atrium: nobody reads the connection")
)

// CloseError is how a WebSocket connection ended: the code and reason of the close frame received,
// or of the one sent because the peer broke a rule. Code 1005 means an empty close frame, 1006 none
// at all.
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

// oversized is the error of a message that is over a limit, with what is known of it.
type oversized struct {
	event string // empty: not known
	bytes int64  // at least; 0: not known
	limit int64
}

func (e *oversized) Error() string        { return ErrMessageTooBig.Error() }
func (e *oversized) Is(target error) bool { return target == ErrMessageTooBig }

// timedOut returns the error of a context that has ended. After a deadline it matches ErrTimeout,
// too.
func timedOut(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	}
	return err
}

// protocolError returns the error for a violation of RFC 6455.
func protocolError(reason string) *CloseError {
	return &CloseError{Code: StatusProtocolError, Reason: reason}
}

// Error is an error meant for the other end. A handler, a Use function or Options.Accept that
// returns one has its message and data sent to the client; any other error reaches the client as
// "internal error" and is logged. A Call whose client answers with an error returns one.
type Error struct {
	Message string
	// Data, if not nil, is sent along as JSON. In an Error received it is a json.RawMessage.
	Data any
	// Status is the HTTP status of a refusal by Options.Accept: zero means 403. In an Error that
	// Client.Connect returns it is that of the server's refusal; zero means that it was none over
	// HTTP. Elsewhere it is not used.
	Status int

	// Err, if not nil, is what errors.Is and errors.As find behind the message, ErrRoomName for
	// example. It is not sent.
	Err error
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an *Error whose message is formatted as fmt.Errorf does, and whose Err is what a
// %w stands for. The message, with the text of that, is shown to the client.
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

// errorOf returns an error that a function of the application has returned. A nil *Error counts as
// nil: a variable of that type was returned.
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
