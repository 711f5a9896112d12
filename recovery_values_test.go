package atrium

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// A string that JSON would change makes its socket begin anew, wherever in a value it is; one that
// only looks like such a string does not.
func TestRecoveryInvalidUTF8(t *testing.T) {
	type text struct{ Text string }
	tests := []struct {
		key      string
		value    any
		unusable bool
	}{
		{"string", "a\xffb", true},
		{"field", &text{"\xc3"}, true},
		{"key of a map", map[string]int{"\xed\xa0\x80": 1}, true},
		{"element", []any{"\xf8"}, true},
		{"k\xff", 1, true},
		{"the replacement itself", &text{"\ufffd"}, false},
		{"its escape", `\ufffd, and \\ufffd`, false},
		{"JSON with its escape", json.RawMessage(`"\ufffd"`), false},
		{"bytes", []byte("\xff"), false},
	}
	for _, test := range tests {
		v := &values{byKey: map[string]any{test.key: test.value}}
		saved, err := v.save()
		if unusable := err != nil; unusable != test.unusable {
			t.Errorf("%q: got %s, %v", test.key, saved[test.key].json, err)
		}
		if err != nil && !strings.Contains(err.Error(), "invalid UTF-8") {
			t.Errorf("%q: %v", test.key, err)
		}
	}
}

// nullable is never null in Go, and may be so in JSON.
type nullable struct{ valid bool }

func (n nullable) MarshalJSON() ([]byte, error) {
	if n.valid {
		return []byte("1"), nil
	}
	return []byte("null"), nil
}

func (n *nullable) UnmarshalJSON(b []byte) error {
	n.valid = string(b) != "null"
	return nil
}

// A nil is a nil after a restart, too, and nothing else; after two as after one.
func TestRecoveryNil(t *testing.T) {
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "state")
	l := successor(t, overTCP, path, Options{})
	g := l.enter(t, "")
	g.socket.Set("pointer", (*savedUser)(nil))
	g.socket.Set("map", map[string]int(nil))
	g.socket.Set("slice", []int(nil))
	g.socket.Set("nil", nil)
	g.socket.Set("own", nullable{})
	if err := g.socket.SetPublic("public", (*savedUser)(nil)); err != nil {
		t.Fatal(err)
	}
	look := func(s *Socket) string {
		pointer, is := Value[*savedUser](s, "pointer")
		_, isString := Value[string](s, "pointer")
		public, isPublic := Value[*savedUser](s, "public")
		m, isMap := Value[map[string]int](s, "map")
		slice, isSlice := Value[[]int](s, "slice")
		_, isInt := Value[int](s, "nil")
		own, isOwn := Value[nullable](s, "own")
		nothing, isThere := s.Get("nil")
		return fmt.Sprint(pointer, is, isString, public, isPublic, m == nil, isMap, slice == nil, isSlice, isInt, own, isOwn, nothing, isThere)
	}
	want := look(g.socket)
	for range 2 {
		pid, id := g.pid, g.id
		l.shutdown(t, g)
		l = successor(t, overTCP, path, Options{})
		if g = l.enter(t, proof(pid, "")); g.id != id {
			t.Fatalf("%s came back as %s", id, g.id)
		}
		if got, _ := g.socket.Get("pointer"); got != nil {
			t.Errorf("Get: %s", got)
		}
		if got := look(g.socket); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
