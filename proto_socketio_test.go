package atrium

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// packetsEqual lets cmp look into packets. No arguments are no arguments, nil or not.
var packetsEqual = cmp.Options{cmp.AllowUnexported(packet{}, eventData{}, args{}, span{}), cmp.Comparer(bytes.Equal)}

func TestParsePacket(t *testing.T) {
	event := func(namespace string, id int64, name, args string, n int) packet {
		return packet{kind: packetEvent, namespace: namespace, eventData: dataOf(name, args, n, id)}
	}
	longest := strings.Repeat("é", maxNamespace/2-1) + "n"
	for _, test := range []struct {
		in   string
		want packet
	}{
		{`0`, packet{kind: packetConnect, namespace: "/", eventData: dataOf("", "", 0, noID)}},
		{`0/`, packet{kind: packetConnect, namespace: "/", eventData: dataOf("", "", 0, noID)}},
		{`0/,`, packet{kind: packetConnect, namespace: "/", eventData: dataOf("", "", 0, noID)}},
		{`0/admin`, packet{kind: packetConnect, namespace: "/admin", eventData: dataOf("", "", 0, noID)}},
		{`0/admin,`, packet{kind: packetConnect, namespace: "/admin", eventData: dataOf("", "", 0, noID)}},
		{`0/` + longest, packet{kind: packetConnect, namespace: "/" + longest, eventData: dataOf("", "", 0, noID)}},
		{`0{"a": 1}`, packet{kind: packetConnect, namespace: "/", eventData: dataOf("", `{"a": 1}`, 1, noID)}},
		{"0/a?b={},{}\r\n\t ", packet{kind: packetConnect, namespace: "/a?b={}", eventData: dataOf("", `{}`, 1, noID)}},
		{`1`, packet{kind: packetDisconnect, namespace: "/", eventData: dataOf("", "", 0, noID)}},
		{`1/admin,`, packet{kind: packetDisconnect, namespace: "/admin", eventData: dataOf("", "", 0, noID)}},
		{`4{"message":"x"}`, packet{kind: packetConnectError, namespace: "/", eventData: dataOf("", `{"message":"x"}`, 1, noID)}},
		{`4/x,"y"`, packet{kind: packetConnectError, namespace: "/x", eventData: dataOf("", `"y"`, 1, noID)}},

		{`2["foo"]`, event("/", noID, "foo", "", 0)},
		{`2["foo",1]`, event("/", noID, "foo", "1", 1)},
		{`20["foo",[1,2],{"a":"]"}]`, event("/", 0, "foo", `[1,2],{"a":"]"}`, 2)},
		{`29007199254740991["foo"]`, event("/", maxID, "foo", "", 0)},
		{`2/admin,12["foo"]`, event("/admin", 12, "foo", "", 0)},
		{"2[ \"foo\" ,\n1 , 2 ] ", event("/", noID, "foo", "1 , 2", 2)},
		{`2["\u0066oo\n"]`, event("/", noID, "foo\n", "", 0)},
		{`2["\ud83d"]`, event("/", noID, "\ufffd", "", 0)},
		{`2[1,2]`, event("/", noID, "1", "2", 1)},
		{`2[-1.5e3]`, event("/", noID, "-1.5e3", "", 0)},
		{`2["connect"]`, event("/", noID, "connect", "", 0)}, // reserved names are not this layer's matter
		{`27["",1]`, event("/", 7, "", "1", 1)},              // nor is their length
		{`2["` + strings.Repeat("n", maxEventName+1) + `"]`, event("/", noID, strings.Repeat("n", maxEventName+1), "", 0)},

		{`37[]`, packet{kind: packetAck, namespace: "/", eventData: dataOf("", "", 0, 7)}},
		{`37[ ]`, packet{kind: packetAck, namespace: "/", eventData: dataOf("", "", 0, 7)}},
		{`3/a,7[null, 1]`, packet{kind: packetAck, namespace: "/a", eventData: dataOf("", `null, 1`, 2, 7)}},
		{`51-["a",{}]`, packet{kind: packetEvent, attachments: 1, namespace: "/", eventData: dataOf("a", "{}", 1, noID)}},
		{`510-/a,7["a"]`, packet{kind: packetEvent, attachments: 10, namespace: "/a", eventData: dataOf("a", "", 0, 7)}},
		{`69-7[1]`, packet{kind: packetAck, attachments: 9, namespace: "/", eventData: dataOf("", "1", 1, 7)}},
	} {
		got, err := parsePacket([]byte(test.in))
		if err != nil {
			t.Errorf("%s: %v", test.in, err)
			continue
		}
		if diff := cmp.Diff(test.want, got, packetsEqual); diff != "" {
			t.Errorf("%s: %s", test.in, diff)
		}
	}
}

func TestPacketRefused(t *testing.T) {
	const (
		kind        = "packet: expected a type from 0 to 6"
		attachments = "attachments: expected a number from 1 to 999999, then '-'"
		comma       = "namespace: expected a ',' behind it"
		namespace   = "namespace: expected at most 256 bytes and no control characters"
		id          = "ack id: expected an integer from 0 to 9007199254740991"
		noID        = "ack id: expected only in an event or an acknowledgement"
		wantID      = "ack id: expected the one that the event had"
		list        = "data: expected an array"
		named       = "data: expected an array that begins with the event's name"
		name        = "event: expected a string of 1 to 256 bytes"
		auth        = "data: expected an object or nothing"
		nothing     = "data: expected nothing"
		reason      = "data: expected an object or a string"
	)
	for _, test := range []struct{ in, want string }{
		{``, kind}, {`7`, kind}, {`x`, kind}, {` 2["a"]`, kind}, {"\x00", kind}, {"\xff", kind},

		{`5["a"]`, attachments}, {`5-["a"]`, attachments}, {`50-["a"]`, attachments}, {`51000000-["a"]`, attachments}, {`5`, attachments},
		{`51["a"]`, attachments}, {`51`, attachments}, {`501-["a"]`, attachments}, {`5+1-["a"]`, attachments}, {`5-1-["a"]`, attachments},
		{`599999999999999999999999-["a"]`, attachments}, {`6/a,1-[]`, attachments},

		{`2/admin`, comma}, {`2/admin["a"]`, comma}, {`3/admin`, comma}, {`4/x`, comma}, {`51-/admin`, comma},
		{`0/` + strings.Repeat("n", maxNamespace), namespace}, {"0/a\x1eb", namespace}, {"1/a\x7f,", namespace}, {"2/\n,[\"a\"]", namespace},

		{`29007199254740992["a"]`, id}, {`299999999999999999["a"]`, id}, {`2` + strings.Repeat("0", 17) + `["a"]`, id},
		{`07`, noID}, {`07{}`, noID}, {`17`, noID}, {`47{}`, noID}, {`3[]`, wantID}, {`61-[]`, wantID},

		{`2`, named}, {`27`, named}, {`2{}`, named}, {`2"a"`, named}, {`2-["a"]`, named}, {`2 ["a"]`, named}, {`27 ["a"]`, named}, {`2abc["a"]`, named},
		{`2/a,`, named}, {`21-["a"]`, named}, {`37`, list}, {`37{}`, list}, {`37"a"`, list}, {`37 []`, list}, {`61-7`, list},
		{`2[]`, name}, {`2[ ]`, name}, {`2[null]`, name}, {`2[true]`, name}, {`2[["a"]]`, name}, {`2[{"a":1}]`, name}, {`51-[]`, name},

		{`0[]`, auth}, {`0null`, auth}, {`0"x"`, auth}, {`0 {}`, auth}, {"0\x00", auth}, {`0x`, auth}, {`0,`, auth},
		{`1{}`, nothing}, {`1 `, nothing}, {"1\x00", nothing}, {`1/a,null`, nothing},
		{`4`, reason}, {`4[]`, reason}, {`4null`, reason}, {`4/x,`, reason}, {"4\x00", reason},

		{`2["a"`, "data: invalid JSON at byte 5: expected ',' or ']'"},
		{`2[`, "data: invalid JSON at byte 2: expected a value"},
		{`2["a`, "data: invalid JSON at byte 4: expected a closing quote"},
		{`2["a",]`, "data: invalid JSON at byte 6: expected a value"},
		{`2["a"}`, "data: invalid JSON at byte 5: expected ',' or ']'"},
		{`2["a"]]`, "data: invalid JSON at byte 6: expected nothing behind the data"},
		{`37[]x`, "data: invalid JSON at byte 4: expected nothing behind the data"},
		{`0{}x`, "data: invalid JSON at byte 3: expected nothing behind the data"},
		{`0{"a"}`, "data: invalid JSON at byte 5: expected ':'"},
		{`4"a`, "data: invalid JSON at byte 3: expected a closing quote"},
		{`2["a",` + strings.Repeat("[", maxDepth+1), "data: invalid JSON at byte 134: expected at most 128 levels of nesting"},
	} {
		p, err := parsePacket([]byte(test.in))
		if err == nil || err.Message != test.want {
			t.Errorf("%.40s: %v, want %s", test.in, err, test.want)
		}
		if diff := cmp.Diff(packet{}, p, packetsEqual); diff != "" {
			t.Errorf("%.40s: refused, yet %s", test.in, diff)
		}
	}
}

func TestAppendPacket(t *testing.T) {
	for _, test := range []struct {
		packet packet
		want   string
	}{
		{packet{kind: packetConnect, namespace: "/", eventData: dataOf("", "", 0, noID)}, `0`},
		{packet{kind: packetConnect, namespace: "/a", eventData: dataOf("", `{"sid":"x"}`, 1, noID)}, `0/a,{"sid":"x"}`},
		{packet{kind: packetDisconnect, namespace: "/a", eventData: dataOf("", "", 0, noID)}, `1/a,`},
		{packet{kind: packetEvent, namespace: "/", eventData: dataOf("a\"b", "", 0, noID)}, `2["a\"b"]`},
		{packet{kind: packetEvent, namespace: "/", eventData: dataOf("a", "1,2", 2, 0)}, `20["a",1,2]`},
		{packet{kind: packetAck, namespace: "/", eventData: dataOf("", "", 0, 7)}, `37[]`},
		{packet{kind: packetAck, namespace: "/a", eventData: dataOf("", "1", 1, 7)}, `3/a,7[1]`},
		{packet{kind: packetConnectError, namespace: "/", eventData: dataOf("", `{"message":"x"}`, 1, noID)}, `4{"message":"x"}`},
		{packet{kind: packetEvent, attachments: 2, namespace: "/", eventData: dataOf("a", "1", 1, noID)}, `52-["a",1]`},
		{packet{kind: packetEvent, namespace: "/", eventData: dataOf("a", `"AQ==",{"x":"Ag=="}`, 2, 7, span{0, 6}, span{12, 18})},
			`52-7["a",{"_placeholder":true,"num":0},{"x":{"_placeholder":true,"num":1}}]`},
		{packet{kind: packetAck, namespace: "/", eventData: dataOf("", `"AQ==",1`, 2, 7, span{0, 6})}, `61-7[{"_placeholder":true,"num":0},1]`},
	} {
		if got := string(appendPacket([]byte("x"), test.packet)); got != "x4"+test.want {
			t.Errorf("%s, want %s", got[2:], test.want)
		}
	}
}

// slowPacket is parsePacket by regular expressions and encoding/json.
func slowPacket(t *testing.T, b []byte) (packet, bool) {
	parts := regexp.MustCompile(`(?s)^([0-46])(/[^,]*(?:,|$))?([0-9]+)?(.*)$`)
	binary := regexp.MustCompile(`(?s)^([56])([1-9][0-9]{0,5})-(.*)$`)
	p := packet{namespace: "/", eventData: dataOf("", "", 0, noID)}
	if m := binary.FindSubmatch(b); m != nil {
		p.attachments, _ = strconv.Atoi(string(m[2]))
		b = append([]byte{m[1][0] - 3}, m[3]...)
	} else if len(b) > 0 && b[0] > '4' {
		return packet{}, false
	}
	m := parts.FindSubmatch(b)
	if m == nil {
		return packet{}, false
	}
	p.kind = packetType(m[1][0] - '0')
	if name := string(m[2]); name != "" {
		if !strings.HasSuffix(name, ",") && p.kind > packetDisconnect {
			return packet{}, false
		}
		p.namespace = strings.TrimSuffix(name, ",")
		if len(p.namespace) > 256 || regexp.MustCompile(`[\x00-\x1f\x7f]`).MatchString(p.namespace) {
			return packet{}, false
		}
	}
	if len(m[3]) > 0 {
		id, err := strconv.ParseUint(string(m[3]), 10, 53)
		if err != nil || len(m[3]) > 16 {
			return packet{}, false
		}
		p.ackID = int64(id)
	}
	data := m[4]
	if len(data) > 0 && (!json.Valid(data) || bytes.IndexByte([]byte(" \t\r\n"), data[0]) >= 0) {
		return packet{}, false
	}
	trimmed := bytes.TrimRight(data, " \t\r\n")
	object := len(data) > 0 && data[0] == '{'
	text := len(data) > 0 && data[0] == '"'
	var values []json.RawMessage
	list := len(data) > 0 && data[0] == '[' && json.Unmarshal(data, &values) == nil
	ok := false
	switch p.kind {
	case packetConnect:
		ok = p.ackID == noID && (len(data) == 0 || object)
	case packetDisconnect:
		ok = p.ackID == noID && len(data) == 0
	case packetConnectError:
		ok = p.ackID == noID && (object || text)
	case packetAck:
		ok = p.ackID != noID && list
	case packetEvent:
		if !list || len(values) == 0 {
			return packet{}, false
		}
		first := values[0]
		if regexp.MustCompile(`^[-0-9]`).Match(first) {
			p.name = string(first)
		} else if first[0] != '"' || json.Unmarshal(first, &p.name) != nil {
			return packet{}, false
		}
		ok = true
		values = values[1:]
	}
	if !ok {
		return packet{}, false
	}
	for _, v := range values {
		if slowDepth(t, v) > maxDepth {
			return packet{}, false
		}
	}
	switch {
	case list:
		p.args.n = len(values)
		p.args.json = bytes.Join(slowBytes(values), []byte(",")) // without the space between them
	case len(data) > 0:
		if slowDepth(t, data) > maxDepth {
			return packet{}, false
		}
		p.args = args{json: trimmed, n: 1}
	}
	return p, true
}

func slowBytes(values []json.RawMessage) (list [][]byte) {
	for _, v := range values {
		list = append(list, v)
	}
	return list
}

// FuzzPacket checks that parsePacket agrees with slowPacket, that a packet written again says the
// same, and that its placeholders are those that slowPlaceholders finds.
func FuzzPacket(f *testing.F) {
	for _, v := range readVectors(f) {
		if len(v.Frames) > 0 {
			f.Add([]byte(v.Frames[0].Text))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		p, err := parsePacket(b)
		if err != nil && (err.Message == "" || !utf8.ValidString(err.Message) || len(err.Message) > 100) {
			t.Fatalf("the refusal is %q", err.Message)
		}
		want, ok := slowPacket(t, b)
		if ok != (err == nil) {
			t.Fatalf("got %v, %+v; slowPacket says %v, %+v", err, p, ok, want)
		}
		if !ok {
			return
		}
		values := p.args.values()
		if len(values) != p.args.n {
			t.Fatalf("%d arguments in %q, not %d", len(values), p.args.json, p.args.n)
		}
		got := p
		got.args.json = bytes.Join(slowBytes(values), []byte(","))
		if diff := cmp.Diff(want, got, packetsEqual); diff != "" {
			t.Fatal(diff)
		}
		again := appendPacket(nil, p)[1:]
		back, err := parsePacket(again)
		if diff := cmp.Diff(p, back, packetsEqual); err != nil || diff != "" {
			t.Fatalf("%s says something else (%v): %s", again, err, diff)
		}
		if p.attachments > 0 {
			checkAssembly(t, p)
		}
		if !bytes.Equal(b, before) {
			t.Fatal("the message was changed")
		}
	})
}

// checkAssembly gives a binary packet attachments and looks at what comes out.
func checkAssembly(t *testing.T, p packet) {
	if p.attachments > defaultMaxAttachments {
		checkRefusedAssembly(t, p)
		return
	}
	var attachments [][]byte
	for i := range p.attachments {
		attachments = append(attachments, bytes.Repeat([]byte{byte(i)}, i))
	}
	want, ok := slowPlaceholders(t, p, attachments)
	a, err := newAssembly(p, attachmentLimits{defaultMaxAttachments, len(p.args.json) + 45})
	if ok != (err == nil) {
		t.Fatalf("got %v, slowPlaceholders says %v, %s", err, ok, want)
	}
	if !ok {
		return
	}
	for i, attachment := range attachments {
		whole, done, err := a.add(attachment)
		if err != nil || done != (i == p.attachments-1) {
			t.Fatalf("attachment %d of %d: %v, %v", i, p.attachments, done, err)
		}
		if !done {
			continue
		}
		if whole.kind != p.kind || whole.attachments != 0 || whole.name != p.name || whole.ackID != p.ackID || whole.namespace != p.namespace || whole.args.n != p.args.n {
			t.Fatalf("%+v became %+v", p, whole)
		}
		got := "[" + string(whole.args.json) + "]"
		if !reflect.DeepEqual(slowDecode(t, want), slowDecode(t, []byte(got))) {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

// checkRefusedAssembly gives a packet with too many attachments all of them, and looks at what
// comes out.
func checkRefusedAssembly(t *testing.T, p packet) {
	a, err := newAssembly(p, attachmentLimits{defaultMaxAttachments, 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for i := range p.attachments {
		whole, done, err := a.add([]byte("x"))
		if err != nil || done != (i == p.attachments-1) || len(a.attachments) > 0 {
			t.Fatalf("attachment %d of %d: %v, and %d are kept", i, p.attachments, done, len(a.attachments))
		}
		if done && (whole.refused == nil || whole.kind != p.kind || whole.name != p.name || whole.ackID != p.ackID || len(whole.args.attachments) > 0) {
			t.Fatalf("%+v became %+v", p, whole)
		}
	}
}

// slowDecode decodes JSON so that no number is lost.
func slowDecode(t testing.TB, b []byte) any {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return v
}

// slowPlaceholders returns the arguments, as an array, with attachments in place of placeholders.
func slowPlaceholders(t *testing.T, p packet, attachments [][]byte) (args []byte, ok bool) {
	used := make(map[int]bool)
	ok = true
	var replace func(raw json.RawMessage) any
	replace = func(raw json.RawMessage) any {
		switch raw[0] {
		case '[':
			var values []json.RawMessage
			if err := json.Unmarshal(raw, &values); err != nil {
				t.Fatal(err)
			}
			list := []any{}
			for _, v := range values {
				list = append(list, replace(v))
			}
			return list
		case '{':
			fields := slowFields(t, raw)
			object := make(map[string]any)
			num, marked, nums := -1, 0, 0
			for _, field := range fields {
				value := strings.TrimSpace(field.Value)
				switch {
				case field.Key == "_placeholder" && value == "true":
					marked++
				case field.Key == "num":
					nums++
					if n, err := strconv.Atoi(value); err == nil && value[0] != '-' {
						num = n
					}
				}
			}
			if marked > 0 {
				// One key spelt with an escape is as good as an unknown one.
				spelt := bytes.Contains(raw, []byte(`"_placeholder"`)) && bytes.Contains(raw, []byte(`"num"`))
				if marked != 1 || nums != 1 || len(fields) != 2 || !spelt || num < 0 || num >= len(attachments) || used[num] {
					ok = false
					return nil
				}
				used[num] = true
				return base64.StdEncoding.EncodeToString(attachments[num])
			}
			for _, field := range fields {
				object[field.Key] = replace(json.RawMessage(strings.TrimSpace(field.Value)))
			}
			return object
		}
		return raw
	}
	out := replace(json.RawMessage("[" + string(p.args.json) + "]"))
	if !ok {
		return nil, false
	}
	args, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return args, true
}

// vector is a line of testdata/packet-vectors.jsonl.
type vector struct {
	What    string
	Packet  *vectorPacket
	Packets []struct {
		Type string
		Data json.RawMessage
	}
	Frames  []vectorFrame
	Payload string
	Refused string
}

type vectorPacket struct {
	Type int
	Nsp  string
	ID   json.RawMessage
	Data json.RawMessage
}

type vectorFrame struct {
	Text   string
	Binary []byte
}

// readVectors reads what npm's parsers have made of packets: see e2e/packet-vectors.mjs.
func readVectors(t testing.TB) (vectors []vector) {
	file, err := os.Open("testdata/packet-vectors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var v vector
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		vectors = append(vectors, v)
	}
	if lines.Err() != nil || len(vectors) < 250 {
		t.Fatalf("%d vectors, %v", len(vectors), lines.Err())
	}
	return vectors
}

// withBinary puts a value of T in place of each {"$binary":"…"} that has come out of JSON.
func withBinary[T any](v any, convert func([]byte) T) any {
	switch v := v.(type) {
	case map[string]any:
		if text, ok := v["$binary"].(string); ok {
			b, _ := base64.StdEncoding.DecodeString(text)
			return convert(b)
		}
		for key, value := range v {
			v[key] = withBinary(value, convert)
		}
	case []any:
		for i, value := range v {
			v[i] = withBinary(value, convert)
		}
	}
	return v
}

// differences are the frames of which socket.io-parser thinks otherwise, and why. All that it
// accepts and parsePacket does not is what no client writes.
var differences = map[string]string{
	// Refused where the session knows to which event and socket it belongs.
	`2["connect"]`: "reserved", `2["connect_error"]`: "reserved", `2["disconnect"]`: "reserved", `2["disconnecting"]`: "reserved",
	`2["newListener"]`: "reserved", `2["removeListener"]`: "reserved", `2["\u0063onnect"]`: "reserved", `51-["connect"]`: "reserved",

	// Number("") is 0, a CONNECT. It never gets there: Node closes on an Engine.IO message without
	// data, as this does.
	``: "empty",
	// The protocol's document says that they have data; Node would call handlers for an event that
	// has no name.
	`2`: "no data", `2/admin,`: "no data", `212`: "no data", `4`: "no data", `31`: "no data", `51-`: "no data", `51-/admin,`: "no data",
	// They are taken for the name of a namespace, to the packet's end, and no data.
	`2/admin`: "no comma", `2/admin["foo"]`: "no comma", `4/x`: "no comma", `51-/admin`: "no comma",

	// An id where nothing can be acknowledged, or none where there must be one.
	`05`: "ack id", `05{}`: "ack id", `17`: "ack id", `41`: "ack id", `41{}`: "ack id", `3[]`: "ack id", `3["bar"]`: "ack id", "61-[" + p0 + "]": "ack id",
	// Beyond what a JavaScript number can tell apart: the answer would bear another id, such as
	// 1e30.
	`29007199254740992["foo"]`: "ack id", `2` + strings.Repeat("9", 30) + `["foo"]`: "ack id", `2` + strings.Repeat("0", 17) + `1["foo"]`: "ack id",
	// Number(" ") is 0, so white space is read as the digits of an id. (`2 ["foo"]` would be
	// answered as 0.)
	`0 {}`: "space", `1 `: "space", `2 ["foo"]`: "space", `21 ["foo"]`: "space", "2\n[\"foo\"]": "space",

	// Names that nobody can give a namespace, and what no plain client can send.
	"0/a\x1eb,": "namespace", "0/" + strings.Repeat("n", 256): "namespace",
	`2["x",` + strings.Repeat("[", 129) + strings.Repeat("]", 129) + `]`: "depth",

	// Forms of a number that String does not give.
	`501-["x"]`: "attachments", `5+1-["x"]`: "attachments", `51e0-["x"]`: "attachments", `50x1-["x"]`: "attachments", `51.0-["x"]`: "attachments",
	`5 1-["x"]`: "attachments",
	// One attachment in two places: see findPlaceholders. num 0.5 is undefined; the others are no
	// encoder's.
	`52-["x",` + p0 + `,` + p0 + `]`:                  "placeholder",
	`51-["x",{"_placeholder":true,"num":0.5}]`:        "placeholder",
	`51-["x",{"_placeholder":true,"num":0.0}]`:        "placeholder",
	`51-["x",{"_placeholder":true,"num":0,"more":1}]`: "placeholder",
	`51-["x",{"more":1,"_placeholder":true,"num":0}]`: "placeholder",
	`51-["x",{"\u005fplaceholder":true,"num":0}]`:     "placeholder",
	`51-["x",{"_placeholder":true,"num":1,"num":0}]`:  "placeholder",
}

const p0 = `{"_placeholder":true,"num":0}`

// TestPacketVectors decodes what socket.io-parser has decoded, and encodes what it has encoded.
func TestPacketVectors(t *testing.T) {
	met := make(map[string]bool)
	for _, v := range readVectors(t) {
		switch v.What {
		case "encode":
			checkEncoded(t, v)
		case "decode":
			text := v.Frames[0].Text
			met[text] = true
			got, err := decodeFrames(v.Frames)
			why, differs := differences[text]
			switch refused := v.Refused != "" && v.Refused != "waits for more"; {
			case (err != nil) == refused:
				if differs {
					t.Errorf("%s: does not differ (%s)", text, why)
				}
				if !refused && v.Refused == "" {
					checkDecoded(t, text, v.Packet, got)
				}
			case !differs:
				t.Errorf("%s: %v; socket.io-parser says %q", text, err, v.Refused)
			}
		}
	}
	for text := range differences {
		if !met[text] {
			t.Errorf("%s: no vector", text)
		}
	}
}

// decodeFrames decodes a packet and its attachments.
func decodeFrames(frames []vectorFrame) (packet, *Error) {
	p, err := parsePacket([]byte(frames[0].Text))
	if err != nil || p.attachments == 0 {
		return p, err
	}
	a, err := newAssembly(p, attachmentLimits{defaultMaxAttachments, 1 << 20})
	if err != nil {
		return packet{}, err
	}
	p = a.packet
	for _, frame := range frames[1:] {
		if p, _, err = a.add(frame.Binary); err != nil {
			return packet{}, err
		}
	}
	if p.refused != nil {
		return packet{}, p.refused
	}
	return p, nil
}

func checkDecoded(t *testing.T, text string, want *vectorPacket, got packet) {
	id := ""
	if got.ackID != noID {
		id = strconv.FormatInt(got.ackID, 10)
	}
	if int(got.kind) != want.Type || got.namespace != want.Nsp || id != string(want.ID) {
		t.Errorf("%s: %+v, want %+v", text, got, want)
	}
	var data []byte
	switch {
	case got.kind == packetEvent:
		data = appendQuoted([]byte{'['}, got.name)
		if got.args.n > 0 {
			data = append(data, ',')
		}
		data = append(append(data, got.args.json...), ']')
	case got.kind == packetAck:
		data = append(append([]byte{'['}, got.args.json...), ']')
	default:
		data = got.args.json
	}
	if len(data) == 0 || len(want.Data) == 0 {
		if len(data) != len(want.Data) {
			t.Errorf("%s: %s, want %s", text, data, want.Data)
		}
		return
	}
	var gotData, wantData any
	if err := json.Unmarshal(data, &gotData); err != nil {
		if strings.Contains(text, "1e400") {
			return // Infinity to JavaScript, and no float64
		}
		t.Fatalf("%s: %v", text, err)
	}
	if err := json.Unmarshal(want.Data, &wantData); err != nil {
		t.Fatal(err)
	}
	if list, ok := wantData.([]any); ok && got.kind == packetEvent {
		if _, isNumber := list[0].(float64); isNumber {
			list[0] = got.name // its form has been seen to
		}
	}
	wantData = withBinary(wantData, base64.StdEncoding.EncodeToString)
	if !reflect.DeepEqual(wantData, gotData) && !strings.Contains(text, "__proto__") { // cmp takes for ever, deep down
		t.Errorf("%s: %v, want %v", text, gotData, wantData)
	}
}

// checkEncoded encodes a packet from Go values and compares with the frames that socket.io-parser
// has made.
func checkEncoded(t *testing.T, v vector) {
	p := packet{kind: packetType(v.Packet.Type), namespace: v.Packet.Nsp, eventData: dataOf("", "", 0, noID)}
	if len(v.Packet.ID) > 0 {
		p.ackID, _ = parseID(v.Packet.ID, 0)
	}
	var values []any
	if len(v.Packet.Data) > 0 {
		var data any
		if err := json.Unmarshal(v.Packet.Data, &data); err != nil {
			t.Fatal(err)
		}
		data = withBinary(data, func(b []byte) Binary { return b })
		if list, ok := data.([]any); ok {
			values = list
		} else {
			values = []any{data}
		}
		if p.kind == packetEvent {
			p.name, values = values[0].(string), values[1:]
		}
	}
	var err error
	if p.args, err = encodeArgs(values, noBound); err != nil {
		t.Fatal(err)
	}
	got := string(appendPacket(nil, p)[1:])
	want := v.Frames[0].Text
	// The two ways in which Go's JSON looks different: it escapes these line ends, and it knows no
	// half of a pair.
	want = strings.NewReplacer("\u2028", `\u2028`, "\u2029", `\u2029`, `\ud83d`, "\ufffd", `\ude00`, "\ufffd").Replace(want)
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if n := len(p.args.attachments); n != len(v.Frames)-1 {
		t.Fatalf("%s: %d attachments, want %d", got, n, len(v.Frames)-1)
	}
	for i, at := range p.args.attachments {
		if b := appendAttachment(nil, p.args.json, at); !bytes.Equal(b, v.Frames[i+1].Binary) {
			t.Errorf("%s: attachment %d is %x, want %x", got, i, b, v.Frames[i+1].Binary)
		}
	}
	if _, err := parsePacket([]byte(got)); err != nil {
		t.Errorf("%s: %v", got, err)
	}
}

const chatPacket = `212["send-msg",{"room":"lobby","text":"Good morning everyone, does anyone know?"}]`

func TestPacketAllocations(t *testing.T) {
	for _, test := range []struct {
		in   string
		want float64
	}{
		{chatPacket, 1},                     // the event's name
		{`2/admin,["move",1,2,{"x":3}]`, 2}, // and the namespace's
		{`37[{"ok":true}]`, 0},
		{`1`, 0},
	} {
		b := []byte(test.in)
		if n := testing.AllocsPerRun(100, func() { _, _ = parsePacket(b) }); n != test.want {
			t.Errorf("%s: %v allocations, want %v", b, n, test.want)
		}
	}
	p, err := parsePacket([]byte(chatPacket))
	if err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { buffer = appendPacket(buffer[:0], p) }); n != 0 {
		t.Errorf("appendPacket: %v allocations", n)
	}
}

func BenchmarkParsePacket(b *testing.B) {
	message := []byte(chatPacket)
	b.ReportAllocs()
	b.SetBytes(int64(len(message)))
	for b.Loop() {
		if _, err := parsePacket(message); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParsePacketEncodingJSON decodes the same array into raw values and the name.
func BenchmarkParsePacketEncodingJSON(b *testing.B) {
	message := []byte(chatPacket)
	b.ReportAllocs()
	b.SetBytes(int64(len(message)))
	for b.Loop() {
		var values []json.RawMessage
		var name string
		if err := json.Unmarshal(message[3:], &values); err != nil {
			b.Fatal(err)
		}
		if err := json.Unmarshal(values[0], &name); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendPacket(b *testing.B) {
	p, err := parsePacket([]byte(chatPacket))
	if err != nil {
		b.Fatal(err)
	}
	buffer := make([]byte, 0, 1024)
	b.ReportAllocs()
	b.SetBytes(int64(len(chatPacket)))
	for b.Loop() {
		buffer = appendPacket(buffer[:0], p)
	}
}
