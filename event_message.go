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
	binaries []span  // where in args a Binary stands
	id       int64   // the acknowledgement asked for; noID if none
	volatile bool
	offset   []byte // a last argument for Socket.IO's clients: see Recovery; empty: none
	number   uint64 // the offset's, if the event is kept; 0 if not

	namespace string
	forms     [protocols]wireForm
}

var messages = sync.Pool{New: func() any { return new(message) }}

// maxKeptArgs bounds the buffer that a released message keeps for the next.
const maxKeptArgs = 64 << 10

// newMessage encodes an event. Its error is the caller's mistake: a name that cannot be used, an argument that cannot be
// encoded, or more Binary values than maxAttachments.
func newMessage(namespace, event string, args []any, maxAttachments int) (*message, error) {
	if err := checkEventName(event); err != nil {
		return nil, err
	}
	m := blankMessage(namespace, event)
	err := m.args.encode(args)
	if err != nil {
		m.release()
		return nil, fmt.Errorf("atrium: event %q: %w", event, err)
	}
	m.n = len(args)
	if m.binaries, err = findBinaries(m.args.Bytes(), args); err == nil {
		err = checkCount(m.binaries, maxAttachments)
	}
	if err != nil {
		m.release()
		return nil, fmt.Errorf("atrium: event %q: %w", event, err)
	}
	return m, nil
}

// blankMessage returns a message whose arguments are still to be set.
func blankMessage(namespace, event string) *message {
	m := messages.Get().(*message)
	m.event, m.id, m.volatile, m.namespace, m.forms = event, noID, false, namespace, [protocols]wireForm{}
	m.offset, m.number = m.offset[:0], 0
	return m
}

func (m *message) release() {
	m.forms = [protocols]wireForm{}
	if m.args.Cap() <= maxKeptArgs {
		messages.Put(m)
	}
}

// protocol is a way to write messages.
type protocol uint8

const (
	plainProtocol protocol = iota
	socketIOProtocol
	protocols = iota
)

// form returns the message as the protocol's clients get it.
func (m *message) form(wire protocol) *wireForm {
	f := &m.forms[wire]
	if f.whole != nil {
		return f
	}
	b := newFrame(64 + len(m.event) + m.args.Len())
	switch wire {
	case plainProtocol:
		b = appendEvent(b, m.event, m.args.Bytes(), m.n, m.id)
	case socketIOProtocol:
		args, n := m.socketIOArgs()
		b = appendMessagePacket(b, packet{kind: packetEvent, namespace: m.namespace, event: m.event, args: args, n: n, id: m.id}, m.binaries)
	}
	f.set(b)
	if wire == socketIOProtocol {
		f.attach(m.args.Bytes(), m.binaries)
	}
	return f
}

// socketIOArgs returns the arguments with the offset behind them. They are good until m.args changes.
func (m *message) socketIOArgs() (args []byte, n int) {
	if len(m.offset) == 0 {
		return m.args.Bytes(), m.n
	}
	size := m.args.Len()
	defer m.args.Truncate(size)
	if m.n > 0 {
		m.args.WriteByte(',')
	}
	m.args.Write(m.offset)
	return m.args.Bytes(), m.n + 1
}

// wireForm is a message as the clients of one protocol get it: a text frame, and smaller ones that mean the same for
// those with whom compression was agreed on. Each is made once.
type wireForm struct {
	whole    []byte
	payload  []byte    // of whole
	rest     []byte    // of whole: the attachments' frames
	base64   [][]byte  // the attachments as packets in their text form
	packets  [][]byte  // the payload and those; nil: not made
	deflated [2][]byte // by slot; nil: not made. It is whole if compressing makes nothing smaller
}

// wireForms are for messages that have one receiver: what was made of a form outlives it.
var wireForms = sync.Pool{New: func() any { return new(wireForm) }}

func (f *wireForm) release() {
	*f = wireForm{}
	wireForms.Put(f)
}

// set takes a payload in newFrame's buffer.
func (f *wireForm) set(b []byte) {
	f.whole, f.payload = sealFrame(b, OpText), b[headerRoom:]
}

// attach adds attachments, which stand in args.
func (f *wireForm) attach(args []byte, binaries []span) {
	for _, at := range binaries {
		f.rest = append(f.rest, sealFrame(appendAttachment(newFrame(at.end-at.start), args, at), OpBinary)...)
		f.base64 = append(f.base64, appendEngineBase64(nil, args[at.start+1:at.end-1]))
	}
	f.whole = append(f.whole, f.rest...)
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
	if frame := z.frame(Header{Fin: true, Opcode: OpText}, f.payload); frame != nil {
		*slot = append(frame, f.rest...)
	} else {
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
		return fmt.Errorf("%w: %q%s", ErrReserved, event, insteadOf(event))
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

// insteadOf says what to use instead of a reserved name, for who emits and for who handles it.
func insteadOf(event string) string {
	switch event {
	case "connect":
		return ": use OnConnect to handle it; it is sent by itself"
	case "connect_error":
		return ": return an error from Use to send it; a Client handles it with OnConnectError"
	case "disconnect", "disconnecting":
		return ": use Disconnect to send it, and OnDisconnect to handle it"
	}
	return "" // the others have a meaning in JavaScript only
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

// arguments are what a message without an event name has: an acknowledgement.
type arguments struct {
	json     []byte // values joined by commas
	n        int    // how many
	binaries []span // where in json a Binary stands
}

// encodeArgs encodes arguments. Its error is the caller's mistake, as newMessage's is.
func encodeArgs(args []any, maxAttachments int) (arguments, error) {
	var e encoder
	if err := e.encode(args); err != nil {
		return arguments{}, err
	}
	binaries, err := findBinaries(e.Bytes(), args)
	if err == nil {
		err = checkCount(binaries, maxAttachments)
	}
	return arguments{e.Bytes(), len(args), binaries}, err
}

// newFrame returns a buffer to append a payload of about size bytes to. sealFrame makes it a frame, in place.
func newFrame(size int) []byte { return make([]byte, headerRoom, headerRoom+size) }

// sealFrame puts the header in front of a payload that was appended to newFrame's buffer.
func sealFrame(b []byte, op Opcode) []byte { return prependHeader(b, Header{Fin: true, Opcode: op}) }
