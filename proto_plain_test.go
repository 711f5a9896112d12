package atrium

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// envelopesEqual lets cmp look into envelopes.
var envelopesEqual = cmp.AllowUnexported(envelope{}, eventData{}, args{}, span{})

func TestParseEnvelope(t *testing.T) {
	longest := strings.Repeat("é", maxEventName/2)
	for _, test := range []struct {
		in   string
		want envelope
	}{
		{`{"event":"a"}`, envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":"a","data":1}`, envelope{eventData: dataOf("a", "1", 1, noID)}},
		{`{"event":"a","data":1,"id":7}`, envelope{eventData: dataOf("a", "1", 1, 7)}},
		{`{"id":7,"data":1,"event":"a"}`, envelope{eventData: dataOf("a", "1", 1, 7)}},
		{`{"event":"a","id":0}`, envelope{eventData: dataOf("a", "", 0, 0)}},
		{`{"event":"a","id":9007199254740991}`, envelope{eventData: dataOf("a", "", 0, maxID)}},
		{"\n{ \"event\"\t: \"a\" , \"data\" : [ 1 , 2 ] }\r\n", envelope{eventData: dataOf("a", "[ 1 , 2 ]", 1, noID)}},
		{`{"event":"a","data":null}`, envelope{eventData: dataOf("a", "null", 1, noID)}},
		{`{"event":"a","data":{"event":1,"id":"x"}}`, envelope{eventData: dataOf("a", `{"event":1,"id":"x"}`, 1, noID)}},
		{`{"event":"a","args":[]}`, envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":"a","args":[ ]}`, envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":"a","args":[1]}`, envelope{eventData: dataOf("a", "1", 1, noID)}},
		{`{"event":"a","args":[ 1, [2,3] ,{"b":[4,5]} ]}`, envelope{eventData: dataOf("a", `1, [2,3] ,{"b":[4,5]}`, 3, noID)}},
		{`{"event":"a","args":["],",null]}`, envelope{eventData: dataOf("a", `"],",null`, 2, noID)}},

		// Keys and names may be escaped; keys are matched as they are otherwise.
		{`{"\u0065vent":"\u0061\n","\u0069\u0064":1}`, envelope{eventData: dataOf("a\n", "", 0, 1)}},
		{`{"event":"a","Event":"b","EVENT":1,"ID":"x","Data":1,"Args":2,"error ":3}`, envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":"a","":[],"more":{"event":"b"},"more":2}`, envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":"` + longest + `"}`, envelope{eventData: dataOf(longest, "", 0, noID)}},
		{`{"event":"\ud83d"}`, envelope{eventData: dataOf("\ufffd", "", 0, noID)}},
		{`{"event":"connect"}`, envelope{eventData: dataOf("connect", "", 0, noID)}}, // reserved names are not this layer's matter

		// Acknowledgements.
		{`{"id":7}`, envelope{eventData: dataOf("", "", 0, 7)}},
		{`{"id":7,"data":{"ok":true}}`, envelope{eventData: dataOf("", `{"ok":true}`, 1, 7)}},
		{`{"id":7,"args":[1,2]}`, envelope{eventData: dataOf("", "1,2", 2, 7)}},
		{`{"id":7,"error":{"message":"Required"}}`, envelope{eventData: dataOf("", "", 0, 7), fail: &Error{Message: "Required"}}},
		{`{"error":{"message":""},"id":7}`, envelope{eventData: dataOf("", "", 0, 7), fail: &Error{}}},
		{`{"id":7,"error":{"message":"\u0052","data":{"field":"x"},"more":1}}`,
			envelope{eventData: dataOf("", "", 0, 7), fail: &Error{Message: "R", Data: json.RawMessage(`{"field":"x"}`)}}},
		{`{"id":7,"error":{"data":null,"message":"x"}}`, envelope{eventData: dataOf("", "", 0, 7), fail: &Error{Message: "x", Data: json.RawMessage("null")}}},
	} {
		got, err := parseEnvelope([]byte(test.in))
		if err != nil {
			t.Errorf("%s: %v", test.in, err)
			continue
		}
		if diff := cmp.Diff(test.want, got, envelopesEqual); diff != "" {
			t.Errorf("%s: %s", test.in, diff)
		}
	}
}

// Rows 67 and 70 of the corner cases: whatever a peer sends, the answer says what was expected and
// names what could be read.
func TestEnvelopeRefused(t *testing.T) {
	const (
		object  = `expected a JSON object such as {"event":"name","data":…}`
		either  = "expected an event, or the id of an acknowledgement"
		event   = "event: expected a string of 1 to 256 bytes"
		id      = "id: expected an integer from 0 to 9007199254740991"
		args    = "args: expected an array"
		onlyOne = "data and args: expected only one of them"
		fail    = `error: expected an object such as {"message":"Required"}`
		onlyAck = "error: expected only in an acknowledgement"
	)
	none := envelope{eventData: dataOf("", "", 0, noID)}
	for _, test := range []struct {
		in   string
		want string
		left envelope // what could be read
	}{
		{``, object, none},
		{` `, object, none},
		{`hello`, object, none},
		{`null`, object, none},
		{`"event"`, object, none},
		{`42["event"]`, object, none},
		{`[{"event":"a"}]`, object, none},
		{"\xef\xbb\xbf" + `{"event":"a"}`, object, none},

		{`{}`, either, none},
		{`{"data":1}`, either, none},
		{`{"args":[1]}`, either, none},
		{`{"error":{"message":"x"}}`, either, none},
		{`{"Event":"a","Id":1}`, either, none},

		{`{"event":""}`, event, none},
		{`{"event":null}`, event, none},
		{`{"event":1}`, event, none},
		{`{"event":true,"id":7}`, event, envelope{eventData: dataOf("", "", 0, 7)}},
		{`{"event":["a"],"id":7}`, event, envelope{eventData: dataOf("", "", 0, 7)}},
		{`{"event":{"a":1}}`, event, none},
		{`{"event":"` + strings.Repeat("a", maxEventName+1) + `"}`, event, none},
		{`{"event":"` + strings.Repeat(`\u00e9`, maxEventName/2) + `a"}`, event, none},

		{`{"event":"a","id":null}`, id, envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":"a","id":"7"}`, id, envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":"a","id":[7]}`, id, envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"id":-1}`, id, none},
		{`{"id":-0}`, id, none},
		{`{"id":1.0}`, id, none},
		{`{"id":1.5}`, id, none},
		{`{"id":1e3}`, id, none},
		{`{"id":9007199254740992}`, id, none},
		{`{"id":9999999999999999}`, id, none},
		{`{"id":10000000000000000}`, id, none},
		{`{"id":18446744073709551616}`, id, none},
		{`{"id":` + strings.Repeat("9", 1000) + `}`, id, none},
		{`{"id":true}`, id, none},

		{`{"event":"a","args":1,"id":7}`, args, envelope{eventData: dataOf("a", "", 0, 7)}},
		{`{"event":"a","args":null}`, args, envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":"a","args":{"0":1}}`, args, envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":"a","args":"[]"}`, args, envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":"a","data":1,"args":[2],"id":7}`, onlyOne, envelope{eventData: dataOf("a", "", 0, 7)}},
		{`{"args":[],"data":null,"event":"a"}`, onlyOne, envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"args":[],"id":7,"data":1}`, onlyOne, envelope{eventData: dataOf("", "", 0, 7)}},

		{`{"id":7,"error":null}`, fail, envelope{eventData: dataOf("", "", 0, 7)}},
		{`{"id":7,"error":"x"}`, fail, envelope{eventData: dataOf("", "", 0, 7)}},
		{`{"id":7,"error":{}}`, fail, envelope{eventData: dataOf("", "", 0, 7)}},
		{`{"id":7,"error":{"data":1}}`, fail, envelope{eventData: dataOf("", "", 0, 7)}},
		{`{"id":7,"error":{"Message":"x"}}`, fail, envelope{eventData: dataOf("", "", 0, 7)}},
		{`{"id":7,"error":[{"message":"x"}]}`, fail, envelope{eventData: dataOf("", "", 0, 7)}},
		{`{"id":7,"error":{"message":1}}`, "error: message: expected a string", envelope{eventData: dataOf("", "", 0, 7)}},
		{`{"id":7,"error":{"message":null}}`, "error: message: expected a string", envelope{eventData: dataOf("", "", 0, 7)}},
		{`{"id":7,"error":{"message":"x","message":"y"}}`, "error: message: given twice", envelope{eventData: dataOf("", "", 0, 7)}},
		{`{"id":7,"error":{"message":"x","data":1,"data":2}}`, "error: data: given twice", envelope{eventData: dataOf("", "", 0, 7)}},
		{`{"event":"a","id":7,"error":{"message":"x"}}`, onlyAck, envelope{eventData: dataOf("a", "", 0, 7)}},
		{`{"error":{"message":"x"},"event":"a"}`, onlyAck, envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"id":7,"error":{"message":"x"},"data":1}`, "data and error: expected only one of them", envelope{eventData: dataOf("", "", 0, 7)}},
		{`{"id":7,"error":{"message":"x"},"args":[]}`, "data and error: expected only one of them", envelope{eventData: dataOf("", "", 0, 7)}},

		{`{"event":"a","event":"b"}`, "event: given twice", envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":"a","\u0065vent":"a"}`, "event: given twice", envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":1,"event":"b"}`, event, none},
		{`{"id":1,"id":2}`, "id: given twice", envelope{eventData: dataOf("", "", 0, 1)}},
		{`{"event":"a","data":1,"data":1}`, "data: given twice", envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":"a","args":[],"args":[]}`, "args: given twice", envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"id":1,"error":{"message":"x"},"error":{}}`, "error: given twice", envelope{eventData: dataOf("", "", 0, 1)}},

		// The first error is the one told, but what comes behind it is read.
		{`{"args":5,"id":"x","event":"a"}`, args, envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"id":"x","args":5,"event":"a"}`, id, envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"args":5,"id":7,"event":}`, args, envelope{eventData: dataOf("", "", 0, 7)}},

		{`{`, "invalid JSON at byte 1: expected a key in quotes", none},
		{`{"event"`, "invalid JSON at byte 8: expected ':'", none},
		{`{"event":"a"`, "invalid JSON at byte 12: expected ',' or '}'", envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":"a","id":7,}`, "invalid JSON at byte 20: expected a key in quotes", envelope{eventData: dataOf("a", "", 0, 7)}},
		{`{"event":"a","id":007}`, "invalid JSON at byte 19: expected ',' or '}'", envelope{eventData: dataOf("a", "", 0, 0)}},
		{`{"id":7,"event":'a'}`, "invalid JSON at byte 16: expected a value", envelope{eventData: dataOf("", "", 0, 7)}},
		{`{"event":"a","data":[1,]}`, "invalid JSON at byte 23: expected a value", envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":"a"} {"event":"b"}`, "invalid JSON at byte 14: expected nothing behind the object", envelope{eventData: dataOf("a", "", 0, noID)}},
		{`{"event":"a"}]`, "invalid JSON at byte 13: expected nothing behind the object", envelope{eventData: dataOf("a", "", 0, noID)}},
		{"{\"event\":\"a\n\"}", "invalid JSON at byte 11: expected no control character in a string", none},
		{`{"event":"a","data":` + strings.Repeat("[", 1_000_000), "invalid JSON at byte 148: expected at most 128 levels of nesting", envelope{eventData: dataOf("a", "", 0, noID)}},
	} {
		name := test.in[:min(len(test.in), 80)]
		got, err := parseEnvelope([]byte(test.in))
		if err == nil {
			t.Errorf("%s passes: %+v", name, got)
			continue
		}
		if diff := cmp.Diff(&Error{Message: test.want}, err); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if diff := cmp.Diff(test.left, got, envelopesEqual); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// The arguments are a view of the message; what outlives it is not.
func TestParseEnvelopeAliasing(t *testing.T) {
	b := []byte(`{"event":"name","data":"argument"}`)
	env, err := parseEnvelope(b)
	if err != nil {
		t.Fatal(err)
	}
	copy(b, bytes.Repeat([]byte("x"), len(b)))
	if env.name != "name" || string(env.args.json) != "xxxxxxxxxx" {
		t.Errorf("event %q, args %q", env.name, env.args.json)
	}
	if _ = append(env.args.json, "yy"...); b[len(b)-1] != 'x' {
		t.Error("appending to the arguments overwrites the message")
	}

	b = []byte(`{"id":1,"error":{"message":"text","data":"argument"}}`)
	if env, err = parseEnvelope(b); err != nil {
		t.Fatal(err)
	}
	copy(b, bytes.Repeat([]byte("x"), len(b)))
	if diff := cmp.Diff(&Error{Message: "text", Data: json.RawMessage(`"argument"`)}, env.fail); diff != "" {
		t.Error(diff)
	}
}

func TestAppendEnvelopes(t *testing.T) {
	plain := func(dst string, p packet) string { return string(appendPlain([]byte(dst), p)) }
	event := func(name, args string, n int, id int64) packet {
		return packet{kind: packetEvent, eventData: dataOf(name, args, n, id)}
	}
	ack := func(args string, n int) packet { return packet{kind: packetAck, eventData: dataOf("", args, n, 7)} }
	failed := func(message string, data []byte) packet {
		return packet{kind: packetAck, eventData: eventData{args: ackError(message, data), ackID: 7}, failed: true}
	}
	report := func(name, message string, data []byte) packet {
		return newPacket(packetEvent, "/", "error", errorBody(name, message, data))
	}
	for _, test := range []struct{ got, want string }{
		{plain("x", event("a", "", 0, noID)), `x{"event":"a"}`},
		{plain("", event("a", "", 0, 0)), `{"event":"a","id":0}`},
		{plain("", event("a", `{"b":1}`, 1, noID)), `{"event":"a","data":{"b":1}}`},
		{plain("", event("a\"\n", "1,2", 2, maxID)), `{"event":"a\"\n","args":[1,2],"id":9007199254740991}`},
		{plain("x", ack("", 0)), `x{"id":7}`},
		{plain("", ack("null", 1)), `{"id":7,"data":null}`},
		{plain("", ack("1,[2],3", 3)), `{"id":7,"args":[1,[2],3]}`},
		{plain("x", failed("Required", nil)), `x{"id":7,"error":{"message":"Required"}}`},
		{plain("", failed("<\">", []byte("[1]"))), `{"id":7,"error":{"message":"<\">","data":[1]}}`},
		{plain("x", report("typing", "no", nil)), `x{"event":"error","data":{"event":"typing","message":"no"}}`},
		{plain("", report("typing", "no", []byte("1"))), `{"event":"error","data":{"event":"typing","message":"no","data":1}}`},
		{plain("", report("", "no", nil)), `{"event":"error","data":{"message":"no"}}`},
		{plain("", newPacket(packetConnect, "/", "", []byte(`{"sid":"x"}`))), `{"event":"connect","data":{"sid":"x"}}`},
		{plain("", newPacket(packetConnectError, "/", "", errorBody("", "no", nil))), `{"event":"connect_error","data":{"message":"no"}}`},
	} {
		if test.got != test.want {
			t.Errorf("got %s, want %s", test.got, test.want)
		}
	}
}

// slowEnvelope is parseEnvelope's obvious version: encoding/json takes the message apart, maps say
// what is there. ok is false if the message is to be refused; the envelope then has the event and
// the id only.
func slowEnvelope(t testing.TB, b []byte) (env envelope, ok bool) {
	ok = true
	env.ackID = noID
	given := make(map[string]string)
	for _, field := range slowFields(t, b) {
		if slowDepth(t, []byte(field.Value)) > maxDepth {
			return env, false
		}
		if _, twice := given[field.Key]; twice {
			switch field.Key {
			case "event", "id", "data", "args", "error":
				ok = false
			}
			continue
		}
		given[field.Key] = field.Value
	}
	event, hasEvent := given["event"]
	id, hasID := given["id"]
	data, hasData := given["data"]
	args, hasArgs := given["args"]
	fail, hasFail := given["error"]

	if hasEvent {
		var name *string
		if json.Unmarshal([]byte(event), &name) == nil && name != nil && *name != "" && len(*name) <= 256 {
			env.name = *name
		} else {
			ok = false
		}
	}
	if hasID {
		n, err := strconv.ParseUint(id, 10, 53)
		if err == nil && strconv.FormatUint(n, 10) == id {
			env.ackID = int64(n)
		} else {
			ok = false
		}
	}
	left := envelope{eventData: dataOf(env.name, "", 0, env.ackID)}
	if hasData {
		env.args.json, env.args.n = []byte(data), 1
	}
	if hasArgs {
		var values []json.RawMessage
		if json.Unmarshal([]byte(args), &values) != nil || values == nil {
			ok = false
		}
		if env.args.n = len(values); env.args.n > 0 {
			env.args.json = bytes.TrimSpace([]byte(args[1 : len(args)-1]))
		}
	}
	if hasFail {
		if !strings.HasPrefix(fail, "{") {
			return left, false
		}
		given := make(map[string]int)
		env.fail = new(Error)
		for _, field := range slowFields(t, []byte(fail)) {
			given[field.Key]++
			switch field.Key {
			case "message":
				var message *string
				if json.Unmarshal([]byte(field.Value), &message) != nil || message == nil {
					return left, false
				}
				env.fail.Message = *message
			case "data":
				env.fail.Data = json.RawMessage(field.Value)
			}
		}
		ok = ok && given["message"] == 1 && given["data"] <= 1
	}
	if !ok || hasData && hasArgs || hasFail && (hasEvent || hasData || hasArgs) || !hasEvent && !hasID {
		return left, false
	}
	return env, true
}

// FuzzEnvelope checks that parseEnvelope agrees with slowEnvelope, and that a message written again
// says the same.
func FuzzEnvelope(f *testing.F) {
	for _, s := range []string{
		chatMessage, `{}`, `[]`, ``, `{"event":"a","id":1,"data":null}`, `{"event":"a","args":[1,{"b":[2]} ,"c"]}`, `{"id":0}`,
		`{"id":7,"error":{"message":"m","data":[1]}}`, `{"id":7,"error":{"message":"m"},"data":1}`, `{"event":"a","event":"b"}`,
		`{"\u0065vent":"\ud83d\ude00"}`, `{"id":1.0}`, `{"id":9007199254740992}`, `{"event":"","id":1,"args":{}}`, `{"event":"a"}x`,
		`{"event":"a","data":1,"args":[]}`, `{"error":{"message":1}}`, `{"event":"a","data":[1,}`, `{"event":"a","args":[ ]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		env, err := parseEnvelope(b)
		if err != nil && (err.Message == "" || !utf8.ValidString(err.Message) || len(err.Message) > 100) {
			t.Fatalf("the refusal is %q", err.Message)
		}
		trimmed := bytes.Trim(b, " \t\r\n")
		switch {
		case len(trimmed) == 0 || trimmed[0] != '{':
			if diff := cmp.Diff(envelope{eventData: dataOf("", "", 0, noID)}, env, envelopesEqual); err == nil || diff != "" {
				t.Fatalf("no object, yet %v: %s", err, diff)
			}
			return
		case !json.Valid(b):
			if err == nil {
				t.Fatalf("invalid JSON passes: %+v", env)
			}
			return
		}
		want, ok := slowEnvelope(t, b)
		if ok != (err == nil) {
			t.Fatalf("got %v, %+v; slowEnvelope says %v, %+v", err, env, ok, want)
		}
		if !ok && strings.HasSuffix(err.Message, "levels of nesting") {
			return
		}
		if diff := cmp.Diff(want, env, envelopesEqual); diff != "" {
			t.Fatal(diff)
		}
		if !ok {
			return
		}

		p := packet{kind: packetEvent, eventData: env.eventData, failed: env.fail != nil}
		if env.name == "" {
			p.kind = packetAck
		}
		if p.failed {
			data, _ := env.fail.Data.(json.RawMessage)
			p.args = ackError(env.fail.Message, data)
		}
		again := appendPlain(nil, p)
		back, err := parseEnvelope(again)
		if diff := cmp.Diff(env, back, envelopesEqual); err != nil || diff != "" || !json.Valid(again) {
			t.Fatalf("%s says something else (%v): %s", again, err, diff)
		}

		var report struct{ Event, Message string }
		back, err = parseEnvelope(appendPlain(nil, newPacket(packetEvent, "/", "error", errorBody(env.name, string(b), []byte("[]")))))
		if err != nil || back.name != "error" || json.Unmarshal(back.args.json, &report) != nil || report.Event != env.name {
			t.Fatalf("the error event is %+v, %v", back, err)
		}
	})
}

func TestParseEnvelopeAllocations(t *testing.T) {
	for _, test := range []struct {
		in   string
		want float64
	}{
		{chatMessage, 1}, // the event's name
		{`{"event":"move","args":[1,2,{"x":3}],"id":12}`, 1},
		{`{"id":7,"data":{"ok":true}}`, 0},
	} {
		b := []byte(test.in)
		if n := testing.AllocsPerRun(100, func() { _, _ = parseEnvelope(b) }); n != test.want {
			t.Errorf("%s: %v allocations, want %v", b, n, test.want)
		}
	}
	e, buffer := packet{kind: packetEvent, eventData: dataOf("send-msg", chatMessage, 1, 7)}, make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { buffer = appendPlain(buffer[:0], e) }); n != 0 {
		t.Errorf("appendPlain: %v allocations", n)
	}
}

func BenchmarkParseEnvelope(b *testing.B) {
	message := []byte(chatMessage)
	b.ReportAllocs()
	b.SetBytes(int64(len(message)))
	for b.Loop() {
		if _, err := parseEnvelope(message); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParseEnvelopeEncodingJSON decodes the same message into a struct with raw arguments.
func BenchmarkParseEnvelopeEncodingJSON(b *testing.B) {
	message := []byte(chatMessage)
	b.ReportAllocs()
	b.SetBytes(int64(len(message)))
	for b.Loop() {
		var env struct {
			Event string
			Data  json.RawMessage
			Args  []json.RawMessage
			ID    *int64
			Error *struct {
				Message string
				Data    json.RawMessage
			}
		}
		if err := json.Unmarshal(message, &env); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendPlain(b *testing.B) {
	data := dataOf("send-msg", `{"room":"lobby","text":"Good morning everyone, does anyone know?"}`, 1, 7)
	e := packet{kind: packetEvent, eventData: data}
	buffer := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buffer = appendPlain(buffer[:0], e)
	}
}
