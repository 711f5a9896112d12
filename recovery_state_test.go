package atrium

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sealed adds the last line to the lines of a state.
func sealed(lines []byte) []byte {
	sum := sha256.Sum256(lines)
	return fmt.Appendf(slices.Clip(lines), "{\"sum\":%q}\n", hex.EncodeToString(sum[:]))
}

const stateHead = `{"state":{"format":"atrium recovery","version":1}}` + "\n"

// exampleState is one of everything.
func exampleState() savedState {
	now := nanotime()
	as := &presenceEntry{"Ada", json.RawMessage("[1]")}
	e := keptEvent{number: 7, at: now, to: recipients{scoped: true, rooms: []string{"a", "b", userRoom("ü")}, except: []string{"c", userRoom("7")}, sender: "s"}}
	e.form.encode(socketIOProtocol, newPacket(packetEvent, "/", "x", []byte(`"é"`)), []byte(`"7"`))
	return savedState{
		{name: "/", newest: 9, dropped: 3, events: []keptEvent{e}, places: examplePlaces(), clients: []savedClient{{
			pid: strings.Repeat("p", pidLength), id: newSocketID("nodes"), start: 1, sent: 7, left: 8, until: now + int64(time.Minute), expiry: now + int64(time.Hour),
			stays:  stays{rooms: []stay{{name: "a", present: as}, {name: "b", since: 4}, {name: userRoom("ü")}}, lapsed: []lapsed{{stay{name: "c", since: 1}, 2}}, known: 5},
			values: map[string]savedValue{"k": {json: json.RawMessage(`{"a":1}`)}, "p": {json.RawMessage(`"x"`), true}},
		}}},
		{name: "/empty"},
	}
}

func examplePlaces() map[string][]savedPlace {
	place := savedPlace{newSocketID("nodes"), "Ada", json.RawMessage("[2]")}
	return map[string][]savedPlace{"a": {place}, userMark: {place}}
}

// What is written is read as it was, but for times below a millisecond.
func TestRecoveryStateRoundTrip(t *testing.T) {
	state := exampleState()
	var first, second bytes.Buffer
	if err := state.write(&first); err != nil {
		t.Fatal(err)
	}
	read, err := readState(bytes.NewReader(first.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	got, want := read[0], state[0]
	near := cmp.Comparer(func(a, b int64) bool { return max(a, b)-min(a, b) < int64(10*time.Second) })
	if diff := cmp.Diff(want.clients, got.clients, cmp.AllowUnexported(savedClient{}, stays{}, stay{}, lapsed{}, savedValue{}, presenceEntry{}), near); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want.places, got.places); diff != "" {
		t.Error(diff)
	}
	if e, w := got.events[0], want.events[0]; e.number != w.number || !bytes.Equal(e.form.whole, w.form.whole) || !bytes.Equal(e.form.payload, w.form.payload) ||
		cmp.Diff(e.to, w.to, cmp.AllowUnexported(recipients{})) != "" {
		t.Errorf("%+v became %+v", w, e)
	}
	if got.newest != 9 || got.dropped != 3 || read[1].name != "/empty" {
		t.Errorf("%+v", got)
	}
	if err := read.write(&second); err != nil {
		t.Fatal(err)
	}
	if err := state.write(failingWriter{}); err == nil {
		t.Error("an error of the writer was lost")
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// What is wrong is said, with the line.
func TestRecoveryStateErrors(t *testing.T) {
	const (
		ns     = `{"namespace":{"name":"/","newest":5}}` + "\n"
		packet = `"packet":"NDJbIngiXQ=="`
	)
	id := newSocketID("nodes")
	client := func(more string) string {
		return fmt.Sprintf(`{"client":{"pid":%q,"id":%q%s}}`+"\n", strings.Repeat("p", pidLength), id, more)
	}
	presence := func(info, room, id string) string {
		return fmt.Sprintf(`{"namespace":{"name":"/","presence":{%s:[{"s":%q,"k":"k"%s}]}}}`+"\n", room, id, info)
	}
	for lines, want := range map[string]string{
		client(""):                          "line 2: expected a namespace",
		ns + `{}` + "\n":                    "line 3: expected a namespace, an event or a client",
		ns + ns:                             "it is there twice",
		`{"namespace":{"name":"x"}}` + "\n": "cannot be the name",
		`{"namespace":{"name":"/","newest":1,"dropped":2}}` + "\n":             "its numbers cannot be",
		ns + `{"event":{"n":6,` + packet + `}}` + "\n":                         "out of order",
		ns + strings.Repeat(`{"event":{"n":2,`+packet+`}}`+"\n", 2):            "out of order",
		ns + `{"event":{"n":2}}` + "\n":                                        "it is empty",
		ns + `{"event":{"n":2,"attachments":["!"],` + packet + `}}` + "\n":     "no base64",
		ns + `{"client":{"pid":"x","id":"y"}}` + "\n":                          "no good id",
		ns + client("") + client(""):                                           "no good id",
		ns + client(`,"left":6`):                                               "its numbers cannot be",
		ns + client(`,"rooms":[{"name":"b"},{"name":"a"}]`):                    "no set of names",
		ns + client(`,"rooms":[{"name":""}]`):                                  "no set of names",
		ns + client(`,"lapsed":[{"name":"`+id+`"}]`):                           "no set of names",
		ns + client(`,"rooms":[{"name":"a","present":{"k":"","i":1}}]`):        "client: presence: expected a key",
		presence(`,"i":"`+strings.Repeat("x", maxPresenceInfo)+`"`, `"r"`, id): "namespace: presence: expected an info",
		presence(`,"i":1`, `"r"`, "x"):                                         "its presence is of no socket",
		presence(`,"i":1`, `"`+id+`"`, id):                                     "it has presence where there is no room",
		presence(`,"i":1},{"s":"`+id+`","k":"k","i":1`, `""`, id):              "its presence is of no socket",
	} {
		if _, err := readState(bytes.NewReader(sealed([]byte(stateHead + lines)))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", lines, err, want)
		}
	}
}

// Whatever the lines are, nothing panics, what is read can be used and written, and reads the same
// again.
func FuzzRecoveryState(f *testing.F) {
	var example bytes.Buffer
	exampleState().write(&example)
	lines := example.Bytes()
	f.Add(lines[len(stateHead) : bytes.LastIndexByte(lines[:len(lines)-1], '\n')+1])
	f.Add([]byte(`{"namespace":{"name":"/","newest":5}}` + "\n" + `{"event":{"n":2,"packet":"NDJbIngiXQ==","attachments":["AQ=="]}}` + "\n"))
	f.Fuzz(func(t *testing.T, lines []byte) {
		if _, err := readState(bytes.NewReader(lines)); err == nil {
			t.Error("it was read without a head")
		}
		state, err := readState(bytes.NewReader(sealed(append([]byte(stateHead), lines...))))
		if err != nil {
			return
		}
		h := New(Options{Recovery: Recovery{MaxDisconnection: time.Minute, MaxBytes: 1 << 16}})
		h.succession.first = 1 << 62
		for _, saved := range state {
			n := h.Of(saved.name)
			n.recovery.newest, n.recovery.dropped = 1<<62, 1<<62
		}
		h.adopt(state)
		for _, saved := range state {
			r := h.Of(saved.name).recovery
			r.check(t)
			r.mu.Lock()
			for _, k := range r.byPID {
				r.missed(k, k.start)
			}
			r.mu.Unlock()
		}
		var first, second bytes.Buffer
		if err := state.write(&first); err != nil {
			t.Fatal(err)
		}
		again, err := readState(bytes.NewReader(first.Bytes()))
		if err != nil {
			t.Fatalf("%v in %s", err, &first)
		}
		if err := again.write(&second); err != nil || second.Len() != first.Len() && !bytes.Contains(lines, []byte("at")) {
			t.Errorf("%s\nbecame %s", &first, &second)
		}
		h.Shutdown(t.Context())
	})
}

// A state is not read without end.
func TestRecoveryStateIsBounded(t *testing.T) {
	line := strings.NewReader(strings.Repeat(" ", 1<<20) + "\n")
	if spent := allocated(func() { _, _ = readState(io.MultiReader(strings.NewReader(stateHead), line)) }); spent > 16<<20 {
		t.Errorf("%d bytes were allocated for a line of 1 MiB", spent)
	}
}

type (
	lossless struct {
		A int
		B []map[string]*lossless `json:"b,omitempty"`
		C time.Time
		D any
		E netip.Addr
		F net.IP
		savedUser
	}
	withPrivate struct{ a int }
	withOmitted struct {
		A int `json:"-"`
	}
	withFunc      struct{ F func() }
	withInterface struct{ W []io.Writer }
)

// A type is refused if a value of it may come back as another.
func TestRecoveryLosses(t *testing.T) {
	for _, test := range []struct {
		value any
		want  string
	}{
		{1, ""}, {"x", ""}, {lossless{}, ""}, {&lossless{}, ""}, {json.RawMessage("1"), ""}, {map[string]any{"a": 1}, ""},
		{withPrivate{1}, "the field a"}, {[]*withPrivate{}, "the field a"}, {withOmitted{1}, "the field A"},
		{withFunc{}, "a func()"}, {withInterface{}, "io.Writer"}, {make(chan int), "a chan int"}, {complex(1, 1), "a complex128"},
		{errors.New("x"), "the field s"}, {url.URL{}, "the field"}, {map[withPrivate]int{}, "the field a"},
	} {
		_, err := encodeValue(test.value)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%T: got %v, want %q", test.value, err, test.want)
		}
	}
	if _, err := encodeValue(panicMarshaler{}); err == nil {
		t.Error("a panic was no error")
	}
}

type panicMarshaler struct{}

func (panicMarshaler) MarshalJSON() ([]byte, error)  { panic("bad") }
func (*panicMarshaler) UnmarshalJSON(b []byte) error { return nil }
