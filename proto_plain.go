package atrium

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
)

// The plain protocol: each text message is one JSON object, for clients that have only a WebSocket.
//
//	{"event":"send-msg","data":{…},"id":7}      an event; the id asks for an acknowledgement
//	{"event":"move","args":[1,2]}               an event with several arguments
//	{"id":7,"data":{…}}                         the acknowledgement of 7
//	{"id":7,"error":{"message":"Required"}}     the acknowledgement of 7, with an error
//
// Both sides may send each of them. Unknown keys are ignored, so that the protocol can grow. A
// known key that occurs twice is refused, because two readers could each take a different one.

// maxEventName bounds an event's name, in bytes.
const maxEventName = 256

// envelope is one plain message: an event, or an acknowledgement, which has no name. Its arguments
// alias the message.
type envelope struct {
	eventData
	fail *Error // of an acknowledgement; its Data is a json.RawMessage that aliases nothing, or nil
}

// fields is a set of keys of an envelope.
type fields uint8

const (
	fieldEvent fields = 1 << iota
	fieldID
	fieldData
	fieldArgs
	fieldError
)

// fieldNames are the keys, in the order of the constants.
var fieldNames = [...]string{"event", "id", "data", "args", "error"}

// parseEnvelope parses one plain message. It returns the first error in the message, which can be
// shown to the sender. The envelope then has only the event's name and the id, so that the response
// can name them: each if it was valid and came before any syntax error.
func parseEnvelope(b []byte) (envelope, *Error) {
	env := envelope{eventData: eventData{ackID: noID}}
	var first *Error
	refuse := func(message string) {
		if first == nil {
			first = &Error{Message: message}
		}
	}

	start := skipSpace(b, 0)
	if start == len(b) || b[start] != '{' {
		return env, &Error{Message: `expected a JSON object such as {"event":"name","data":…}`}
	}
	var given fields
	object := objectReader{b: b, i: start}
	for object.next() {
		known := slices.Index(fieldNames[:], string(object.key))
		if known < 0 {
			continue
		}
		field := fields(1) << known
		if given&field != 0 {
			refuse(string(object.key) + ": given twice")
			continue
		}
		given |= field
		switch value := object.value; field {
		case fieldEvent:
			if name, ok := unquote(value); ok && 1 <= len(name) && len(name) <= maxEventName {
				env.name = name
			} else {
				refuse("event: expected a string of 1 to 256 bytes")
			}
		case fieldID:
			if id, end := parseID(value, 0); id != noID && end == len(value) {
				env.ackID = id
			} else {
				refuse("id: expected an integer from 0 to 9007199254740991")
			}
		case fieldData:
			env.args = args{json: value, n: 1}
		case fieldArgs:
			if value[0] == '[' {
				env.args = parseArray(value)
			} else {
				refuse("args: expected an array")
			}
		case fieldError:
			var problem string
			if env.fail, problem = parseFail(value); problem != "" {
				refuse(problem)
			}
		}
		if given&(fieldData|fieldArgs) == fieldData|fieldArgs {
			refuse("data and args: expected only one of them")
		}
	}
	err := object.err
	if err == nil {
		if end := skipSpace(b, object.i); end < len(b) {
			err = syntaxError{end, "nothing behind the object"}
		}
	}

	switch {
	case err != nil:
		refuse(err.Error())
	case given&(fieldEvent|fieldID) == 0:
		refuse("expected an event, or the id of an acknowledgement")
	case given&fieldError != 0 && given&fieldEvent != 0:
		refuse("error: expected only in an acknowledgement")
	case given&fieldError != 0 && given&(fieldData|fieldArgs) != 0:
		refuse("data and error: expected only one of them")
	}
	if first != nil {
		return envelope{eventData: eventData{name: env.name, ackID: env.ackID}}, first
	}
	return env, nil
}

// parseFail parses the error of an acknowledgement. problem, if not empty, says why it is invalid.
func parseFail(value []byte) (fail *Error, problem string) {
	const expected = `error: expected an object such as {"message":"Required"}`
	if value[0] != '{' {
		return nil, expected
	}
	fail = new(Error)
	var message, data bool
	for object := (objectReader{b: value}); object.next(); {
		switch string(object.key) {
		case "message":
			if message {
				return nil, "error: message: given twice"
			}
			if fail.Message, message = unquote(object.value); !message {
				return nil, "error: message: expected a string"
			}
		case "data":
			if data {
				return nil, "error: data: given twice"
			}
			data = true
			fail.Data = json.RawMessage(bytes.Clone(object.value))
		}
	}
	if !message {
		return nil, expected
	}
	return fail, ""
}

// appendPlain appends a packet as a plain message: a connect and its refusal are events here. There
// is no disconnect, because the connection ends.
func appendPlain(dst []byte, p packet) []byte {
	switch p.kind {
	case packetConnect:
		p.name = "connect"
	case packetConnectError:
		p.name = "connect_error"
	case packetAck:
		dst = append(dst, `{"id":`...)
		dst = strconv.AppendInt(dst, p.ackID, 10)
		if p.failed {
			dst = append(dst, ',')
			return append(dst, p.args.json[1:]...) // ackError's object has one field, error
		}
		return append(appendArgs(dst, p.args), '}')
	}
	dst = append(dst, `{"event":`...)
	dst = appendQuoted(dst, p.name)
	dst = appendArgs(dst, p.args)
	if p.ackID != noID {
		dst = append(dst, `,"id":`...)
		dst = strconv.AppendInt(dst, p.ackID, 10)
	}
	return append(dst, '}')
}

// appendArgs appends a comma and the field with the arguments, or nothing if there are none.
func appendArgs(dst []byte, a args) []byte {
	switch a.n {
	case 0:
		return dst
	case 1:
		dst = append(dst, `,"data":`...)
		return append(dst, a.json...)
	}
	dst = append(dst, `,"args":[`...)
	dst = append(dst, a.json...)
	return append(dst, ']')
}

// errorBody returns the object that describes an error. event is the name of the event that failed,
// "" if it is unknown or the receiver knows it. data is JSON, or nil for none.
func errorBody(event, message string, data []byte) []byte {
	b := []byte{'{'}
	if event != "" {
		b = appendQuoted(append(b, `"event":`...), event)
		b = append(b, ',')
	}
	b = appendQuoted(append(b, `"message":`...), message)
	if data != nil {
		b = append(append(b, `,"data":`...), data...)
	}
	return append(b, '}')
}
