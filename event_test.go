package atrium

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// valueValid, pointerValid and shownValid validate in the three ways there are.
type valueValid struct{ N int }

func (v valueValid) Validate() error {
	if v.N < 0 {
		return Errorf("N: expected at least 0")
	}
	return nil
}

type pointerValid struct{ N int }

func (v *pointerValid) Validate() error {
	v.N *= 2 // it may mend what it validates
	return valueValid{v.N}.Validate()
}

type shownValid struct{ N int }

func (v shownValid) Validate() error {
	if v.N < 0 {
		return fmt.Errorf("wrapped: %w", &Error{Message: "too small", Data: v.N})
	}
	return nil
}

func TestBindDecodes(t *testing.T) {
	type nested struct {
		A struct{ B []uint8 }
		M map[string]int
	}
	tests := []struct {
		into    any // a pointer
		value   string
		want    any
		problem string
	}{
		{new(int), `5`, 5, ""},
		{new(int), ``, 0, ""},
		{new(int), `null`, 0, ""},
		{new(int), `"5"`, nil, "data: expected an integer, got string"},
		{new(int), `5.5`, nil, "data: expected an integer, got number 5.5"},
		{new(int8), `128`, nil, "data: expected an integer from -128 to 127, got number 128"},
		{new(uint16), `-1`, nil, "data: expected an integer from 0 to 65535, got number -1"},
		{new(uint32), `4294967296`, nil, "data: expected an integer from 0 to 4294967295, got number 4294967296"},
		{new(uint), `-1`, nil, "data: expected an integer that is not negative, got number -1"},
		{new(float64), `"x"`, nil, "data: expected a number, got string"},
		{new(bool), `1`, nil, "data: expected true or false, got number"},
		{new(string), `{}`, nil, "data: expected a string, got object"},
		{new([]string), `{}`, nil, "data: expected an array, got object"},
		{new([]string), `["a",1]`, nil, "data: expected a string, got number"},
		{new(map[string]int), `[]`, nil, "data: expected an object, got array"},
		{new(*int), `"x"`, nil, "data: expected an integer, got string"},
		{new(*int), `null`, (*int)(nil), ""},
		{new(any), `{"a":[1]}`, map[string]any{"a": []any{1.0}}, ""},
		{new(json.RawMessage), ` {"a": 1} `, json.RawMessage(`{"a": 1}`), ""},
		{new(nested), `{"A":{"B":5}}`, nil, "A.B: expected an array, got number"},
		{new(nested), `{"M":{"x":"y"}}`, nil, "M: expected an integer, got string"},
		{new(time.Time), `5`, nil, "data: Time.UnmarshalJSON: input is not a JSON string"},

		{new(valueValid), `{"N":1}`, valueValid{1}, ""},
		{new(valueValid), `{"N":-1}`, nil, "N: expected at least 0"},
		{new(*valueValid), `{"N":1}`, &valueValid{1}, ""},
		{new(*valueValid), `{"N":-1}`, nil, "N: expected at least 0"},
		{new(*valueValid), `null`, (*valueValid)(nil), ""},
		{new(pointerValid), `{"N":1}`, pointerValid{2}, ""},
		{new(pointerValid), `{"N":-1}`, nil, "N: expected at least 0"},
		{new(*pointerValid), `{"N":1}`, &pointerValid{2}, ""},
		{new(*pointerValid), `{"N":-1}`, nil, "N: expected at least 0"},
		{new(*pointerValid), `null`, (*pointerValid)(nil), ""},
		{new(shownValid), `{"N":-1}`, nil, "too small"},
	}
	for _, test := range tests {
		name := fmt.Sprintf("%s into %T", test.value, test.into)
		e := &Event{eventData: dataOf("", strings.TrimSpace(test.value), min(1, len(test.value)), noID)}
		err := e.Bind(test.into)
		if test.problem != "" {
			if shown, ok := err.(*Error); !ok || shown.Message != test.problem {
				t.Errorf("%s: got %v, want %s", name, err, test.problem)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var want, got []byte
		want, _ = json.Marshal(test.want)
		got, _ = json.Marshal(test.into)
		if string(got) != string(want) {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestBindSeveral(t *testing.T) {
	e := &Event{eventData: dataOf("", `1 , "two",[3], {"N":-4}`, 4, noID)}
	if got, want := e.Args(), []json.RawMessage{[]byte(`1`), []byte(`"two"`), []byte(`[3]`), []byte(`{"N":-4}`)}; !cmp.Equal(got, want) {
		t.Errorf("Args: %q", got)
	}
	var n int
	var s string
	var list []int
	var kept, null = 7, any("kept")
	if err := e.Bind(&n, &s, &list); err != nil || n != 1 || s != "two" || !cmp.Equal(list, []int{3}) {
		t.Errorf("%d, %q, %v, %v", n, s, list, err)
	}
	if err := (&Event{eventData: dataOf("", "1", 1, noID)}).Bind(&n, &kept, &null); err != nil || kept != 7 || null != "kept" {
		t.Errorf("missing arguments: %v, %v, %v", kept, null, err)
	}
	for _, test := range []struct {
		into    []any
		problem string
	}{
		{[]any{&n, &n}, "argument 2: expected an integer, got string"},
		{[]any{&s, &s}, "argument 1: expected a string, got number"},
		{[]any{&n, &s, &list, new(valueValid)}, "N: expected at least 0"},
	} {
		if err := e.Bind(test.into...); err == nil || err.Error() != test.problem {
			t.Errorf("got %v, want %s", err, test.problem)
		}
	}
	if args := (&Event{}).Args(); len(args) != 0 {
		t.Errorf("no arguments: %q", args)
	}
	for name, into := range map[string]any{"a value": n, "nil": nil, "a nil pointer": (*int)(nil)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Bind to %s did not panic", name)
				}
			}()
			e.Bind(into)
		}()
	}
}

// The typed handlers take the first argument; what is asked for is always answered, once.
func TestTypedHandlers(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		On(h, "on", func(_ *Socket, v *pointerValid) error {
			if v == nil {
				return Errorf("null")
			}
			if v.N == 10 {
				return &Error{Message: "ten", Data: []string{"<ten>"}}
			}
			return nil
		})
		OnCall(h.Namespace, "call", func(s *Socket, v valueValid) (map[string]any, error) {
			return map[string]any{"n": v.N, "me": s.ID() != ""}, nil
		})
		OnCall(h, "nothing", func(*Socket, any) (*int, error) { return nil, nil })
		h.Handle("raw", func(e *Event) {
			var a, b int
			if err := e.Bind(&a, &b); err != nil {
				e.ReplyError(err)
				e.ReplyError(errors.New("a second time"))
				return
			}
			e.Reply(a+b, a*b)
		})
		c := serve(t, k, h).connect(t, nil)
		for _, test := range []struct{ sends, hears string }{
			{`{"event":"on","data":{"N":1},"id":1}`, `{"id":1}`},
			{`{"event":"on","args":[{"N":1},"more"],"id":1}`, `{"id":1}`},
			{`{"event":"on","id":1}`, `{"id":1,"error":{"message":"null"}}`},
			{`{"event":"on","args":[],"id":1}`, `{"id":1,"error":{"message":"null"}}`},
			{`{"event":"on","data":{"N":5},"id":1}`, `{"id":1,"error":{"message":"ten","data":["<ten>"]}}`},
			{`{"event":"on","data":{"N":5}}`, `{"event":"error","data":{"event":"on","message":"ten","data":["<ten>"]}}`},
			{`{"event":"on","data":{"N":-1}}`, `{"event":"error","data":{"event":"on","message":"N: expected at least 0"}}`},
			{`{"event":"on","data":{"N":1}}`, ``},
			{`{"event":"call","data":{"N":1},"id":9007199254740991}`, `{"id":9007199254740991,"data":{"me":true,"n":1}}`},
			{`{"id":0,"data":{"N":1},"event":"call","unknown":{}}`, `{"id":0,"data":{"me":true,"n":1}}`},
			{`{"event":"call","data":{"N":1}}`, ``},
			{`{"event":"nothing","id":1}`, `{"id":1,"data":null}`},
			{`{"event":"raw","args":[2,3],"id":1}`, `{"id":1,"args":[5,6]}`},
			{`{"event":"raw","args":[2,3,4],"id":1}`, `{"id":1,"args":[5,6]}`},
			{`{"event":"raw","args":[2,"3"],"id":1}`, `{"id":1,"error":{"message":"argument 2: expected an integer, got string"}}`},
			{`{"event":"raw","args":[2,"3"]}`, `{"event":"error","data":{"event":"raw","message":"argument 2: expected an integer, got string"}}`},
			{`{"event":"raw","args":[2,3]}`, ``},
		} {
			c.send(test.sends)
			if test.hears != "" {
				c.want(test.hears)
			}
			c.settle()
		}
	})
}

// A handler that is registered while clients are connected holds for what is received from then on.
func TestRegisterWhileConnected(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	h.Handle("register", func(e *Event) {
		h.HandleAny(func(e *Event) {
			if e.Name() == "register" {
				t.Error("the event that is being dispatched got a new handler")
			}
		})
		h.Handle("late", func(e *Event) { e.Reply("here") })
		h.OnDisconnect(func(s *Socket, _ Reason) { s.Broadcast().Emit("gone") })
	})
	srv := serve(t, overTCP, h)
	a, b := srv.connect(t, nil), srv.connect(t, nil)
	b.settle()
	a.send(`{"event":"late","id":1}`)
	a.want(`{"id":1,"error":{"message":"event: \"late\" is not one that this server knows"}}`)
	a.send(`{"event":"register"}`)
	a.send(`{"event":"late","id":2}`)
	a.want(`{"id":2,"data":"here"}`)
	b.send(`{"event":"late","id":3}`)
	b.want(`{"id":3,"data":"here"}`)
	a.CloseNow()
	b.want(`{"event":"gone"}`)
}

// A misuser is a client that tries what it may not do, at a hub where it may join two rooms.
type misuser struct {
	*client
	bystander *client
}

// overMisusers runs a test once for each kind of connection. In the end nobody else has heard
// anything.
func overMisusers(t *testing.T, test func(m misuser)) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{Limits: Limits{Rooms: 2}})
		On(h, "join", func(s *Socket, room string) error { return s.Join(room) })
		h.Handle("error", func(e *Event) { e.Reply("not reserved") })
		srv := serve(t, k, h)
		m := misuser{srv.connect(t, nil), srv.connect(t, nil)}
		m.bystander.settle()
		test(m)
		m.settle()
		m.bystander.settle()
	})
}

func (m misuser) hears(sends, wants string) {
	m.t.Helper()
	m.send(sends)
	m.want(wants)
}

// Row 71: the names that a client may not use.
func TestReservedNames(t *testing.T) {
	overMisusers(t, func(m misuser) {
		for _, name := range []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"} {
			message := `"message":"event: \"` + name + `\" is reserved"`
			m.hears(`{"event":"`+name+`","data":1}`, `{"event":"error","data":{"event":"`+name+`",`+message+`}}`)
			m.hears(`{"event":"`+name+`","id":3}`, `{"id":3,"error":{`+message+`}}`)
		}
		m.hears(`{"event":"error","id":3}`, `{"id":3,"data":"not reserved"}`)
		for _, name := range []string{`5`, `null`, `[]`, `{}`, `""`} {
			m.hears(`{"event":`+name+`,"id":3}`, `{"event":"error","data":{"message":"event: expected a string of 1 to 256 bytes"}}`)
		}
	})
}

// Row 70: the ids that are none.
func TestBadIDs(t *testing.T) {
	overMisusers(t, func(m misuser) {
		for _, id := range []string{`-1`, `-0`, `1.0`, `1e3`, `0.5`, `9007199254740992`, `123456789012345678901234567890`, `"7"`, `null`, `true`, `[]`, `{}`} {
			const message = `"message":"id: expected an integer from 0 to 9007199254740991"`
			m.hears(`{"event":"join","id":`+id+`}`, `{"event":"error","data":{"event":"join",`+message+`}}`)
			m.hears(`{"id":`+id+`,"data":1}`, `{"event":"error","data":{`+message+`}}`)
		}
		m.hears(`{"id":3,"error":{"message":"no"}}`, `{"event":"error","data":{"message":"id: expected the id of a call, 3 is none"}}`)
		m.hears(`{"event":"join","data":"a","error":{"message":"no"}}`, `{"event":"error","data":{"event":"join","message":"error: expected only in an acknowledgement"}}`)
	})
}

// Row 80: what Join refuses is told by a handler that returns its error.
func TestBadRooms(t *testing.T) {
	overMisusers(t, func(m misuser) {
		long := strings.Repeat("é", 128)
		for _, test := range []struct{ room, problem string }{
			{``, `room: expected a name, got an empty one`},
			{long + "x", `room: expected a name of at most 256 bytes, got 257`},
			{strings.Repeat("x", 10_000), `room: expected a name of at most 256 bytes, got 10000`},
			{m.bystander.sid, `room: \"` + m.bystander.sid + `\" is the id of another socket`},
		} {
			m.hears(`{"event":"join","data":"`+test.room+`","id":3}`, `{"id":3,"error":{"message":"`+test.problem+`"}}`)
		}
		m.hears(`{"event":"join","data":"`+long+`","id":3}`, `{"id":3}`)
		m.hears(`{"event":"join","data":"`+m.sid+`","id":3}`, `{"id":3}`) // its own id: nothing happens
		m.hears(`{"event":"join","data":"second","id":3}`, `{"id":3}`)
		m.hears(`{"event":"join","data":"third","id":3}`, `{"id":3,"error":{"message":"room: expected at most 2 rooms, this would be number 3"}}`)
		m.hears(`{"event":"join","data":"second","id":3}`, `{"id":3}`)
	})
}

type clumsy struct{ N int }

func (c clumsy) Validate() error {
	if c.N == 1 {
		panic("oops in Validate")
	}
	return nil
}

func (c clumsy) MarshalJSON() ([]byte, error) {
	if c.N == 2 {
		panic("oops in MarshalJSON")
	}
	return []byte(`{}`), nil
}

func (c *clumsy) UnmarshalJSON(b []byte) error {
	if string(b) == "3" {
		panic("oops in UnmarshalJSON")
	}
	return json.Unmarshal(b, &c.N)
}

// Panics in what the application does with a message, beside its handlers (TestPanics), are
// contained as well, and stand in the log with their stacks. What clients choose is escaped there.
func TestPanicsInMessages(t *testing.T) {
	tests := []struct{ data, where string }{{"1", "Validate"}, {"2", "MarshalJSON"}, {"3", "UnmarshalJSON"}, {"4", "Data"}, {"5", "a handler"}}
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		logger, log := newLog()
		h := newHub(t, Options{Logger: logger})
		OnCall(h, "e", func(_ *Socket, c clumsy) (clumsy, error) {
			switch c.N {
			case 4:
				return c, &Error{Message: "no", Data: clumsy{2}}
			case 5:
				panic(fmt.Errorf("oops in a handler\ntime=now level=ERROR msg=forged \x1b[31m"))
			}
			return c, nil
		})
		srv := serve(t, k, h)
		bystander := srv.connect(t, nil)
		for _, test := range tests {
			before := len(log.String())
			c := srv.connect(t, nil)
			c.send(`{"event":"e","data":` + test.data + `,"id":1}`)
			c.want(`{"id":1,"error":{"message":"internal error"}}`)
			c.wantClosed(StatusInternalError)
			got := log.String()[before:]
			if strings.Count(got, "\n") != 1 || !strings.Contains(got, "oops in ") || !strings.Contains(got, "event_test.go") || strings.Contains(got, "\x1b") {
				t.Errorf("%s: log: %s", test.where, got)
			}
		}
		bystander.send(`{"event":"e","data":0,"id":1}`)
		bystander.want(`{"id":1,"data":{}}`)
	})
}

// Errors that a client is not told are logged, with what the client chose escaped.
func TestLogEscapes(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		logger, log := newLog()
		h := newHub(t, Options{Logger: logger})
		h.HandleAny(func(e *Event) { e.ReplyError(fmt.Errorf("cannot deal with %s", e.Args())) })
		c := serve(t, k, h).connect(t, nil)
		c.send(`{"event":"a\nlevel=ERROR msg=forged","data":"\u001b[31m \u2028 \\\" x","id":1}`)
		c.want(`{"id":1,"error":{"message":"internal error"}}`)
		got := log.String()
		if strings.Count(got, "\n") != 1 || strings.ContainsAny(got, "\x1b\u2028") || !strings.Contains(got, "event=\"a\ufffdlevel=ERROR msg=forged\"") || !strings.Contains(got, "socket="+c.sid) {
			t.Errorf("log: %q", got)
		}
	})
}
