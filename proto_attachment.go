package atrium

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
)

// Binary values in the arguments of a packet are sent after it as attachments. A placeholder in the
// arguments says where each belongs: {"_placeholder":true,"num":0}.
//
// Everywhere else in this package an attachment is a JSON string of base64, which is how
// encoding/json encodes a []byte. So arguments are one JSON text for plain clients and handlers
// alike, and a []byte decodes from its attachment anywhere in them. A handler that takes a string
// or a json.RawMessage gets the base64; one that takes an any gets a Binary. It costs a copy of 4/3
// of the size in each direction, at about a gigabyte per second.

// span is the position of a string literal of base64 in arguments, quotes included.
type span struct{ start, end int }

// spanSize is the size of a span in memory, in bytes.
const spanSize = 16

// placeholder is the position of attachment num in arguments.
type placeholder struct {
	span
	num int
}

// assembly is a binary packet that waits for its attachments. It does not alias the message that
// the packet was parsed from.
type assembly struct {
	packet      packet
	places      []placeholder // in the order of the arguments
	attachments [][]byte      // received so far
	missing     int           // attachments not yet received
	room        int           // bytes that may still be received
	limits      attachmentLimits
}

// attachmentLimits bound the attachments of a packet, and the bytes of its arguments and
// attachments together.
type attachmentLimits struct{ count, bytes int }

// assembler assembles the packets of one connection: from one message each, or from several if they
// are binary.
type assembler struct {
	assembly *assembly // the binary packet that waits for attachments, or nil
}

// add processes the next message and does not keep it. If done, p is complete; it does not alias m.
func (a *assembler) add(m enginePacket, limits attachmentLimits) (p packet, done bool, err *Error) {
	switch {
	case m.binary && a.assembly == nil:
		return packet{}, false, &Error{Message: "packet: expected text, no attachment is missing"}
	case m.binary:
		if p, done, err = a.assembly.add(m.data); done || err != nil {
			a.assembly = nil
		}
		return p, done, err
	case a.assembly != nil:
		return packet{}, false, &Error{Message: "packet: expected an attachment"}
	}
	if p, err = parsePacket(m.data); err != nil {
		return packet{}, false, err
	}
	if p.attachments > 0 {
		a.assembly, err = newAssembly(p, limits)
		return packet{}, false, err
	}
	p.args.json = bytes.Clone(p.args.json)
	return p, true, nil
}

// newAssembly starts the assembly of p, a binary packet just parsed. It returns an error if the
// placeholders are invalid.
func newAssembly(p packet, limits attachmentLimits) (*assembly, *Error) {
	p.args.json = bytes.Clone(p.args.json)
	a := &assembly{packet: p, missing: p.attachments, room: limits.bytes - len(p.args.json), limits: limits}
	if p.attachments > limits.count {
		a.packet.refused = Errorf("attachments: expected at most %d, got %d", limits.count, p.attachments)
		return a, nil
	}
	var err *Error
	if a.places, err = findPlaceholders(p.args.json, p.attachments); err != nil {
		return nil, err
	}
	return a, nil
}

// add processes the next attachment and does not keep it. If done, it was the last one, and p is an
// EVENT or ACK with its attachments, or a refused one without. An attachment that no placeholder
// names is dropped, as by socket.io-parser.
func (a *assembly) add(attachment []byte) (p packet, done bool, err *Error) {
	a.missing--
	refused := a.packet.refused != nil
	if !refused {
		if a.room -= len(attachment); a.room < 0 {
			return packet{}, false, &Error{
				Message: fmt.Sprintf("a message with its attachments is over the limit of %d bytes", a.limits.bytes),
				Err:     &oversized{event: a.packet.name, bytes: int64(a.limits.bytes) - int64(a.room), limit: int64(a.limits.bytes)},
			}
		}
		a.attachments = append(a.attachments, attachment)
	}
	if a.missing > 0 {
		if !refused {
			a.attachments[len(a.attachments)-1] = bytes.Clone(attachment) // the last one is needed only until this call returns
		}
		return packet{}, false, nil
	}
	p = a.packet
	p.attachments = 0
	if !refused {
		p.args = a.fill()
		a.attachments = nil
	}
	return p, true, nil
}

// fill returns the arguments with the attachments in place of their placeholders.
func (a *assembly) fill() args {
	text := a.packet.args.json
	size := len(text)
	for _, place := range a.places {
		size += len(`""`) + base64.StdEncoding.EncodedLen(len(a.attachments[place.num])) - (place.end - place.start)
	}
	filled := args{json: make([]byte, 0, size), n: a.packet.args.n}
	from := 0
	for _, place := range a.places {
		b := append(filled.json, text[from:place.start]...)
		start := len(b)
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, a.attachments[place.num])
		b = append(b, '"')
		filled.json, filled.attachments = b, append(filled.attachments, span{start, len(b)})
		from = place.end
	}
	filled.json = append(filled.json, text[from:]...)
	return filled
}

// findPlaceholders finds the placeholders in args, which is valid JSON, and validates them. A
// placeholder has its two keys and no other, in any order: the maps of some languages are
// unordered.
//
// socket.io-parser allows two placeholders for the same attachment. No encoder writes that, and it
// would let a message of 1 MiB become one of 40 GB.
func findPlaceholders(args []byte, attachments int) ([]placeholder, *Error) {
	var places []placeholder
	used := make(map[int]bool)
	for i := 0; i < len(args); {
		switch args[i] {
		case '{':
			place, ok := parsePlaceholder(args, i)
			if !ok {
				i++
				break
			}
			if place.num >= attachments {
				return nil, Errorf("attachments: num: expected less than %d", attachments)
			}
			if used[place.num] {
				return nil, Errorf("attachments: num: expected %d only once", place.num)
			}
			used[place.num] = true
			places = append(places, place)
			i = place.end
		case '"':
			end, err := skipString(args, i)
			if err != nil {
				return nil, dataError(err) // only if args is not valid JSON
			}
			if marksPlaceholder(args, i, end) {
				return nil, &Error{Message: `attachments: expected placeholders such as {"_placeholder":true,"num":0}`}
			}
			i = end
		default:
			i++
		}
	}
	return places, nil
}

// parsePlaceholder parses the placeholder that begins with the brace at b[i], if there is one. It
// stops at any other key and at any nested value, so that trying each brace of a text takes linear
// time.
func parsePlaceholder(b []byte, i int) (place placeholder, ok bool) {
	start, marked, num := i, false, -1
	for {
		i = skipSpace(b, i+1)
		end, value, err := skipKey(b, i)
		if err != nil {
			return placeholder{}, false
		}
		switch key := b[i:end]; {
		case !marked && string(key) == `"_placeholder"` && bytes.HasPrefix(b[value:], []byte("true")):
			marked = true
			i = value + len("true")
		case num < 0 && string(key) == `"num"`:
			i = skipDigits(b, value)
			if i == value || i-value > len("999999") {
				return placeholder{}, false // as in parseAttachments
			}
			num, _ = strconv.Atoi(string(b[value:i]))
		default:
			return placeholder{}, false
		}
		i = skipSpace(b, i)
		switch {
		case i < len(b) && b[i] == ',':
		case i < len(b) && b[i] == '}' && marked && num >= 0:
			return placeholder{span{start, i + 1}, num}, true
		default:
			return placeholder{}, false
		}
	}
}

// marksPlaceholder reports whether the string literal b[i:end] is a key "_placeholder" with the
// value true, with or without escapes: socket.io-parser takes its object for a placeholder.
func marksPlaceholder(b []byte, i, end int) bool {
	const name = "_placeholder"
	key := b[i+1 : end-1]
	if len(key) < len(name) || len(key) > len(name)*len(`\u005f`) || key[0] != '_' && key[0] != '\\' {
		return false
	}
	i = skipSpace(b, end)
	if i == len(b) || b[i] != ':' || !bytes.HasPrefix(b[skipSpace(b, i+1):], []byte("true")) {
		return false
	}
	if bytes.IndexByte(key, '\\') >= 0 {
		key = appendUnescaped(nil, key)
	}
	return string(key) == name
}

// appendPlaceholders appends a.json with placeholders in place of attachments.
func appendPlaceholders(dst []byte, a args) []byte {
	from := 0
	for num, at := range a.attachments {
		dst = append(dst, a.json[from:at.start]...)
		dst = append(dst, `{"_placeholder":true,"num":`...)
		dst = strconv.AppendInt(dst, int64(num), 10)
		dst = append(dst, '}')
		from = at.end
	}
	return append(dst, a.json[from:]...)
}

// appendAttachment appends the raw bytes of the attachment that json has at at. For a polling
// client the caller passes json[at.start+1:at.end-1] to appendEngine instead.
func appendAttachment(dst, json []byte, at span) []byte {
	// There is no error: encoding/json has written the base64, or fill.
	dst, _ = base64.StdEncoding.AppendDecode(dst, json[at.start+1:at.end-1])
	return dst
}
