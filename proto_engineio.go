package atrium

import (
	"bytes"
	"encoding/base64"
	"unicode/utf8"
)

// Engine.IO protocol v4. A packet is a digit, its type, and text:
//
//	4hello      a message
//	2probe      a ping
//	bAQID       a binary message in base64, without a digit, where the transport is text
//
// Over WebSocket each packet is one message. A binary packet is a binary message without a digit. A
// payload is the body of a polling request or response: packets joined by the record separator,
// 0x1e. No packet contains it: JSON escapes it, and parsePacket refuses it in a namespace.

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
	// engineBase64 stands in place of a type on the wire. No enginePacket has this kind.
	engineBase64 engineType = 'b'
)

const (
	// payloadSeparator joins the packets of a payload.
	payloadSeparator = 0x1e
	// maxPayloadPackets bounds the packets of a payload. A client that was offline may send all
	// that it has queued in one; a payload of 1 MiB has this many packets of 16 bytes, less than
	// any event has.
	maxPayloadPackets = 1 << 16
)

// enginePacket is one Engine.IO packet.
type enginePacket struct {
	kind   engineType
	binary bool   // a binary message
	data   []byte // without the type; aliases the parsed text, or scratch if it was base64
}

// parseEngine parses one packet: a message, or with opText its text form in a payload, which is
// valid UTF-8. It decodes base64 into scratch if that is large enough. The error can be shown to
// the sender.
func parseEngine(op opcode, text, scratch []byte) (enginePacket, *Error) {
	if op == opBinary {
		return enginePacket{kind: engineMessage, binary: true, data: text}, nil
	}
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

// isEnginePong reports whether a message is a pong.
func isEnginePong(op opcode, p []byte) bool {
	return op == opText && len(p) > 0 && engineType(p[0]) == enginePong
}

// appendEngine appends a packet in its text form: the data of engineBase64 is base64 already.
func appendEngine(dst []byte, kind engineType, data []byte) []byte {
	return append(append(dst, byte(kind)), data...)
}

// appendPayload appends a payload. packets are in their text form.
func appendPayload(dst []byte, packets [][]byte) []byte {
	for i, p := range packets {
		if i > 0 {
			dst = append(dst, payloadSeparator)
		}
		dst = append(dst, p...)
	}
	return dst
}

// payloadReader iterates over the packets of a payload:
//
//	r := payloadReader{rest: body, maxPacket: 1 << 20}
//	for r.next() { … r.packet … }
//
// Afterwards r.err is the error, if there was one; the packets before it were valid. The caller
// bounds the size of the payload.
type payloadReader struct {
	rest      []byte // not yet read; a payload has at least one packet
	maxPacket int    // bytes of data in a packet, as in a message over WebSocket
	packet    enginePacket
	err       *Error

	n       int
	done    bool
	scratch []byte
}

// next reads a packet into r.packet, which is valid until the next call. It returns false at the
// end and after an error.
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
		r.packet, r.err = parseEngine(opText, text, r.scratch)
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
