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

	plainForm wireForm
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
	m.event, m.id, m.volatile, m.plainForm = event, noID, false, wireForm{}
	if err := m.args.encode(args); err != nil {
		m.release()
		return nil, fmt.Errorf("atrium: event %q: %w", event, err)
	}
	m.n = len(args)
	return m, nil
}

func (m *message) release() {
	m.plainForm = wireForm{}
	if m.args.Cap() <= maxKeptArgs {
		messages.Put(m)
	}
}

// wireForm is a message as the clients of one protocol get it: a text frame, and smaller ones that mean the same for
// those with whom compression was agreed on. Each is made once.
type wireForm struct {
	whole    []byte
	payload  []byte    // of whole
	deflated [2][]byte // by slot; nil: not made. It is whole if compressing makes nothing smaller
}

// set takes a payload in newFrame's buffer.
func (f *wireForm) set(b []byte) {
	f.whole, f.payload = sealFrame(b, OpText), b[headerRoom:]
}

// slot tells the two forms apart that deflateParams.level says there are.
func (f *wireForm) slot(z compression) *[]byte {
	if level := int(z.wanted); z.level(len(f.payload), level) == level {
		return &f.deflated[0]
	}
	return &f.deflated[1]
}

// deflate makes the frame for clients with this compression. It takes a while, and is not for callers with locks.
func (f *wireForm) deflate(z compression) {
	slot := f.slot(z)
	if *slot != nil {
		return
	}
	if *slot = z.frame(Header{Fin: true, Opcode: OpText}, f.payload); *slot == nil {
		*slot = f.whole
	}
}

// frame returns the frame for a client with this compression: the one that deflate has made, or the whole one, which
// is right for every client.
func (f *wireForm) frame(z compression) []byte {
	if z.agreed() {
		if deflated := *f.slot(z); deflated != nil {
			return deflated
		}
	}
	return f.whole
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
		e.json.SetEscapeHTML(false) // it is not HTML, and JSON.parse has no use for \u003c instead of <
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

// newFrame returns a buffer to append a payload of about size bytes to. sealFrame makes it a frame, in place.
func newFrame(size int) []byte { return make([]byte, headerRoom, headerRoom+size) }

// sealFrame puts the header in front of a payload that was appended to newFrame's buffer.
func sealFrame(b []byte, op Opcode) []byte { return prependHeader(b, Header{Fin: true, Opcode: op}) }
