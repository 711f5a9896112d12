package atrium

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"unicode/utf8"
)

// message is one outgoing event. Its arguments are encoded once, when it is made; each wire form is made once,
// when the first receiver needs it, and shared by all receivers of that form. It belongs to one goroutine, which
// releases it; the frames live on.
type message struct {
	event    string
	args     encoder // JSON values joined by commas
	n        int     // how many
	id       int64   // the acknowledgement asked for; noID if none
	volatile bool

	plainFrame []byte
}

var messages = sync.Pool{New: func() any { return new(message) }}

// maxKeptArgs bounds the buffer that a released message keeps for the next.
const maxKeptArgs = 64 << 10

// newMessage encodes an event. Its error is the caller's mistake: a name that cannot be used or an argument that
// cannot be encoded.
func newMessage(event string, args []any) (*message, error) {
	if err := checkEventName(event); err != nil {
		return nil, err
	}
	m := messages.Get().(*message)
	m.event, m.id, m.volatile, m.plainFrame = event, noID, false, nil
	if err := m.args.encode(args); err != nil {
		m.release()
		return nil, fmt.Errorf("atrium: event %q: %w", event, err)
	}
	m.n = len(args)
	return m, nil
}

func (m *message) release() {
	m.plainFrame = nil
	if m.args.Cap() <= maxKeptArgs {
		messages.Put(m)
	}
}

// checkEventName judges a name that this end is about to use.
func checkEventName(event string) error {
	if reservedEvent(event) {
		return fmt.Errorf("%w: %q", ErrReserved, event)
	}
	if event == "" || len(event) > maxEventName || !utf8.ValidString(event) {
		return fmt.Errorf("atrium: the event name %.40q is not 1 to %d bytes of UTF-8", event, maxEventName)
	}
	return nil
}

// reservedEvent reports whether only the protocol itself may use the name, as in Socket.IO.
func reservedEvent(event string) bool {
	switch event {
	case "connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener":
		return true
	}
	return false
}

// encoder holds arguments as JSON.
type encoder struct {
	bytes.Buffer
	json *json.Encoder
}

// encode replaces what e holds with args: JSON values joined by commas.
func (e *encoder) encode(args []any) error {
	e.Reset()
	if e.json == nil {
		e.json = json.NewEncoder(&e.Buffer)
		e.json.SetEscapeHTML(false) // it is not HTML, and JSON.parse has no use for < instead of <
	}
	for i, arg := range args {
		if i > 0 {
			e.WriteByte(',')
		}
		if err := e.json.Encode(arg); err != nil {
			return fmt.Errorf("argument %d cannot be encoded: %w", i+1, err)
		}
		e.Truncate(e.Len() - 1) // Encode's newline
	}
	return nil
}

// encodeArgs returns args as JSON values joined by commas, for messages that have no event name.
func encodeArgs(args []any) ([]byte, error) {
	var e encoder
	err := e.encode(args)
	return e.Bytes(), err
}

// headerRoom is what newFrame leaves free for the header of a frame that is not masked.
const headerRoom = 10

// newFrame returns a buffer to append a payload of about size bytes to. sealFrame makes it a frame, in place.
func newFrame(size int) []byte { return make([]byte, headerRoom, headerRoom+size) }

// sealFrame puts the header in front of a payload that was appended to newFrame's buffer.
func sealFrame(b []byte, op Opcode) []byte {
	var header [maxHeaderSize]byte
	h := AppendHeader(header[:0], Header{Fin: true, Opcode: op, Length: int64(len(b) - headerRoom)})
	frame := b[headerRoom-len(h):]
	copy(frame, h)
	return frame
}
