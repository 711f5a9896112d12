package atrium

import (
	"bytes"
	"encoding/base64"
	"unicode/utf8"
)

// Engine.IO protocol v4. A packet is its type's digit and text:
//
//	4hello      a message
//	2probe      a ping
//	bAQID       a message of bytes, in base64 and without a digit, where bytes cannot be sent as they are
//
// Over WebSocket each packet is a message of its own, and one of bytes is a binary message that holds nothing else.
// A payload, the body of a polling request or response, is packets joined by the record separator, 0x1e. It cannot
// stand inside one: JSON escapes it, and parsePacket lets no namespace have it.

// engineType is a packet's type: its digit on the wire.
type engineType byte

const (
	engineOpen    engineType = '0'
	engineClose   engineType = '1'
	enginePing    engineType = '2'
	enginePong    engineType = '3'
	engineMessage engineType = '4'
	engineUpgrade engineType = '5'
	engineNoop    engineType = '6'
	// engineBase64 stands where a type does. It never is a packet's kind.
	engineBase64 engineType = 'b'
)

const (
	// payloadSeparator joins the packets of a payload.
	payloadSeparator = 0x1e
	// maxPayloadPackets bounds the packets of a payload. A client that was offline may send what it has kept in
	// one; at 16 bytes a packet, fewer than any event has, a payload of 1 MiB has as many.
	maxPayloadPackets = 1 << 16
)

// enginePacket is one Engine.IO packet.
type enginePacket struct {
	kind   engineType
	binary bool   // a message of bytes
	data   []byte // behind the type; it aliases the parsed text, or scratch if it was base64
}

// parseEngine reads one packet in its text form, which is valid UTF-8. What was base64 is decoded into scratch if
// there is room for it. The error can be shown to the sender.
func parseEngine(text, scratch []byte) (enginePacket, *Error) {
	if len(text) == 0 {
		return enginePacket{}, &Error{Message: "packet: expected a type from 0 to 6, or b; it is empty"}
	}
	switch kind := engineType(text[0]); {
	case engineOpen <= kind && kind <= engineNoop:
		return enginePacket{kind: kind, data: text[1:]}, nil
	case kind == engineBase64:
		data, err := base64.StdEncoding.AppendDecode(scratch[:0], text[1:])
		if err != nil {
			return enginePacket{}, &Error{Message: "packet: expected base64 with padding behind b"}
		}
		return enginePacket{kind: engineMessage, binary: true, data: data}, nil
	}
	return enginePacket{}, &Error{Message: "packet: expected a type from 0 to 6, or b"}
}

// appendEngine appends a packet of text.
func appendEngine(dst []byte, kind engineType, data []byte) []byte {
	return append(append(dst, byte(kind)), data...)
}

// appendEngineBase64 appends a message of bytes, which are base64 already, for a payload.
func appendEngineBase64(dst, text []byte) []byte { return appendEngine(dst, engineBase64, text) }

// appendPayload appends the payload of packets that are in their text form.
func appendPayload(dst []byte, packets [][]byte) []byte {
	for i, p := range packets {
		if i > 0 {
			dst = append(dst, payloadSeparator)
		}
		dst = append(dst, p...)
	}
	return dst
}

// payloadReader steps through the packets of a payload:
//
//	r := payloadReader{rest: body, maxPacket: 1 << 20}
//	for r.next() { … r.packet … }
//
// Afterwards r.err says what was wrong, if anything; the packets before it were good. The body's size is bounded by
// whoever has read it.
type payloadReader struct {
	rest      []byte // what is still to read; a payload has at least one packet
	maxPacket int    // bytes of a packet's data, as over WebSocket of a message's
	packet    enginePacket
	err       *Error

	n       int
	done    bool
	scratch []byte
}

// next reads a packet into r.packet, which is good until the next call; false at the end and at an error.
func (r *payloadReader) next() bool {
	if r.done || r.err != nil {
		return false
	}
	text := r.rest
	if i := bytes.IndexByte(r.rest, payloadSeparator); i >= 0 {
		text, r.rest = r.rest[:i:i], r.rest[i+1:]
	} else {
		r.rest, r.done = nil, true
	}
	r.n++
	switch {
	case r.n > maxPayloadPackets:
		r.err = Errorf("payload: expected at most %d packets", maxPayloadPackets)
	case !utf8.Valid(text):
		r.err = &Error{Message: "packet: expected valid UTF-8"}
	default:
		r.packet, r.err = parseEngine(text, r.scratch)
	}
	if r.err == nil && len(r.packet.data) > r.maxPacket {
		r.err = Errorf("packet: expected at most %d bytes", r.maxPacket)
	}
	if r.err != nil {
		return false
	}
	if r.packet.binary {
		r.scratch = r.packet.data
	}
	return true
}
