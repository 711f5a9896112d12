package atrium

import (
	"fmt"
	"sync"
	"unicode/utf8"
)

// message is one outgoing event. Its arguments are encoded once, when it is made. Each wire form is
// made once, when the first receiver needs it, and shared by all receivers of that form. A message
// belongs to one goroutine, which releases it; the frames are not used again.
type message struct {
	eventData
	encoder  encoder // holds args.json, unless the event came from another node
	volatile bool
	bare     bool   // it is not to be compressed
	offset   []byte // the last argument for Socket.IO clients, see Recovery; empty: none
	number   uint64 // the offset's number if the event is kept, 0 if not
	mark     uint64 // what tells it from all other events of a cluster; 0: nothing
	above    uint64 // see keptEvent

	namespace string
	forms     [protocols]wireForm
}

var messages = sync.Pool{New: func() any { return new(message) }}

// maxKeptArgs bounds the buffer that a released message keeps for the next.
const maxKeptArgs = 64 << 10

// newMessage encodes an event. The error is a mistake of the caller: a name that cannot be used, or
// one of encodeArgs.
func newMessage(namespace, event string, values []any, maxAttachments int) (*message, error) {
	if err := checkEventName(event); err != nil {
		return nil, err
	}
	m := acquireMessage(namespace, eventData{name: event, ackID: noID})
	var err error
	if m.args, err = m.encoder.encode(values, maxAttachments); err != nil {
		m.release()
		return nil, fmt.Errorf("atrium: event %q: %w", event, err)
	}
	return m, nil
}

// acquireMessage returns a message for an event whose arguments are encoded.
func acquireMessage(namespace string, e eventData) *message {
	m := messages.Get().(*message)
	m.eventData, m.volatile, m.bare, m.namespace = e, false, false, namespace
	m.offset, m.number, m.mark, m.above = m.offset[:0], 0, 0, 0
	return m
}

func (m *message) release() {
	m.eventData, m.forms = eventData{}, [protocols]wireForm{}
	if m.encoder.Cap() <= maxKeptArgs {
		messages.Put(m)
	}
}

// protocol is how messages look on the wire.
type protocol uint8

const (
	plainProtocol protocol = iota
	socketIOProtocol
	protocols = iota
)

// String returns the protocol's name in logs and figures.
func (wire protocol) String() string { return [protocols]string{"plain", "socket.io"}[wire] }

// form returns the message in the form for clients of the protocol.
func (m *message) form(wire protocol) *wireForm {
	f := &m.forms[wire]
	if f.whole == nil {
		f.encode(wire, packet{kind: packetEvent, namespace: m.namespace, eventData: m.eventData}, m.offset)
		f.bare = m.bare
	}
	return f
}

// wireForm is a message in the form for clients of one protocol: a text frame, and compressed ones
// for the clients with whom compression was agreed on. Each is made once.
type wireForm struct {
	whole    []byte    // all frames
	payload  []byte    // the text frame's
	rest     []byte    // the attachments' frames
	base64   [][]byte  // the attachments as Engine.IO packets in text form
	packets  [][]byte  // payload and base64; nil: not made
	bare     bool      // it is not to be compressed
	deflated [2][]byte // all frames, by slot; nil: not made; whole if compressing made nothing smaller
}

// wireForms is for messages with one receiver. What was made of a form is still used when the form
// is released.
var wireForms = sync.Pool{New: func() any { return new(wireForm) }}

func (f *wireForm) release() {
	*f = wireForm{}
	wireForms.Put(f)
}

// set sets the payload, which was appended to newFrame's buffer.
func (f *wireForm) set(b []byte) {
	f.whole, f.payload = prependHeader(b, frameHeader{Fin: true, Opcode: opText}), b[headerRoom:]
}

// encode sets the payload to a packet, and adds its attachments. An offset, if not empty, is the
// last argument for Socket.IO clients.
func (f *wireForm) encode(wire protocol, p packet, offset []byte) {
	b := newFrame(64 + len(p.name) + len(p.args.json))
	if wire == plainProtocol {
		f.set(appendPlain(b, p))
		return
	}
	b = appendPacket(b, p)
	if len(offset) > 0 {
		b = append(b[:len(b)-len("]")], ',') // an event's name is before it
		b = append(append(b, offset...), ']')
	}
	f.set(b)
	for _, at := range p.args.attachments {
		b := appendAttachment(newFrame(at.end-at.start), p.args.json, at)
		f.rest = append(f.rest, prependHeader(b, frameHeader{Fin: true, Opcode: opBinary})...)
		f.base64 = append(f.base64, appendEngine(nil, engineBase64, p.args.json[at.start+1:at.end-1]))
	}
	f.whole = append(f.whole, f.rest...)
}

// slot returns the place of the frames for clients with this compression. There are two; see
// deflateParams.level.
func (f *wireForm) slot(z compression) *[]byte {
	if level := int(z.wanted); z.level(len(f.payload), level) == level {
		return &f.deflated[0]
	}
	return &f.deflated[1]
}

// deflate makes the frames for clients with this compression. It takes a while: callers should hold
// no lock.
func (f *wireForm) deflate(z compression) {
	slot := f.slot(z)
	if *slot != nil {
		return
	}
	if frame := z.frame(frameHeader{Fin: true, Opcode: opText}, f.payload); frame != nil {
		*slot = append(frame, f.rest...)
	} else {
		*slot = f.whole
	}
}

// frame returns the frames for a client with this compression: those that deflate has made, or else
// the uncompressed ones, which are right for every client.
func (f *wireForm) frame(z compression) []byte {
	if z.agreed() {
		if deflated := *f.slot(z); deflated != nil {
			return deflated
		}
	}
	return f.whole
}

// checkEventName checks the name of an event to be sent or handled by this end.
func checkEventName(event string) error {
	if reservedEvent(event) {
		return fmt.Errorf("%w: %q%s", ErrReserved, event, insteadOf(event))
	}
	if event == "" || len(event) > maxEventName || !utf8.ValidString(event) {
		return fmt.Errorf("atrium: the event name %.40q is not 1 to %d bytes of UTF-8", event, maxEventName)
	}
	return nil
}

// reservedEvent reports whether the name is the protocol's own, as in Socket.IO.
func reservedEvent(event string) bool {
	switch event {
	case "connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener":
		return true
	}
	return false
}

// insteadOf says what to use instead of a reserved name, to send it and to handle it.
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

// newFrame returns a buffer to append a payload of about size bytes to. prependHeader makes it a
// frame, in place.
func newFrame(size int) []byte { return make([]byte, headerRoom, headerRoom+size) }
