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

// packetType is a packet's type: its digit on the wire.
type packetType uint8

const (
	packetConnect packetType = iota
	packetDisconnect
	packetEvent
	packetAck
	packetConnectError
	packetBinaryEvent
	packetBinaryAck
)

// binary reports whether attachments follow packets of this type.
func (t packetType) binary() bool { return t >= packetBinaryEvent }

const (
	// defaultMaxAttachments bounds the attachments of a packet, as socket.io-parser does.
	defaultMaxAttachments = 10
	// maxNamespace bounds a namespace's name, in bytes.
	maxNamespace = 256
)

// packet is one Socket.IO packet.
type packet struct {
	kind        packetType
	attachments int    // how many follow, 1 or more; only of the binary types
	namespace   string // as sent, query string included; "/" if there is none
	// Only events have a name. The args of a CONNECT are the auth object or nothing, those of a
	// CONNECT_ERROR an object or a string. After parsePacket they alias the message and contain
	// placeholders, which the assembler replaces.
	eventData
	// refused is set if there were too many attachments: none was kept, and the sender gets this
	// error.
	refused *Error
}

// newPacket returns a packet that is neither an event nor an acknowledgement. data is JSON, or nil
// for none.
func newPacket(kind packetType, namespace string, data []byte) packet {
	return packet{kind: kind, namespace: namespace, eventData: eventData{args: args{json: data}, ackID: noID}}
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
	if p.kind.binary() {
		if p.attachments, i = parseAttachments(b, i); p.attachments == 0 {
			return packet{}, &Error{Message: "attachments: expected a number from 1 to 999999, then '-'"}
		}
	}
	if i < len(b) && b[i] == '/' {
		var err *Error
		if i, err = p.parseNamespace(b, i); err != nil {
			return packet{}, err
		}
	}
	if digits := skipDigits(b, i); digits > i {
		var ok bool
		if p.ackID, ok = parseID(b[i:digits]); !ok {
			return packet{}, &Error{Message: "ack id: expected an integer from 0 to 9007199254740991"}
		}
		i = digits
	}
	if err := p.parseData(b, i); err != nil {
		return packet{}, err
	}
	return p, nil
}

// parseAttachments parses a number without leading zeros and the '-' after it. It returns 0 if they
// are missing. newAssembly checks whether the number is allowed: the attachments of a refused
// packet still have to be skipped.
func parseAttachments(b []byte, i int) (n, end int) {
	end = skipDigits(b, i)
	if end == i || end-i > len("999999") || b[i] == '0' || end == len(b) || b[end] != '-' {
		return 0, i
	}
	for ; i < end; i++ {
		n = n*10 + int(b[i]-'0')
	}
	return n, end + 1
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

// parseData parses what follows the ack id, to the end of b, as required by the type of the packet.
func (p *packet) parseData(b []byte, i int) *Error {
	var first byte
	none := i == len(b)
	if !none {
		first = b[i]
	}
	switch p.kind {
	case packetEvent, packetBinaryEvent:
		if first != '[' {
			return &Error{Message: "data: expected an array that begins with the event's name"}
		}
		return p.parseArgs(b, i)
	case packetAck, packetBinaryAck:
		if p.ackID == noID {
			return &Error{Message: "ack id: expected the one that the event had"}
		}
		if first != '[' {
			return &Error{Message: "data: expected an array"}
		}
		return p.parseArgs(b, i)
	}

	if p.ackID != noID {
		return &Error{Message: "ack id: expected only in an event or an acknowledgement"}
	}
	switch p.kind {
	case packetConnect:
		if none {
			return nil
		}
		if first != '{' {
			return &Error{Message: "data: expected an object or nothing"}
		}
	case packetDisconnect:
		if none {
			return nil
		}
		return &Error{Message: "data: expected nothing"}
	case packetConnectError:
		if first != '{' && first != '"' {
			return &Error{Message: "data: expected an object or a string"}
		}
	}
	end, err := skipValue(b, i)
	if err != nil {
		return dataError(err)
	}
	p.args = args{json: b[i:end:end], n: 1}
	return expectEnd(b, end)
}

// parseArgs parses the array that begins at b[i]: the name and arguments of an event, or the
// arguments of an acknowledgement.
func (p *packet) parseArgs(b []byte, i int) *Error {
	named := p.kind == packetAck || p.kind == packetBinaryAck
	start := 0 // of the arguments
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == ']' {
		if !named {
			return errEventName()
		}
		return expectEnd(b, i+1)
	}
	for {
		end, err := skipValue(b, i)
		if err != nil {
			return dataError(err)
		}
		if !named {
			// A JavaScript client may name an event by a number; its handlers are found by the
			// number as JSON.stringify writes it. The session checks the length.
			if c := b[i]; c == '-' || '0' <= c && c <= '9' {
				p.name, named = string(b[i:end]), true
			} else if p.name, named = unquote(b[i:end]); !named {
				return errEventName()
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
			return expectEnd(b, i+1)
		default:
			return dataError(syntaxError{i, "',' or ']'"})
		}
	}
}

func errEventName() *Error { return &Error{Message: "event: expected a string of 1 to 256 bytes"} }

func dataError(err error) *Error { return &Error{Message: "data: " + err.Error()} }

// expectEnd refuses anything but space after the data.
func expectEnd(b []byte, i int) *Error {
	if i = skipSpace(b, i); i < len(b) {
		return dataError(syntaxError{i, "nothing behind the data"})
	}
	return nil
}

// appendPacket appends p as an Engine.IO message. An EVENT or ACK with attachments becomes a binary
// one, and the caller sends its attachments (appendAttachment) right after it.
func appendPacket(dst []byte, p packet) []byte {
	if n := len(p.args.attachments); n > 0 {
		p.kind += packetBinaryEvent - packetEvent
		p.attachments = n
	}
	dst = append(dst, byte(engineMessage), '0'+byte(p.kind))
	if p.kind.binary() {
		dst = strconv.AppendInt(dst, int64(p.attachments), 10)
		dst = append(dst, '-')
	}
	if p.namespace != "/" {
		dst = append(dst, p.namespace...)
		dst = append(dst, ',')
	}
	if p.ackID != noID {
		dst = strconv.AppendInt(dst, p.ackID, 10)
	}
	switch p.kind {
	case packetConnect, packetDisconnect, packetConnectError:
		return append(dst, p.args.json...)
	case packetEvent, packetBinaryEvent:
		dst = append(dst, '[')
		dst = appendQuoted(dst, p.name)
		if p.args.n > 0 {
			dst = append(dst, ',')
		}
	default:
		dst = append(dst, '[')
	}
	dst = appendPlaceholders(dst, p.args)
	return append(dst, ']')
}

// ackError returns the arguments of an acknowledgement that reports an error.
func ackError(message string, data []byte) args {
	return args{json: append(appendMessage([]byte(`{"error":{`), message, data), "}}"...), n: 1}
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
