package atrium

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseExtensions(t *testing.T) {
	type params = []extensionParam
	broken := extension{broken: true}
	tests := []struct {
		name  string
		lines []string
		want  []extension
		bad   bool // the header as a whole
	}{
		{name: "no line"},
		{name: "an empty line", lines: []string{""}},
		{name: "empty elements", lines: []string{" ,\t, "}},
		{name: "a name", lines: []string{"a"}, want: []extension{{name: "a"}}},
		{name: "several", lines: []string{"a, b ,c"}, want: []extension{{name: "a"}, {name: "b"}, {name: "c"}}},
		{name: "several lines", lines: []string{"a", "b,c"}, want: []extension{{name: "a"}, {name: "b"}, {name: "c"}}},
		{name: "an empty element between", lines: []string{",a,,b,"}, want: []extension{{name: "a"}, {name: "b"}}},
		{name: "parameters", lines: []string{"a;b;c=1"}, want: []extension{{name: "a", params: params{{"b", ""}, {"c", "1"}}}}},
		{name: "spaces", lines: []string{" a ; b\t;\tc = 1 "}, want: []extension{{name: "a", params: params{{"b", ""}, {"c", "1"}}}}},
		{name: "the same twice", lines: []string{"a;b;b"}, want: []extension{{name: "a", params: params{{"b", ""}, {"b", ""}}}}},
		{name: "60 quoted", lines: []string{`a;b="1"`}, want: []extension{{name: "a", params: params{{"b", "1"}}}}},
		{name: "60 quoted with escapes", lines: []string{`a;b="\1\0"`}, want: []extension{{name: "a", params: params{{"b", "10"}}}}},
		{name: "single quotes are no quotes", lines: []string{`a;b='1'`}, want: []extension{{name: "a", params: params{{"b", "'1'"}}}}},
		{name: "quoted, not a token", lines: []string{`a;b="1;2,3", c`}, want: []extension{broken, {name: "c"}}},
		{name: "quoted, an escaped quote", lines: []string{`a;b="1\",2", c`}, want: []extension{broken, {name: "c"}}},
		{name: "quoted, empty", lines: []string{`a;b="", c`}, want: []extension{broken, {name: "c"}}},
		{name: "quoted twice", lines: []string{`a;b="1""2", c`}, want: []extension{broken, {name: "c"}}},
		{name: "a quoted name", lines: []string{`"a", c`}, want: []extension{broken, {name: "c"}}},
		{name: "a quoted parameter", lines: []string{`a;"b", c`}, want: []extension{broken, {name: "c"}}},
		{name: "an empty value", lines: []string{`a;b=, c`}, want: []extension{broken, {name: "c"}}},
		{name: "an empty parameter", lines: []string{`a;, c`}, want: []extension{broken, {name: "c"}}},
		{name: "no name", lines: []string{`;b, c`}, want: []extension{broken, {name: "c"}}},
		{name: "a name with a value", lines: []string{`a=1, c`}, want: []extension{broken, {name: "c"}}},
		{name: "two equal signs", lines: []string{`a;b=1=2, c`}, want: []extension{broken, {name: "c"}}},
		{name: "two words", lines: []string{`a b, c`}, want: []extension{broken, {name: "c"}}},
		{name: "not ASCII", lines: []string{"é, c"}, want: []extension{broken, {name: "c"}}},
		{name: "50 an unclosed quote", lines: []string{`a, b;c="1`}, bad: true},
		{name: "50 a stray quote", lines: []string{`a;b=1", c`}, bad: true},
		{name: "50 an escaped closing quote", lines: []string{`a;b="1\"`}, bad: true},
		{name: "50 quotes do not reach over lines", lines: []string{`a;b="1`, `2"`}, bad: true},
		{name: "50 just short enough", lines: []string{"a", strings.Repeat("a", maxExtensionsHeader-1)},
			want: []extension{{name: "a"}, {name: strings.Repeat("a", maxExtensionsHeader-1)}}},
		{name: "50 too long", lines: []string{"a", strings.Repeat("a", maxExtensionsHeader)}, bad: true},
		{name: "50 thousands of offers", lines: []string{strings.Repeat("permessage-deflate, ", 5000)}, bad: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := parseExtensions(test.lines)
			if ok == test.bad {
				t.Fatalf("ok = %t", ok)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(extension{}, extensionParam{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The grammar of RFC 6455 §9.1.
const (
	tokenPattern  = "[-!#$%&'*+.^_`|~0-9A-Za-z]+"
	quotedPattern = `"(?:[^"\\]|\\.)*"`
	paramPattern  = `[ \t]*;[ \t]*(` + tokenPattern + `)(?:[ \t]*=[ \t]*(` + tokenPattern + `|"(?:\\?` + tokenPattern + `)+"))?`
)

var (
	quotedLine     = regexp.MustCompile(`(?s)^(?:[^"]|` + quotedPattern + `)*$`)
	elementOfLine  = regexp.MustCompile(`(?s)(?:[^",]|` + quotedPattern + `)+`)
	grammar        = regexp.MustCompile(`^[ \t]*(` + tokenPattern + `)((?:` + paramPattern + `)*)[ \t]*$`)
	paramOfElement = regexp.MustCompile(paramPattern)
	escape         = regexp.MustCompile(`\\(.)`)
)

// slowExtensions says what parseExtensions should, in the words of the grammar.
func slowExtensions(line string) (list []extension, ok bool) {
	if len(line) > maxExtensionsHeader || !quotedLine.MatchString(line) {
		return nil, false
	}
	for _, element := range elementOfLine.FindAllString(line, -1) {
		switch match := grammar.FindStringSubmatch(element); {
		case strings.Trim(element, " \t") == "":
		case match == nil:
			list = append(list, extension{broken: true})
		default:
			e := extension{name: match[1]}
			for _, p := range paramOfElement.FindAllStringSubmatch(match[2], -1) {
				value := escape.ReplaceAllString(strings.Trim(p[2], `"`), "$1")
				e.params = append(e.params, extensionParam{p[1], value})
			}
			list = append(list, e)
		}
	}
	return list, true
}

func FuzzExtensions(f *testing.F) {
	for _, line := range []string{
		"permessage-deflate; client_max_window_bits",
		"permessage-deflate; server_max_window_bits=10; client_max_window_bits=\"8\", permessage-deflate",
		`a;b="1\",2", c ;d = e;`,
		`a;b="1""2",,;`,
		`a="1`,
		"x-webkit-deflate-frame, foo; bar=; baz='1'",
		"\\\",a\x00;\xff",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got, ok := parseExtensions([]string{line})
		want, wantOK := slowExtensions(line)
		if ok != wantOK {
			t.Fatalf("ok = %t, want %t", ok, wantOK)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(extension{}, extensionParam{})); diff != "" {
			t.Fatal(diff)
		}

		// What is agreed is what was offered, and the other end agrees that it is.
		params, response := acceptDeflate([]string{line})
		if response == "" {
			return
		}
		if !strings.Contains(line, deflateName) || params.windowBits < 8 || params.windowBits > 15 {
			t.Fatalf("accepted with %+v", params)
		}
		if agreed, err := checkDeflate([]string{response}); agreed.windowBits == 0 || err != nil {
			t.Fatalf("a client would refuse %q: %v", response, err)
		}
	})
}

// TestExtensionsLinear: what takes square time on a megabyte would take minutes.
func TestExtensionsLinear(t *testing.T) {
	for _, piece := range []string{",", ";", `"`, `\`, `"\`, `""`, "=", " ", "a;", "a,", `a="`, `;"`, `,"`} {
		line := strings.Repeat(piece, 1<<20/len(piece))
		done := make(chan struct{})
		go func() {
			defer close(done)
			acceptDeflate([]string{line})
			// The length is refused first; beneath that, the parts are linear by themselves.
			quotesClosed(line)
			for element := range splitUnquoted(line, ',') {
				parseExtension(element)
			}
			unquoteToken(`"` + line + `"`)
		}()
		within(t, done, fmt.Sprintf("%q repeated to 1 MB", piece))
	}
}

func BenchmarkAcceptDeflate(b *testing.B) {
	offers := []string{"permessage-deflate; client_max_window_bits"} // Chrome's
	b.ReportAllocs()
	for b.Loop() {
		acceptDeflate(offers)
	}
}
