package atrium

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// chatMessage is a chat message of 199 bytes; the benchmarks share it.
const chatMessage = `{"event":"send-msg","data":{"room":"lobby","text":"Good morning everyone, does anyone know ` +
	`when the release goes out? I \"think\" it was noon.","user":{"id":12345,"name":"Ada"},"sent":1717171717.25}}`

var validJSON = []string{
	`null`, `true`, `false`,
	`0`, `-0`, `1`, `-1`, `10`, `1234567890123456789012345678901234567890`,
	`0.0`, `-0.5`, `1.25`, `1e9`, `1E9`, `1e+9`, `1e-9`, `0e0`, `1.5e300`, `1e999999`,
	`""`, `"a"`, `"é"`, `"😀"`, "\"\x7f\"", `"seven b"`, `"eight by"`, `"nine byte"`,
	`"\""`, `"\\"`, `"\/"`, `"\b\f\n\r\t"`, `"\u0000"`, `"\uD83D\ude00"`, `"\ud800"`, `"12345\"8"`, `"1234567\\"`,
	`[]`, `[ ]`, `{}`, `{ }`, `[1]`, `[1,2]`, `[ 1 , 2 ]`, `[[],{}]`, `[[[[]]]]`,
	`{"a":1}`, `{ "a" : 1 , "b" : [ ] }`, `{"":null}`, `{"a":1,"a":2}`, `{"\u0061":{"b":{"c":[{}]}}}`,
	"[\t1\n,\r\n2 ]",
	"\"\xff\"", // not UTF-8: not this layer's matter
	chatMessage,
}

func TestSkipValue(t *testing.T) {
	for _, s := range validJSON {
		if !json.Valid([]byte(s)) {
			t.Fatalf("the table is wrong: %q", s)
		}
		for _, around := range []struct{ before, after string }{
			{"", ""}, {"", " "}, {"", ","}, {"", "]"}, {"[", "]"}, {`{"key":`, "}x"}, {"", `"`}, {"        ", "        "},
		} {
			b := []byte(around.before + s + around.after)
			end, err := skipValue(b, len(around.before))
			if err != nil || end != len(around.before)+len(s) {
				t.Errorf("skipValue(%q, %d) = %d, %v", b, len(around.before), end, err)
			}
		}
	}
}

func TestSkipValueRefuses(t *testing.T) {
	const (
		value   = "a value"
		key     = "a key in quotes"
		digit   = "a digit"
		escape  = `an escape such as \n or \u000a`
		quote   = "a closing quote"
		control = "no control character in a string"
		more    = "',' or '}'"
		moreIn  = "',' or ']'"
	)
	for _, test := range []struct {
		in       string
		offset   int
		expected string
	}{
		{"", 0, value}, {" ", 0, value}, {" 1", 0, value}, {",", 0, value}, {":", 0, value}, {"]", 0, value}, {"}", 0, value},
		{"n", 0, value}, {"nul", 0, value}, {"nulL", 0, value}, {"True", 0, value}, {"tru", 0, value}, {"fals", 0, value},
		{"NaN", 0, value}, {"Infinity", 0, value}, {"undefined", 0, value}, {"'a'", 0, value}, {"\ufeff1", 0, value},
		{"\xff", 0, value}, {"\x00", 0, value}, {"/*c*/1", 0, value},
		{"+1", 0, value}, {".5", 0, value}, {"-", 1, digit}, {"--1", 1, digit}, {"-.5", 1, digit}, {"-a", 1, digit},
		{"1.", 2, digit}, {"1.e5", 2, digit}, {"0.", 2, digit}, {"1e", 2, digit}, {"1e+", 3, digit}, {"1E-x", 3, digit},
		{`"`, 1, quote}, {`"abc`, 4, quote}, {`"abc\"`, 6, quote}, {`"12345678`, 9, quote},
		{`"\`, 1, escape}, {`"a\x"`, 2, escape}, {`"\'"`, 1, escape}, {`"\u"`, 1, escape}, {`"\u12"`, 1, escape},
		{`"\u123g"`, 1, escape}, {`"\u123`, 1, escape}, {`"\U0001"`, 1, escape}, {`"\u 123"`, 1, escape}, {`"\u-123"`, 1, escape},
		{"\"\n\"", 1, control}, {"\"\x00\"", 1, control}, {"\"\x1f\"", 1, control}, {"\"12345678\t\"", 9, control},
		{"[", 1, value}, {"[1", 2, moreIn}, {"[1,", 3, value}, {"[1,]", 3, value}, {"[,1]", 1, value}, {"[1 2]", 3, moreIn},
		{"[1}", 2, moreIn}, {"[1,,2]", 3, value}, {"[01]", 2, moreIn}, {"[-01]", 3, moreIn}, {"[1:2]", 2, moreIn}, {"[0x1]", 2, moreIn},
		{"[nullnull]", 5, moreIn}, {"[1;2]", 2, moreIn}, {"[1\v]", 2, moreIn}, {"[1\u00a0]", 2, moreIn},
		{"{", 1, key}, {"{1:2}", 1, key}, {"{a:1}", 1, key}, {"{,}", 1, key}, {`{"a"`, 4, "':'"}, {`{"a"}`, 4, "':'"},
		{`{"a" 1}`, 5, "':'"}, {`{"a":`, 5, value}, {`{"a":}`, 5, value}, {`{"a":1`, 6, more}, {`{"a":1,`, 7, key},
		{`{"a":1,}`, 7, key}, {`{"a":1]`, 6, more}, {`{"a":1 "b":2}`, 7, more}, {`{"a"::1}`, 5, value}, {`{"a`, 3, quote},
		{`{"a":{"b":[1}}`, 12, moreIn}, {`[{"b":1]`, 7, more}, {"[[]", 3, moreIn}, {"{null:1}", 1, key}, {"{[]:1}", 1, key},
	} {
		if json.Valid([]byte(test.in)) && test.in != " 1" {
			t.Fatalf("the table is wrong: %q", test.in)
		}
		end, err := skipValue([]byte(test.in), 0)
		if want := (syntaxError{test.offset, test.expected}); err != want {
			t.Errorf("skipValue(%q) = %d, %v; want %v", test.in, end, err, want)
		}
	}
	const want = "invalid JSON at byte 17: expected a value"
	if got := (syntaxError{17, value}).Error(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSkipValueTruncated(t *testing.T) {
	whole := []byte(`{"a":[1.5e-3,true,"\u00e9\n",{"b":null}],"c":{}}`)
	for n := range whole {
		if _, err := skipValue(whole[:n], 0); err == nil {
			t.Errorf("%q passes", whole[:n])
		}
	}
}

func TestNestingDepth(t *testing.T) {
	for _, test := range []struct{ name, open, close string }{
		{"arrays", "[", "]"},
		{"objects", `{"a":`, "}"},
		{"both", `[{"a":`, "}]"},
		{"both, the other way", `{"a":[`, "]}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			levels := strings.Count(test.open, "[") + strings.Count(test.open, "{")
			nested := func(depth int) []byte {
				n := depth / levels
				return []byte(strings.Repeat(test.open, n) + "[]" + strings.Repeat(test.close, n))
			}
			// The [] in the middle is a level too.
			if _, err := skipValue(nested(maxDepth-levels), 0); err != nil {
				t.Error(err)
			}
			deep := nested(maxDepth)
			var syntax syntaxError
			if _, err := skipValue(deep, 0); !errors.As(err, &syntax) || syntax.offset != bytes.Index(deep, []byte("[]")) {
				t.Errorf("got %v, want an error at the innermost array", err)
			}
			if _, err := skipValue(nested(1_000_000), 0); err == nil {
				t.Error("a million levels pass")
			}
		})
	}
	// Levels that are closed again do not count.
	wide := []byte("[" + strings.Repeat(`[{"a":[]}],`, 1000) + "[]]")
	if end, err := skipValue(wide, 0); err != nil || end != len(wide) {
		t.Errorf("skipValue = %d, %v", end, err)
	}
}

// Every byte, at every place in and around a word of eight, between neighbours at the edges of what
// is found.
func TestSkipPlain(t *testing.T) {
	slow := func(b []byte, i int) int {
		for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
			i++
		}
		return i
	}
	for _, neighbour := range []byte{' ', '!', '#', '[', ']', '~', 0x7f, 0x80, 0x81, 0x9f, 0xa0, 0xa2, 0xdc, 0xff} {
		for n := range 20 {
			b := bytes.Repeat([]byte{neighbour}, n)
			for at := range n {
				for c := range 256 {
					b[at] = byte(c)
					for i := range min(at+1, 3) {
						if got, want := skipPlain(b, i), slow(b, i); got != want {
							t.Fatalf("skipPlain(%q, %d) = %d, want %d", b, i, got, want)
						}
					}
				}
				b[at] = neighbour
			}
		}
	}
}

func TestObjectReader(t *testing.T) {
	for _, test := range []struct {
		in   string
		want []string // key, value, key, value …
		end  int
		err  error
	}{
		{`{}`, nil, 2, nil},
		{`{ } `, nil, 3, nil},
		{`{"a":1}`, []string{"a", "1"}, 7, nil},
		{"{ \"a\" : [1, 2] ,\n\"b\":\"}\"}, x", []string{"a", "[1, 2]", "b", `"}"`}, 25, nil},
		{`{"a":1,"a":2}`, []string{"a", "1", "a", "2"}, 13, nil},
		{`{"\u0061\n":1}`, []string{"a\n", "1"}, 14, nil},
		{`{"a":1`, []string{"a", "1"}, 0, syntaxError{6, "',' or '}'"}},
		{`{"a":1{`, []string{"a", "1"}, 0, syntaxError{6, "',' or '}'"}},
		{`{"a":1,}`, []string{"a", "1"}, 0, syntaxError{7, "a key in quotes"}},
		{`{"a":1,"b":}`, []string{"a", "1"}, 0, syntaxError{11, "a value"}},
		{`{"a" 1}`, nil, 0, syntaxError{5, "':'"}},
		{`{`, nil, 0, syntaxError{1, "a key in quotes"}},
		{`{,}`, nil, 0, syntaxError{1, "a key in quotes"}},
	} {
		const before = "[ "
		object := objectReader{b: []byte(before + test.in), i: len(before)}
		var got []string
		for object.next() {
			got = append(got, string(object.key), string(object.value))
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q: %s", test.in, diff)
		}
		want := test.err
		if at, ok := want.(syntaxError); ok {
			want = syntaxError{at.offset + len(before), at.expected}
		}
		if object.err != want || want == nil && object.i != len(before)+test.end {
			t.Errorf("%q: ended at %d with %v, want %d, %v", test.in, object.i, object.err, len(before)+test.end, want)
		}
	}
}

func TestUnquote(t *testing.T) {
	for _, literal := range []string{
		`""`, `"a"`, `"plain text of some length"`, `"é😀"`, `"\"\\\/\b\f\n\r\t"`, `"a\nb"`, `"\u00e9"`, `"\u00E9x"`,
		`"\ud83d\ude00"`, `"\uD83D\uDE00"`, `"\ud83d"`, `"\ude00"`, `"\ude00\ud83d"`, `"\ud83d\ud83d\ude00"`, `"\ud83dx"`,
		`"\ud83d\n"`, `"\ud83d\u0041"`, `"\ud83d\\ude00"`, `"\u0000"`, `"\u2028"`, `"\ufffd"`, `"\ufffe\uffff"`, "\"\u2028\"",
		"\"\xff\"", "\"a\xc3\"", "\"\xed\xa0\x80\"", "\"\\n\xff\xfe\"", "\"\xf0\x9f\x98\"", "\"\\ud83d\xff\"", "\"\ufeff\"",
	} {
		var want string
		if err := json.Unmarshal([]byte(literal), &want); err != nil {
			t.Fatal(err)
		}
		if got, ok := unquote([]byte(literal)); !ok || got != want {
			t.Errorf("unquote(%q) = %q, %v; want %q", literal, got, ok, want)
		}
	}
	for _, b := range []string{
		``, `"`, `a`, `null`, `1`, `[""]`, `"a`, `a"`, `"a"b"`, `"a""`, `"a" `, ` "a"`, `"\"`, `"\x"`, `"\u12"`, "\"\n\"", `'a'`, `"a\"b`,
	} {
		if got, ok := unquote([]byte(b)); ok || got != "" {
			t.Errorf("unquote(%q) = %q, %v; it is no string literal", b, got, ok)
		}
	}
}

// Every \u escape, alone and behind each kind of surrogate.
func TestUnquoteEveryEscape(t *testing.T) {
	for _, before := range []string{``, `\ud83d`, `\ude00`} {
		for r := range 0x10000 {
			literal := fmt.Appendf(nil, `"%s\u%04x."`, before, r)
			var want string
			if err := json.Unmarshal(literal, &want); err != nil {
				t.Fatal(err)
			}
			if got, ok := unquote(literal); !ok || got != want {
				t.Fatalf("unquote(%q) = %q, %v; want %q", literal, got, ok, want)
			}
		}
	}
}

// slowQuoted is what appendQuoted must agree with.
func slowQuoted(t testing.TB, s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func TestAppendQuoted(t *testing.T) {
	strs := []string{
		"", "a", "plain text", "<a href=\"x\">&amp;</a>", `\`, `"`, "é😀", "\u2028\u2029", "a\u2028b", "\u2027\u202a", "\ufffd", "\ufeff",
		"\xff", "a\xffb", "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80", "é\xffé", "\x7f\u0080", "ends in \n", "\nbegins",
	}
	for c := range 0x300 {
		strs = append(strs, string(rune(c)), string([]byte{byte(c)}), "a"+string(rune(c))+"b")
	}
	for _, s := range strs {
		want := slowQuoted(t, s)
		if got := string(appendQuoted([]byte("x"), s)); got != "x"+want {
			t.Errorf("appendQuoted(%q) = %q, want %q", s, got, "x"+want)
		}
	}
}

// slowDepth returns how deep the valid JSON in b nests.
func slowDepth(t testing.TB, b []byte) (deepest int) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	for depth := 0; ; {
		token, err := dec.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('['), json.Delim('{'):
			depth++
			deepest = max(deepest, depth)
		case json.Delim(']'), json.Delim('}'):
			depth--
		}
	}
}

// jsonField is one field of an object, its key without escapes.
type jsonField struct{ Key, Value string }

// slowFields returns the fields of the valid JSON object b in order.
func slowFields(t testing.TB, b []byte) (fields []jsonField) {
	dec := json.NewDecoder(bytes.NewReader(b))
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			t.Fatal(err)
		}
		fields = append(fields, jsonField{key.(string), string(value)})
	}
	return fields
}

// FuzzJSON checks that this file and encoding/json see the same thing in any bytes.
func FuzzJSON(f *testing.F) {
	for _, s := range validJSON {
		f.Add([]byte(s))
		f.Add([]byte(" [" + s + " , " + s + "] "))
		f.Add([]byte(s[:len(s)-1]))
	}
	for _, s := range []string{"", "[1,]", "01", "nul", `"\ud83d\u00`, "[1\x00]", `{"a":1,"b"}`, strings.Repeat("[", 129) + strings.Repeat("]", 129)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		start := skipSpace(b, 0)
		end, err := skipValue(b, start)
		got := err == nil && skipSpace(b, end) == len(b)
		if want := json.Valid(b) && slowDepth(t, b) <= maxDepth; got != want {
			t.Fatalf("skipValue says %v (%v), want %v", got, err, want)
		}
		if err == nil && !json.Valid(b[start:end]) {
			t.Fatalf("skipValue accepts %q", b[start:end])
		}
		var syntax syntaxError
		if err != nil && (!errors.As(err, &syntax) || syntax.offset < start || syntax.offset > len(b)) {
			t.Fatalf("skipValue's error is %#v", err)
		}

		if want := slowQuoted(t, string(b)); string(appendQuoted(nil, string(b))) != want {
			t.Fatalf("appendQuoted = %q, want %q", appendQuoted(nil, string(b)), want)
		}
		var literal string
		isLiteral := len(b) > 0 && b[0] == '"' && b[len(b)-1] == '"' && json.Unmarshal(b, &literal) == nil
		if s, ok := unquote(b); ok != isLiteral || s != literal {
			t.Fatalf("unquote = %q, %v; want %q, %v", s, ok, literal, isLiteral)
		}

		if got && b[start] == '[' {
			var want []json.RawMessage
			if err := json.Unmarshal(b, &want); err != nil {
				t.Fatal(err)
			}
			a := parseArray(b[start:end])
			same := func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }
			if values := a.values(); a.n != len(want) || !slices.EqualFunc(values, want, same) {
				t.Fatalf("parseArray: %d values, %q, want %q", a.n, values, want)
			}
		}
		if got && b[start] == '{' && utf8.Valid(b) {
			var fields []jsonField
			object := objectReader{b: b, i: start}
			for object.next() {
				fields = append(fields, jsonField{string(object.key), string(object.value)})
			}
			if diff := cmp.Diff(slowFields(t, b), fields); diff != "" || object.err != nil || object.i != end {
				t.Fatalf("objectReader ends at %d with %v: %s", object.i, object.err, diff)
			}
		}
		if !bytes.Equal(b, before) {
			t.Fatal("the input was changed")
		}
	})
}

func TestJSONAllocatesNothing(t *testing.T) {
	b, list := []byte(chatMessage), []byte(`[1,{"a":[2]},"three"]`)
	quoted := make([]byte, 0, 1024)
	for name, f := range map[string]func(){
		"skipValue":    func() { _, _ = skipValue(b, 0) },
		"parseArray":   func() { parseArray(list).first() },
		"appendQuoted": func() { quoted = appendQuoted(quoted[:0], chatMessage) },
		"objectReader": func() {
			for object := (objectReader{b: b}); object.next(); {
			}
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkSkipValue(b *testing.B) {
	message := []byte(chatMessage)
	b.ReportAllocs()
	b.SetBytes(int64(len(message)))
	for b.Loop() {
		if _, err := skipValue(message, 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSkipValueEncodingJSON(b *testing.B) {
	message := []byte(chatMessage)
	b.ReportAllocs()
	b.SetBytes(int64(len(message)))
	for b.Loop() {
		if !json.Valid(message) {
			b.Fatal("invalid")
		}
	}
}

func BenchmarkUnquote(b *testing.B) {
	for name, literal := range map[string][]byte{
		"plain":   []byte(`"Good morning everyone, does anyone know?"`),
		"escaped": []byte(`"Good morning everyone, \"does\" anyone know?"`),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := unquote(literal); !ok {
					b.Fatal("refused")
				}
			}
		})
		b.Run(name+"/encodingJSON", func(b *testing.B) {
			b.ReportAllocs()
			var s string
			for b.Loop() {
				if err := json.Unmarshal(literal, &s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
