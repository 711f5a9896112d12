package atrium

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What SetPublic has set is in the SocketInfo, on every node; what Set has is not.
func TestPublicValues(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		all := newTestCluster(t, k, 2, new(MemoryBus), Options{})
		s := all[0].connect(t, nil).socket(all[0].Hub)
		type person struct {
			Name string `json:"name"`
		}
		s.Set("secret", "1234")
		s.Set("mood", "private")
		for key, value := range map[string]any{"person": person{"Ada <3"}, "mood": "fine", "gone": 1, "nothing": nil} {
			if err := s.SetPublic(key, value); err != nil {
				t.Fatal(err)
			}
		}
		s.Set("gone", 2)
		if p, ok := Value[person](s, "person"); !ok || p.Name != "Ada <3" {
			t.Errorf("Value returns %v, %v", p, ok)
		}
		if v, ok := Value[int](s, "gone"); !ok || v != 2 {
			t.Errorf("Value returns %v, %v", v, ok)
		}
		for _, h := range all {
			infos, err := h.Sockets(t.Context())
			if err != nil || len(infos) != 1 {
				t.Fatal(infos, err)
			}
			got := make(map[string]any)
			for key, raw := range infos[0].Values {
				var v any
				if err := json.Unmarshal(raw, &v); err != nil {
					t.Error(err)
				}
				got[key] = v
			}
			want := map[string]any{"person": map[string]any{"name": "Ada <3"}, "mood": "fine", "nothing": nil}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
	})
}

// A value that is too large, or that JSON has no form for, is refused, and changes nothing.
func TestPublicValuesBounded(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	s := serve(t, overPipe, h).connect(t, nil).socket(h)
	largest := strings.Repeat("x", maxPublicBytes-len(`k""`)-len(`n1`))
	for _, test := range []struct {
		key   string
		value any
		want  string // an *Error's message
	}{
		{"n", 1, ""},
		{"k", largest, ""},
		{"k", largest, ""}, // in place of itself
		{"k", largest + "x", "k: expected public values of at most 4096 bytes in all, this would make 4097"},
		{"m", 1, "m: expected public values of at most 4096 bytes in all, this would make 4098"},
	} {
		switch err := s.SetPublic(test.key, test.value); {
		case test.want == "" && err == nil:
		case err == nil || err.Error() != test.want:
			t.Errorf("%s: %v, want %q", test.key, err, test.want)
		default:
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("%s: %T", test.key, err)
			}
		}
	}
	if err := s.SetPublic("n", math.NaN()); err == nil || !strings.Contains(err.Error(), `"n"`) {
		t.Error(err)
	}
	if v, _ := Value[int](s, "n"); v != 1 {
		t.Errorf("n is %v", v)
	}
	if _, ok := s.Get("m"); ok {
		t.Error("what was refused is there")
	}
	s.Set("k", nil) // which makes room
	if err := s.SetPublic("m", 1); err != nil {
		t.Error(err)
	}
}

// A client that comes back has its public values again.
func TestRecoveryPublicValues(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{})
	g := l.enter(t, "")
	if err := g.socket.SetPublic("name", "Ada"); err != nil {
		t.Fatal(err)
	}
	l.cut(g)
	back := l.enter(t, proof(g.pid, ""))
	infos, err := l.To(g.id).Sockets(t.Context())
	want := []SocketInfo{{ID: back.id, Rooms: []string{}, Values: map[string]json.RawMessage{"name": json.RawMessage(`"Ada"`)}}}
	if diff := cmp.Diff(want, infos); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// Socket and LocalSockets know who is connected to this node, and nobody else.
func TestLocalSockets(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		all := newTestCluster(t, k, 2, new(MemoryBus), Options{})
		h := all[0]
		var sockets []*Socket
		for range 3 {
			sockets = append(sockets, h.connect(t, nil).socket(h.Hub))
		}
		other := all[1].connect(t, nil)
		sockets[1].Join("room")
		other.socket(all[1].Hub).Join("room")

		if s, ok := h.Socket(sockets[0].ID()); s != sockets[0] || !ok {
			t.Error(s, ok)
		}
		for _, id := range []string{other.sid, "", "room"} {
			if s, ok := h.Socket(id); s != nil || ok {
				t.Errorf("%q is %v", id, s)
			}
		}
		if list := h.LocalSockets(); len(list) != 3 {
			t.Errorf("%d sockets", len(list))
		}
		if list := h.To("room").LocalSockets(); len(list) != 1 || list[0] != sockets[1] {
			t.Errorf("in the room: %v", list)
		}
		// The list is the caller's: sockets come and go while it is looked at.
		for _, s := range h.LocalSockets() {
			s.Disconnect()
		}
		if s, ok := h.Socket(sockets[0].ID()); s != nil || ok || len(h.LocalSockets()) != 0 {
			t.Error("somebody is left")
		}
	})
}

// Nobody finds a socket before it has passed Use.
func TestLocalSocketsBeforeConnect(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	h.Use(func(s *Socket) error {
		if found, ok := h.Socket(s.ID()); ok || len(h.LocalSockets()) != 0 {
			t.Errorf("found %v", found)
		}
		return nil
	})
	found := make(chan bool, 1)
	h.OnConnect(func(s *Socket) {
		now, ok := h.Socket(s.ID())
		found <- ok && now == s && len(h.LocalSockets()) == 1
	})
	serve(t, overPipe, h).connect(t, nil)
	if !within(t, found, "OnConnect") {
		t.Error("a socket that is connected is not found")
	}
}
