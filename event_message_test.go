package atrium

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
)

func TestMessageFrame(t *testing.T) {
	tests := []struct {
		event string
		args  []any
		id    int64
		want  string
	}{
		{"e", nil, noID, `{"event":"e"}`},
		{"e", []any{nil}, noID, `{"event":"e","data":null}`},
		{"e", []any{"<a&b>\u2028"}, 0, `{"event":"e","data":"<a&b>\u2028","id":0}`},
		{"e", []any{1, "two", []int{}}, maxID, `{"event":"e","args":[1,"two",[]],"id":9007199254740991}`},
		{"e", []any{json.RawMessage(`{"a": 1 }`)}, noID, `{"event":"e","data":{"a":1}}`},
		{"\"\\\n\u2028é", []any{true}, noID, `{"event":"\"\\\n\u2028é","data":true}`},
	}
	for _, test := range tests {
		m, err := newMessage("/", test.event, test.args, defaultMaxAttachments)
		if err != nil {
			t.Fatal(err)
		}
		m.ackID = test.id
		frame := m.form(plainProtocol).whole
		if again := m.form(plainProtocol).whole; &again[0] != &frame[0] {
			t.Error("the frame was made twice")
		}
		m.release()
		h, n, err := parseHeader(frame)
		if err != nil || !h.Fin || h.Opcode != opText || h.Masked || string(frame[n:]) != test.want || int(h.Length) != len(test.want) {
			t.Errorf("got %+v %s, %v\nwant %s", h, frame[n:], err, test.want)
		}
	}
}

// A released message is used again; what was made of it before stays as it is.
func TestMessageReuse(t *testing.T) {
	m, _ := newMessage("/", "first", []any{strings.Repeat("a", 1000)}, defaultMaxAttachments)
	m.ackID, m.volatile = 5, true
	frame := m.form(plainProtocol).whole
	kept := bytes.Clone(frame)
	m.release()
	for range 100 {
		m, err := newMessage("/", "second", []any{strings.Repeat("b", 1000)}, defaultMaxAttachments)
		if err != nil || m.ackID != noID || m.volatile || m.args.n != 1 || bytes.Contains(m.form(plainProtocol).whole, []byte("first")) {
			t.Fatalf("something of the first message is left: %+v, %v", m, err)
		}
		m.release()
	}
	if !bytes.Equal(frame, kept) {
		t.Error("a frame changed")
	}
}

func TestSealFrameLengths(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 0xFFFF, 0x10000, 0x10001} {
		payload := bytes.Repeat([]byte{'x'}, n)
		frame := prependHeader(append(newFrame(n), payload...), frameHeader{Fin: true, Opcode: opText})
		h, size, err := parseHeader(frame)
		if err != nil || h.Length != int64(n) || !bytes.Equal(frame[size:], payload) {
			t.Errorf("%d bytes: %+v, %v", n, h, err)
		}
	}
}

func TestCheckEventName(t *testing.T) {
	for _, name := range []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"} {
		if err := checkEventName(name); !errors.Is(err, ErrReserved) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", strings.Repeat("x", 257), "\xff", "a\xc3"} {
		if err := checkEventName(name); err == nil || errors.Is(err, ErrReserved) {
			t.Errorf("%.10q: %v", name, err)
		}
	}
	for _, name := range []string{"error", "Connect", "connect ", "message", strings.Repeat("é", 128), " ", "\x00"} {
		if err := checkEventName(name); err != nil {
			t.Errorf("%.10q: %v", name, err)
		}
	}
}

type failingJSON struct{ err error }

func (f failingJSON) MarshalJSON() ([]byte, error) { return nil, f.err }

// What cannot be encoded is named with its cause, and spoils no later message.
func TestMessageThatCannotBeEncoded(t *testing.T) {
	cause := errors.New("no JSON for this")
	for _, arg := range []any{failingJSON{cause}, make(chan int), math.Inf(1), json.RawMessage("{"), json.RawMessage("1,2"), json.RawMessage("\"\xff\"")} {
		_, err := newMessage("/", "e", []any{"fine", arg}, defaultMaxAttachments)
		if err == nil || !strings.HasPrefix(err.Error(), `atrium: event "e": argument 2 cannot be encoded: `) {
			t.Errorf("%T: %v", arg, err)
		}
		if _, is := arg.(failingJSON); is && !errors.Is(err, cause) {
			t.Errorf("the cause is lost: %v", err)
		}
		m, err := newMessage("/", "e", []any{1}, defaultMaxAttachments)
		if err != nil || string(m.args.json) != "1" {
			t.Errorf("the next message: %q, %v", m.args.json, err)
		}
		m.release()
	}
}
