package atrium

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dataOf returns an event's data; without a name, that of an acknowledgement.
func dataOf(name, json string, n int, id int64, attachments ...span) eventData {
	e := eventData{name: name, args: args{n: n, attachments: attachments}, ackID: id}
	if json != "" {
		e.args.json = []byte(json)
	}
	return e
}

func TestArgs(t *testing.T) {
	for _, test := range []struct {
		array string
		want  []string
	}{
		{"[]", nil},
		{"[  ]", nil},
		{"[1]", []string{"1"}},
		{"[ 1 ]", []string{"1"}},
		{"[1,2]", []string{"1", "2"}},
		{"[\n\t1 , \"a,b\" ,[1,2], {\"c\":[3,4]}\r\n]", []string{"1", `"a,b"`, "[1,2]", `{"c":[3,4]}`}},
		{"[null,null,null]", []string{"null", "null", "null"}},
		{`["\",","]"]`, []string{`"\","`, `"]"`}},
	} {
		a := parseArray([]byte(test.array))
		var got []string
		for _, value := range a.values() {
			got = append(got, string(value))
		}
		if diff := cmp.Diff(test.want, got); diff != "" || a.n != len(test.want) {
			t.Errorf("%q: %d values: %s", test.array, a.n, diff)
		}
		first := ""
		if len(test.want) > 0 {
			first = test.want[0]
		}
		if at := a.first(); string(a.json[at.start:at.end]) != first {
			t.Errorf("%q: the first of its values is at %v", test.array, at)
		}
	}
	a := parseArray([]byte("[1,2]"))
	values := a.values()
	if _ = append(values[0], "xx"...); string(values[1]) != "2" {
		t.Error("appending to one value overwrites the next")
	}
}

func TestEncodeArgs(t *testing.T) {
	got, err := encodeArgs([]any{"<b>", Binary{1}, []any{1.5, Binary{2, 3}}, nil}, 2)
	want := args{[]byte(`"<b>","AQ==",[1.5,"AgM="],null`), 4, []span{{6, 12}, {18, 24}}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(args{}, span{})); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	if _, err := encodeArgs([]any{Binary{1}, Binary{2}}, 1); err == nil {
		t.Error("2 Binary values, though 1 is the bound")
	}
}
