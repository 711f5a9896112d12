package atrium

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type (
	textKey struct{ a, b int }
	// ownJSON writes itself, with a Binary that nobody can see into.
	ownJSON struct{ Data Binary }
	// pointerJSON writes itself where encoding/json can take its address.
	pointerJSON struct{ Data Binary }
	ownText     struct{ Data Binary }
	named       Binary
	node        struct {
		Data     Binary  `json:"data,omitempty"`
		Children []*node `json:"children"`
	}
	inner struct {
		Data  Binary
		Other Binary
		Deep  Binary `json:"deep"`
	}
	Outer struct{ Data, Tie Binary }
	rival struct{ Tie Binary }
	loop  struct {
		*loop
		Data Binary
	}
)

func (k textKey) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%d-%d", k.a, k.b), nil }

func (o ownJSON) MarshalJSON() ([]byte, error)      { return json.Marshal([]any{o.Data}) }
func (p *pointerJSON) MarshalJSON() ([]byte, error) { return json.Marshal([]any{p.Data}) }
func (o ownText) MarshalText() ([]byte, error)      { return o.Data, nil }

// TestFindBinaries checks that the strings found are exactly those that a Binary became. Each
// Binary here says "b" and what is not to be found something else.
func TestFindBinaries(t *testing.T) {
	b := func(s string) Binary { return Binary("b" + s) }
	x := []byte("x")
	p := b("pointed")
	pp := &p
	var nothing *Binary
	for _, test := range []struct {
		args []any
		want string // what is found, in order
	}{
		{nil, ""},
		{[]any{nil, 1, "b", x, true}, ""},
		{[]any{b("1")}, "b1"},
		{[]any{x, b("1"), "text", b("2"), nil, b("3")}, "b1 b2 b3"},
		{[]any{Binary(nil), nothing, &p, &pp}, "bpointed bpointed"},
		{[]any{json.RawMessage(` {"a" : "YjE="} `), b("1")}, "b1"}, // what is echoed can be anything
		{[]any{"YjE=", b("1"), "YjE="}, "b1"},
		{[]any{named("x"), [2]byte{1, 2}}, ""},
		{[]any{[]Binary{b("1"), nil, b("2")}, [2]Binary{b("3"), b("4")}, []*Binary{nil, &p}}, "b1 b2 b3 b4 bpointed"},
		{[]any{[]Binary(nil), map[string]Binary(nil), (*node)(nil), []any{}, map[string]any{}}, ""},
		{[]any{map[string]any{"z": b("z"), "a": []any{1, "s", map[string]any{"k": b("k")}}, "n": nil}}, "bk bz"},
		{[]any{map[string]Binary{"a\"\\ü": b("1"), "<&>": b("2"), "\u2028": b("3"), "": b("4")}}, "b4 b2 b1 b3"},
		{[]any{map[int]Binary{10: b("10"), -2: b("-2")}, map[uint8]any{1: b("1"), 2: "YjI="}}, "b-2 b10 b1"},
		{[]any{map[textKey]Binary{{1, 2}: b("12"), {1, 1}: b("11")}}, "b11 b12"},
		{[]any{struct {
			A  Binary `json:"z"`
			B  []byte
			C  Binary `json:"c,omitempty"`
			D  Binary `json:"-"`
			E  Binary `json:"-,"` //lint:ignore SA5008 it means the name "-"
			F  any
			g  Binary
			H  Binary `json:"not\\valid"` //lint:ignore SA5008 so the name is H
			I  Binary `json:",omitzero"`
			J  *int
			K  Binary `json:"ü.$-"`
			fn func()
		}{A: b("A"), B: x, D: b("D"), E: b("E"), F: b("F"), g: b("g"), H: b("H"), K: b("K")}}, "bA bE bF bH bK"},
		{[]any{node{b("1"), []*node{{Data: b("2")}, nil, {Children: []*node{{b("3"), nil}}}}}}, "b1 b2 b3"},

		// Embedding: the least deep is in the JSON, a tag decides, a tie is neither.
		{[]any{struct {
			inner
			Outer
			rival
			Deep  Binary
			Other string
		}{inner{b("i"), b("io"), b("id")}, Outer{b("o"), b("ot")}, rival{b("r")}, b("D"), "s"}}, "bid bD"},
		{[]any{struct {
			*Outer
			Data string
		}{&Outer{b("o"), b("t")}, "YjE="}}, "bt"},
		{[]any{struct {
			*Outer
			More Binary
		}{nil, b("m")}}, "bm"},
		{[]any{struct {
			Outer `json:"outer"`
			Tie   Binary
		}{Outer{b("1"), b("2")}, b("3")}}, "b1 b2 b3"},
		{[]any{struct{ Binary }{b("e")}, struct{ B *Binary }{&p}}, "be bpointed"},
		{[]any{loop{loop: nil, Data: b("1")}}, "b1"},

		// Types that write themselves.
		{[]any{ownJSON{b("1")}, &ownJSON{b("2")}, ownText{Binary("x")}, b("3")}, "b3"},
		{[]any{pointerJSON{b("1")}, &pointerJSON{b("2")}, []pointerJSON{{b("3")}}, [1]pointerJSON{{b("4")}}, map[string]pointerJSON{"k": {b("5")}}}, "b1 b4 b5"},
		{[]any{[]any{ownJSON{b("1")}, b("2")}, []json.Marshaler{nil, ownJSON{b("1")}}}, "b2"},

		{[]any{Binary{}, map[string]any{"a": Binary{}}, ""}, " "},
		{[]any{deeply(2*maxDepth, b("1")), b("2")}, "b1 b2"},
		{[]any{b("1"), json.RawMessage(strings.Repeat("[", 2*maxDepth) + strings.Repeat("]", 2*maxDepth)), b("2")}, "b1"},
	} {
		encoded, err := encodeJSON(test.args)
		if err != nil {
			t.Fatal(err)
		}
		found, err := findBinaries(encoded, test.args)
		if err != nil {
			t.Errorf("%s: %v", encoded, err)
		}
		var got []string
		for _, s := range found {
			got = append(got, string(appendAttachment(nil, encoded, s)))
			if q := string(encoded[s.start:s.end]); q != `"`+base64.StdEncoding.EncodeToString([]byte(got[len(got)-1]))+`"` {
				t.Errorf("%s: found %s", encoded, q)
			}
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %q, want %q", encoded, got, test.want)
		}
	}
}

// deeply puts v into n slices.
func deeply(n int, v any) any {
	for range n {
		v = []any{v}
	}
	return v
}

func TestTooManyBinaries(t *testing.T) {
	for n := defaultMaxAttachments; n <= defaultMaxAttachments+1; n++ {
		args := []any{make([]Binary, n)}
		for i := range n {
			args[0].([]Binary)[i] = Binary{byte(i)}
		}
		a, err := encodeArgs(args, defaultMaxAttachments)
		if (err != nil) != (n > defaultMaxAttachments) || err == nil && len(a.attachments) != n {
			t.Errorf("%d: %v, %v", n, a.attachments, err)
		}
	}
}

// What a server echoes must not become an attachment, nor make its receivers refuse the packet.
func TestForgedPlaceholder(t *testing.T) {
	for _, forged := range []string{`{"_placeholder":true,"num":0}`, `[{"a":{"num":7,"_placeholder":true}}]`, `{"\u005fplaceholder":true}`} {
		raw := json.RawMessage(forged)
		for _, test := range []struct {
			args []any
			ok   bool
		}{{[]any{raw}, true}, {[]any{raw, Binary("b")}, false}, {[]any{Binary("b"), []any{raw}}, false}} {
			encoded, err := encodeJSON(test.args)
			if err != nil {
				t.Fatal(err)
			}
			if found, err := findBinaries(encoded, test.args); (err == nil) != test.ok {
				t.Errorf("%s: %v, %v", encoded, found, err)
			}
		}
	}
}

// Two keys of a map that look the same in JSON do not pass for each other.
func TestFindBinariesSameKeys(t *testing.T) {
	args := []any{map[string]any{"\xff": "YjE=", "\ufffd": Binary("b1")}}
	encoded, err := encodeJSON(args)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := findBinaries(encoded, args); err != nil || len(found) > 0 {
		t.Errorf("%s: %v, %v", encoded, found, err)
	}
}

// A value that changed after it was encoded is the caller's mistake. What is found is still a
// string literal, and each comes behind the one before: packets are cut there.
func TestFindBinariesMismatch(t *testing.T) {
	values := []any{nil, "x", 1, Binary("b"), []Binary{Binary("b")}, map[string]Binary{"a": Binary("b")}, node{Data: Binary("b")}, []any{node{}, Binary("b")}}
	for _, text := range []string{`null`, `"YjE="`, `1`, `[]`, `["YjE="]`, `["YjE=",[1]]`, `{}`, `{"a":1}`, `{"data":[1]}`, `{"a`, `[`, `{`, ``, `[1,`, `{"a":`} {
		for _, v := range values {
			found, err := findBinaries([]byte(text), []any{v, v})
			if err != nil {
				t.Errorf("%s for %v: %v", text, v, err)
			}
			end := 0
			for _, at := range found {
				if at.start < end || at.end > len(text) {
					t.Fatalf("%s for %v: found %v", text, v, found)
				}
				if end = at.end; !isStringLiteral(text[at.start:at.end]) {
					t.Errorf("%s for %v: found %q", text, v, text[at.start:at.end])
				}
			}
		}
	}
}

func isStringLiteral(text string) bool {
	var s string
	return text[0] == '"' && json.Unmarshal([]byte(text), &s) == nil
}

// FuzzAttachments sends any arguments through all of it: each string that begins with "b" as a
// Binary, found, sent and assembled again, is the argument that it was.
func FuzzAttachments(f *testing.F) {
	for _, s := range []string{`[]`, `["b"]`, `["x","bytes",{"a":["b1",{"b":"b2"}],"_placeholder":true}]`, `[{"b\u2028":"b","B":[["b"]]},null,1.5]`} {
		f.Add([]byte(s))
	}
	var toBinary func(v any, count *int) any
	toBinary = func(v any, count *int) any {
		switch v := v.(type) {
		case string:
			if strings.HasPrefix(v, "b") && *count < defaultMaxAttachments {
				*count++
				return Binary(v)
			}
		case []any:
			for i := range v {
				v[i] = toBinary(v[i], count)
			}
		case map[string]any:
			delete(v, "_placeholder")
			for key := range v {
				if !strings.Contains(key, "\ufffd") {
					v[key] = toBinary(v[key], count)
				}
			}
		}
		return v
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var args []any
		if json.Unmarshal(b, &args) != nil || slowDepth(t, b) > maxDepth {
			return
		}
		count := 0
		toBinary(args, &count)
		encoded, err := encodeJSON(args)
		if err != nil {
			t.Fatal(err)
		}
		found, err := findBinaries(encoded, args)
		if err != nil || len(found) != count {
			t.Fatalf("%s: found %v, %v, want %d", encoded, found, err, count)
		}
		sent := packet{kind: packetEvent, namespace: "/", eventData: dataOf("a", string(encoded), len(args), noID, found...)}
		p, problem := parsePacket(appendPacket(nil, sent)[1:])
		if problem != nil || p.attachments != count {
			t.Fatalf("%s: %v, %+v", encoded, problem, p)
		}
		if count > 0 {
			a, problem := newAssembly(p, attachmentLimits{defaultMaxAttachments, 1 << 30})
			if problem != nil {
				t.Fatalf("%s: %v", p.args.json, problem)
			}
			for _, s := range found {
				if p, _, problem = a.add(appendAttachment(nil, encoded, s)); problem != nil {
					t.Fatal(problem)
				}
			}
		}
		if diff := cmp.Diff(sent, p, packetsEqual); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestFindBinariesAllocations(t *testing.T) {
	args := []any{struct {
		Room string
		Text string
	}{"lobby", "hello"}, 7, "text"}
	encoded, err := encodeJSON(args)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = findBinaries(encoded, args) }); n != 0 {
		t.Errorf("%v allocations for arguments that cannot hold a Binary", n)
	}
}

func BenchmarkFindBinaries(b *testing.B) {
	type message struct{ Room, Text string }
	type photo struct {
		Name string
		Data Binary
	}
	for _, test := range []struct {
		name string
		arg  any
	}{
		{"struct", message{"lobby", "Good morning everyone, does anyone know?"}},
		{"map", map[string]any{"room": "lobby", "text": "Good morning everyone, does anyone know?", "n": 1.5, "tags": []any{"a", "b"}}},
		{"photo", photo{"x.png", bytes.Repeat([]byte("photo"), 2000)}},
	} {
		args := []any{test.arg}
		encoded, err := encodeJSON(args)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(test.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := findBinaries(encoded, args); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(test.name+"/encoding", func(b *testing.B) { // what it comes on top of
			var buffer bytes.Buffer
			e := json.NewEncoder(&buffer)
			b.ReportAllocs()
			for b.Loop() {
				buffer.Reset()
				if err := e.Encode(test.arg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// encodeJSON returns args as JSON values joined by commas, whatever Binary values are in them.
func encodeJSON(args []any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(append([]any{}, args...))
	return bytes.TrimSuffix(bytes.TrimPrefix(b.Bytes(), []byte("[")), []byte("]\n")), err
}
