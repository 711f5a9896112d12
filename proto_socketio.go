package atrium

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// Socket.IO protocol v5. An Engine.IO message contains one packet:
//
//	<type>[<attachments>-][<namespace>,][<ack id>][JSON]
//
//	0{"token":"x"}                                   CONNECT to "/", with auth
//	1/admin,                                         DISCONNECT from "/admin"
//	2/admin,12["send-msg",{…}]                       EVENT that asks for an acknowledgement
//	312[{"ok":true}]                                 ACK of it
//	4/x,{"message":"Invalid namespace"}              CONNECT_ERROR
//	51-["photo",{"_placeholder":true,"num":0}]       BINARY_EVENT; one binary message follows
//	61-12[{"_placeholder":true,"num":0}]             BINARY_ACK, likewise
//
// proto_attachment.go assembles packets with attachments. The session decides which packets are
// allowed in its state, and which names are reserved.

// packetType is a packet's type: its digit on the wire, unless attachments follow.
type packetType uint8

const (
	packetConnect packetType = iota
	packetDisconnect
	packetEvent
	packetAck
	packetConnectError
)

// binaryTypes is what the digit of an EVENT or ACK with attachments is greater by.
const binaryTypes = 3

const (
	// defaultMaxAttachments bounds the attachments of a packet, as socket.io-parser does.
	defaultMaxAttachments = 10
	// maxNamespace bounds a namespace's name, in bytes.
	maxNamespace = 256
)

// packet is one Socket.IO packet.
type packet struct {
	kind        packetType
	attachments int    // of an EVENT or ACK: how many follow
	namespace   string // as sent, query string included; "/" if there is none
	// Only events have a name. The args of a CONNECT are the auth object or nothing, those of a
	// CONNECT_ERROR an object or a string. After parsePacket they alias the message and contain
	// placeholders, which the assembler replaces.
	eventData
	// refused is set if there were too many attachments: none was kept, and the sender gets this
	// error.
	refused *Error
	// failed says that args are ackError's, of an acknowledgement that is sent.
	failed bool
}

// newPacket returns a packet that asks for no acknowledgement and is none. event is "" unless it is
// an event. data is JSON, or nil for none.
func newPacket(kind packetType, namespace, event string, data []byte) packet {
	p := packet{kind: kind, namespace: namespace, eventData: eventData{name: event, ackID: noID}}
	if data != nil {
		p.args = args{json: data, n: 1}
	}
	return p
}

// parsePacket parses one packet. It refuses what socket.io-parser refuses, except reserved event
// names. It also refuses what socket.io-parser accepts but no client sends; TestPacketVectors lists
// it. The error can be shown to the sender.
func parsePacket(b []byte) (packet, *Error) {
	if len(b) == 0 || b[0] < '0' || b[0] > '6' {
		return packet{}, &Error{Message: "packet: expected a type from 0 to 6"}
	}
	p := packet{kind: packetType(b[0] - '0'), namespace: "/", eventData: eventData{ackID: noID}}
	i := 1
	if p.kind > packetConnectError {
		p.kind -= binaryTypes
		if p.attachments, i = parseAttachments(b, i); p.attachments == 0 {
			return packet{}, &Error{Message: "attachments: expected a number from 1 to 999999, then '-'"}
		}
	}
	var err *Error
	if i < len(b) && b[i] == '/' {
		if i, err = p.parseNamespace(b, i); err != nil {
			return packet{}, err
		}
	}
	digits := i
	if p.ackID, i = parseID(b, i); p.ackID == noID && i > digits {
		return packet{}, &Error{Message: "ack id: expected an integer from 0 to 9007199254740991"}
	}
	if p.kind == packetEvent || p.kind == packetAck {
		i, err = p.parseArray(b, i)
	} else {
		i, err = p.parseData(b, i)
	}
	if i = skipSpace(b, i); err == nil && i < len(b) {
		err = dataError(syntaxError{i, "nothing behind the data"})
	}
	if err != nil {
		return packet{}, err
	}
	return p, nil
}

// parseAttachments parses a number without leading zeros and the '-' after it. It returns 0 if they
// are missing. newAssembly checks whether the number is allowed: the attachments of a refused
// packet still have to be skipped.
func parseAttachments(b []byte, i int) (n, end int) {
	number, end := parseID(b, i)
	if number == noID || end-i > len("999999") || b[i] == '0' || end == len(b) || b[end] != '-' {
		return 0, i
	}
	return int(number), end + 1
}

// parseNamespace parses the namespace that begins at b[i] and returns the start of the rest. The
// comma after a namespace may be missing at the end of a CONNECT or DISCONNECT.
func (p *packet) parseNamespace(b []byte, i int) (int, *Error) {
	end, rest := len(b), len(b)
	if comma := bytes.IndexByte(b[i:], ','); comma >= 0 {
		end = i + comma
		rest = end + 1
	} else if p.kind != packetConnect && p.kind != packetDisconnect {
		return i, &Error{Message: "namespace: expected a ',' behind it"}
	}
	name := b[i:end]
	// Names are logged, and one with the payload separator could not be sent to a polling client.
	control := func(r rune) bool { return r < ' ' || r == 0x7f }
	if len(name) > maxNamespace || bytes.ContainsFunc(name, control) {
		return i, &Error{Message: "namespace: expected at most 256 bytes and no control characters"}
	}
	if len(name) > 1 {
		p.namespace = string(name)
	}
	return rest, nil
}

// parseData parses what follows the ack id of a packet that is no event and no acknowledgement. It
// returns the end of that.
func (p *packet) parseData(b []byte, i int) (end int, refused *Error) {
	var first byte
	if i < len(b) {
		first = b[i]
	}
	switch {
	case p.ackID != noID:
		return i, &Error{Message: "ack id: expected only in an event or an acknowledgement"}
	case i == len(b) && p.kind != packetConnectError:
		return i, nil
	case p.kind == packetDisconnect:
		return i, &Error{Message: "data: expected nothing"}
	case p.kind == packetConnect && first != '{':
		return i, &Error{Message: "data: expected an object or nothing"}
	case p.kind == packetConnectError && first != '{' && first != '"':
		return i, &Error{Message: "data: expected an object or a string"}
	}
	end, err := skipValue(b, i)
	if err != nil {
		return i, dataError(err)
	}
	p.args = args{json: b[i:end:end], n: 1}
	return end, nil
}

// parseArray parses what follows the ack id of the others, and returns the end of that: an array,
// of the name and arguments of an event, or the arguments of an acknowledgement.
func (p *packet) parseArray(b []byte, i int) (end int, refused *Error) {
	named := p.kind == packetAck
	switch {
	case named && p.ackID == noID:
		return i, &Error{Message: "ack id: expected the one that the event had"}
	case i < len(b) && b[i] == '[':
	case named:
		return i, &Error{Message: "data: expected an array"}
	default:
		return i, &Error{Message: "data: expected an array that begins with the event's name"}
	}
	start := 0 // of the arguments
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == ']' {
		if !named {
			return i, errEventName()
		}
		return i + 1, nil
	}
	for {
		end, err := skipValue(b, i)
		if err != nil {
			return i, dataError(err)
		}
		if !named {
			// A JavaScript client may name an event by a number; its handlers are found by the
			// number as JSON.stringify writes it. The session checks the length.
			if c := b[i]; c == '-' || '0' <= c && c <= '9' {
				p.name, named = string(b[i:end]), true
			} else if p.name, named = unquote(b[i:end]); !named {
				return i, errEventName()
			}
		} else {
			if p.args.n == 0 {
				start = i
			}
			p.args.n++
			p.args.json = b[start:end:end]
		}
		i = skipSpace(b, end)
		switch {
		case i < len(b) && b[i] == ',':
			i = skipSpace(b, i+1)
		case i < len(b) && b[i] == ']':
			return i + 1, nil
		default:
			return i, dataError(syntaxError{i, "',' or ']'"})
		}
	}
}

func errEventName() *Error { return &Error{Message: "event: expected a string of 1 to 256 bytes"} }

func dataError(err error) *Error { return &Error{Message: "data: " + err.Error()} }

// appendPacket appends p as an Engine.IO message. An EVENT or ACK with attachments becomes a binary
// one, and the caller sends its attachments (appendAttachment) right after it.
func appendPacket(dst []byte, p packet) []byte {
	dst = append(dst, byte(engineMessage), '0'+byte(p.kind))
	if n := max(p.attachments, len(p.args.attachments)); n > 0 {
		dst[len(dst)-1] += binaryTypes
		dst = strconv.AppendInt(dst, int64(n), 10)
		dst = append(dst, '-')
	}
	if p.namespace != "/" {
		dst = append(dst, p.namespace...)
		dst = append(dst, ',')
	}
	if p.ackID != noID {
		dst = strconv.AppendInt(dst, p.ackID, 10)
	}
	if p.kind != packetEvent && p.kind != packetAck {
		return append(dst, p.args.json...)
	}
	dst = append(dst, '[')
	if p.kind == packetEvent {
		dst = appendQuoted(dst, p.name)
		if p.args.n > 0 {
			dst = append(dst, ',')
		}
	}
	dst = appendPlaceholders(dst, p.args)
	return append(dst, ']')
}

// ackError returns the arguments of an acknowledgement that reports an error.
func ackError(message string, data []byte) args {
	b := append([]byte(`{"error":`), errorBody("", message, data)...)
	return args{json: append(b, '}'), n: 1}
}

// failure returns the error of an acknowledgement: the one that made it be refused, or the one in
// arguments of the form of ackError. It returns nil if there is none.
func failure(p packet) *Error {
	if p.refused != nil {
		return p.refused
	}
	if p.args.n != 1 || !bytes.HasPrefix(p.args.json, []byte(`{"error":{`)) {
		return nil
	}
	var ack struct {
		Error struct {
			Message *string         `json:"message"`
			Data    json.RawMessage `json:"data"`
		} `json:"error"`
	}
	d := json.NewDecoder(bytes.NewReader(p.args.json))
	d.DisallowUnknownFields() // an object with other fields is the application's
	if d.Decode(&ack) != nil || ack.Error.Message == nil {
		return nil
	}
	fail := &Error{Message: *ack.Error.Message}
	if ack.Error.Data != nil {
		fail.Data = ack.Error.Data
	}
	return fail
}
