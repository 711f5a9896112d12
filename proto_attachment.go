package atrium

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
)

// What is binary in the arguments of a packet travels behind it, as attachments, and a placeholder stands where each
// belongs: {"_placeholder":true,"num":0}.
//
// Everywhere else in this package an attachment is a JSON string of base64, which is how encoding/json reads and
// writes a []byte. So arguments are one JSON text with nothing beside it, for plain clients and handlers alike, and
// a []byte decodes from its attachment wherever it stands. A handler that takes a string or a json.RawMessage gets the
// base64; one that takes an any gets a Binary. It costs a copy of 4/3 the size either way, at about a gigabyte a second.

// span is where in the arguments a string literal of base64 stands, quotes included.
type span struct{ start, end int }

// spanSize is what a span takes, in bytes.
const spanSize = 16

// placeholder is where in the arguments attachment num belongs.
type placeholder struct {
	span
	num int
}

// assembly is a binary packet whose attachments are still to come. It holds nothing of the message that the packet
// was parsed from.
type assembly struct {
	packet      packet
	places      []placeholder // in the order of the text
	attachments [][]byte      // those that have come
	missing     int           // how many are still to come
	room        int           // bytes that may still come
	limits      attachmentLimits
}

// attachmentLimits bound what a packet may have: attachments, and bytes in its arguments and attachments together.
type attachmentLimits struct{ count, bytes int }

// assembler puts together the packets of one connection, which come in one message or, if they are binary, in several.
type assembler struct {
	assembly *assembly // a binary packet whose attachments are still to come
}

// take takes the next message, and does not keep it. done means that it was the last of p, which is the caller's to
// keep, its name and namespace included.
func (a *assembler) take(m enginePacket, limits attachmentLimits) (p packet, done bool, err *Error) {
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
	if p.kind.binary() {
		a.assembly, err = newAssembly(p, limits)
		return packet{}, false, err
	}
	p.args = p.args.clone()
	return p, true, nil
}

// newAssembly begins to assemble p, a binary packet just parsed. The error is what is wrong with the placeholders.
func newAssembly(p packet, limits attachmentLimits) (*assembly, *Error) {
	p.args = p.args.clone()
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

// add takes the next attachment, and does not keep it. done means that it was the last one: then packet is an EVENT
// or an ACK with everything in place, or one that is refused, of which no attachment is kept. An attachment that no
// placeholder names is dropped, as by socket.io-parser.
func (a *assembly) add(attachment []byte) (p packet, done bool, err *Error) {
	a.missing--
	refused := a.packet.refused != nil
	if !refused {
		if a.room -= len(attachment); a.room < 0 {
			return packet{}, false, &Error{
				Message: fmt.Sprintf("a message with its attachments is over the limit of %d bytes", a.limits.bytes), Err: ErrMessageTooBig,
			}
		}
		a.attachments = append(a.attachments, attachment)
	}
	if a.missing > 0 {
		if !refused {
			a.attachments[len(a.attachments)-1] = bytes.Clone(attachment) // the last is only needed until this call returns
		}
		return packet{}, false, nil
	}
	p = a.packet
	p.kind -= packetBinaryEvent - packetEvent
	p.attachments = 0
	if !refused {
		p.args = a.fill()
		a.attachments = nil
	}
	return p, true, nil
}

// fill returns the arguments with the attachments in place.
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

// findPlaceholders looks for placeholders in args, valid JSON, and judges them. A placeholder has its two keys and
// no other, in any order: the maps of some languages have none.
//
// socket.io-parser lets two of them name the same attachment. No encoder writes that, and a message of 1 MiB could
// so become one of 40 GB.
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
				return nil, dataError(err) // only if args is not what it must be
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

// parsePlaceholder reads the placeholder that begins with the brace at b[i], if there is one. It reads no other
// key and no value that is not flat, so that looking at each brace of a text takes time linear in its size.
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

// marksPlaceholder reports whether the string literal b[i:end] is a key that makes its object a placeholder to
// socket.io-parser, however it is spelt.
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

// appendPlaceholders appends a.json with placeholders where attachments stand.
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

// appendAttachment appends the attachment that stands in json at at, as raw bytes. For a polling client
// appendEngineBase64 takes json[at.start+1:at.end-1] as it is.
func appendAttachment(dst, json []byte, at span) []byte {
	// It is base64: findBinaries has found what encoding/json has written.
	dst, _ = base64.StdEncoding.AppendDecode(dst, json[at.start+1:at.end-1])
	return dst
}
