package atrium

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// args are the arguments of an event or an acknowledgement, as JSON: in the same form for all
// protocols.
type args struct {
	json        []byte // values joined by commas, without space before and after
	n           int    // how many values
	attachments []span // string literals in json that are attachments in base64
}

// eventData is an event as it travels, in either direction.
type eventData struct {
	name  string // "" for an acknowledgement
	args  args
	ackID int64 // of the acknowledgement that is asked for or given; noID if there is none
}

const (
	// noID is the ackID of an event that asks for no acknowledgement.
	noID = -1
	// maxID is the greatest integer up to which JavaScript numbers are exact.
	maxID = 1<<53 - 1
)

// parseID parses the decimal digits that begin at b[i], and returns their end. The id is noID if
// there are none, or too many. 1e3 and 1.0 are no ids: in JSON they are the same numbers, but not
// to everyone who looks an id up.
func parseID(b []byte, i int) (id int64, end int) {
	for end = i; end < len(b) && '0' <= b[end] && b[end] <= '9'; end++ {
		id = min(id*10+int64(b[end]-'0'), maxID+1)
	}
	if end == i || end-i > len("9007199254740991") || id > maxID {
		return noID, end
	}
	return id, end
}

// parseArray returns the values of a valid JSON array, which it aliases.
func parseArray(array []byte) args {
	a := args{json: bytes.Trim(array[1:len(array)-1], " \t\r\n")}
	for i := 0; i < len(a.json); a.n++ {
		_, i = a.value(i)
	}
	return a
}

// size returns the memory that a takes, in bytes.
func (a args) size() int { return len(a.json) + len(a.attachments)*spanSize }

// value returns the position of the value in a.json that begins at i, and the start of the next
// one, which is len(a.json) if there is none. At the end of a.json the value is empty.
func (a args) value(i int) (at span, next int) {
	if i >= len(a.json) {
		return span{}, i
	}
	end, err := skipValue(a.json, i)
	if err != nil {
		return span{}, len(a.json) // only if another node has sent invalid JSON
	}
	comma := skipSpace(a.json, end)
	return span{i, end}, skipSpace(a.json, comma+1)
}

// first returns the position of the first value, which typed handlers and calls take. It is empty
// if there is none.
func (a args) first() span {
	if a.n <= 1 {
		return span{0, len(a.json)}
	}
	at, _ := a.value(0)
	return at
}

// values returns all values. They alias a.json.
func (a args) values() []json.RawMessage {
	list := []json.RawMessage{}
	for i := 0; i < len(a.json); {
		at, next := a.value(i)
		list = append(list, json.RawMessage(a.json[at.start:at.end:at.end]))
		i = next
	}
	return list
}

// decodeAny decodes the value at at like json.Unmarshal into an any, with attachments as Binary.
func (a args) decodeAny(at span) any {
	if slices.Contains(a.attachments, at) {
		return Binary(appendAttachment([]byte{}, a.json, at)) // nil would be null
	}
	if !slices.ContainsFunc(a.attachments, func(b span) bool { return at.start < b.start && b.end < at.end }) {
		var v any
		_ = json.Unmarshal(a.json[at.start:at.end], &v) // it was valid when it was received
		return v
	}
	if a.json[at.start] == '[' {
		list, inner := []any{}, args{json: a.json[:at.end-1]} // up to the bracket
		for i := skipSpace(a.json, at.start+1); i < len(inner.json); {
			at, i = inner.value(i)
			list = append(list, a.decodeAny(at))
		}
		return list
	}
	object := make(map[string]any)
	for o := (objectReader{b: a.json, i: at.start}); o.next(); {
		object[string(o.key)] = a.decodeAny(span{o.i - len(o.value), o.i})
	}
	return object
}

// encodeArgs encodes arguments. It returns an error if one cannot be encoded, or if there are more
// than maxAttachments Binary values.
func encodeArgs(values []any, maxAttachments int) (args, error) {
	var e encoder
	return e.encode(values, maxAttachments)
}

// encoder encodes arguments into a buffer that it reuses.
type encoder struct {
	bytes.Buffer
	json *json.Encoder
}

// encode is encodeArgs. The result is valid until the next call.
func (e *encoder) encode(values []any, maxAttachments int) (args, error) {
	e.Reset()
	if e.json == nil {
		e.json = json.NewEncoder(&e.Buffer)
		e.json.SetEscapeHTML(false) // it is not HTML, and JSON.parse has no use for \u003c instead of <
	}
	for i, v := range values {
		if i > 0 {
			e.WriteByte(',')
		}
		if err := e.json.Encode(v); err != nil {
			return args{}, fmt.Errorf("argument %d cannot be encoded: %w", i+1, err)
		}
		if raw, is := v.(json.RawMessage); is && !utf8.Valid(raw) { // Encode does not look
			return args{}, fmt.Errorf("argument %d cannot be encoded: it is not UTF-8", i+1)
		}
		e.Truncate(e.Len() - 1) // Encode's newline
	}
	attachments, err := findBinaries(e.Bytes(), values)
	if err != nil {
		return args{}, err
	}
	if len(attachments) > maxAttachments {
		return args{}, fmt.Errorf("%d binary values, more than the %d that are allowed", len(attachments), maxAttachments)
	}
	return args{e.Bytes(), len(values), attachments}, nil
}
