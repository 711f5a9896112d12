package atrium

import (
	"fmt"
	"testing"
)

// What the CONNECT packet says, from connection to connection.
func TestClientRecovery(t *testing.T) {
	var r clientRecovery
	want := func(when, members string, recovered bool) {
		t.Helper()
		if got := string(r.appendTo(nil)); got != members || r.recovered != recovered {
			t.Errorf("%s: %q, recovered %v; want %q, %v", when, got, r.recovered, members, recovered)
		}
	}
	want("at first", "", false)
	r.connected("")
	r.offset = "1"
	want("with a server that keeps no sessions", "", false)
	r.connected("a")
	want("with another", `,"pid":"a"`, false)
	r.offset = "2"
	want("after an event", `,"pid":"a","offset":"2"`, false)
	r.connected("a")
	want("recovered", `,"pid":"a","offset":"2"`, true)
	r.connected("b")
	want("not recovered", `,"pid":"b"`, false)
	r.offset = "3"
	r.forget()
	want("forgotten", "", false)
}

// Which strings behind an event's arguments are offsets, and what is left of the arguments.
func TestTakeOffset(t *testing.T) {
	for _, test := range []struct{ array, offset, left string }{
		{`[]`, "", `[]`},
		{`[1]`, "", `[1]`},
		{`["17"]`, "17", `[]`},
		{`[1, "17"]`, "17", `[1]`},
		{`[{"a":"b"}, [2] , "0"]`, "0", `[{"a":"b"}, [2]]`},
		{`[1,"node-17"]`, "node-17", `[1,"node-17"]`},
		{`[1,""]`, "", `[1,""]`},
		{fmt.Sprintf(`[1,"%0128d"]`, 1), fmt.Sprintf("%0128d", 1), `[1]`},
		{fmt.Sprintf(`[1,"%0129d"]`, 1), "", fmt.Sprintf(`[1,"%0129d"]`, 1)},
	} {
		a := parseArray([]byte(test.array))
		if offset := takeOffset(&a); offset != test.offset || "["+string(a.json)+"]" != test.left {
			t.Errorf("%s: %q, [%s] left; want %q, %s", test.array, offset, a.json, test.offset, test.left)
		}
		if left := parseArray([]byte("[" + string(a.json) + "]")); left.n != a.n {
			t.Errorf("%s: %d values left, want %d", test.array, a.n, left.n)
		}
	}
	bytes := args{json: []byte(`1,"MTc="`), n: 2, attachments: []span{{2, 8}}}
	if offset := takeOffset(&bytes); offset != "" || bytes.n != 2 {
		t.Errorf("an attachment: %q", offset)
	}
}
