package atrium

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// presenceSteps are steps of a presenceState, whose sockets are all of one key.
type presenceSteps struct {
	presenceState
	now int64
}

func (s *presenceSteps) come(node, socket, info string) {
	s.set(node, socket, &presenceEntry{"Ada", json.RawMessage(info)})
}

func (s *presenceSteps) tell() string {
	s.now++
	change, _ := s.advance(s.now, false)
	return fmt.Sprintf("+%s ~%s -%s", describe(change.joined), describe(change.changed), describe(change.left))
}

// A socket that is on another node has one place, in whatever order it is told that the one has
// gone and the other come.
func TestPresenceOfMovedSocket(t *testing.T) {
	for _, goneFirst := range []bool{true, false} {
		s := presenceSteps{presenceState: newPresenceState()}
		s.come("old", "1", "1")
		s.tell()
		if goneFirst {
			s.unset("old", "1", 100)
		}
		s.come("new", "1", "1")
		got := s.tell()
		if !goneFirst {
			s.unset("old", "1", 100)
		}
		s.now = 200
		if got += s.tell(); got != "+ ~ -+ ~ -" {
			t.Errorf("gone first %t: %s", goneFirst, got)
		}
		s.unset("new", "1", s.now)
		if got = s.tell(); got != "+ ~ -Ada[1]" {
			t.Errorf("gone first %t: %s", goneFirst, got)
		}
	}
}

// A socket that is told of again takes nobody's place.
func TestPresenceReplacesItsOwn(t *testing.T) {
	s := presenceSteps{presenceState: newPresenceState()}
	s.come("n", "1", "1")
	s.come("n", "2", "2")
	s.tell()
	s.unset("n", "2", 100)
	s.come("n", "1", "3")
	if got := s.tell(); got != "+ ~Ada[2 3] -" {
		t.Error(got)
	}
	s.come("n", "3", "2")
	if got := s.tell(); got != "+ ~ -" {
		t.Error(got)
	}
}

// What is counted is what is there, whatever sockets do.
func TestPresenceStateCounts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	s := presenceSteps{presenceState: newPresenceState()}
	for step := range 10_000 {
		node, socket := fmt.Sprint("n", rng.IntN(2)), fmt.Sprint(rng.IntN(5))
		e := &presenceEntry{fmt.Sprint("key", rng.IntN(3)), json.RawMessage(strings.Repeat("1", 1+rng.IntN(9)))}
		switch rng.IntN(6) {
		case 0, 1, 2:
			s.set(node, socket, e)
		case 3:
			s.unset(node, socket, s.now+rng.Int64N(9))
		case 4:
			s.replace(node, map[string]*presenceEntry{socket: e}, s.now+rng.Int64N(9))
		case 5:
			s.tell()
		}
		s.check(t, step)
	}
}

// check compares what is counted with what is there.
func (s *presenceSteps) check(t *testing.T, step int) {
	t.Helper()
	for _, node := range []string{"n0", "n1"} {
		size := 0
		for _, e := range s.nodes[node] {
			size += e.size()
		}
		if s.bytes[node] != size {
			t.Fatalf("step %d: %s has %d bytes, %d are counted", step, node, size, s.bytes[node])
		}
	}
	spots, size := 0, 0
	for key, list := range s.keys {
		for i := range list {
			spots, size = spots+1, size+(&presenceEntry{key, list[i].info}).size()
			if _, dirty := s.dirty[key]; list[i].until != 0 && !dirty {
				t.Fatalf("step %d: nobody will look when %q of %s has lost its place", step, list[i].socket, key)
			}
		}
	}
	if s.spots != spots || s.spotBytes != size {
		t.Fatalf("step %d: %d places of %d bytes, counted are %d of %d", step, spots, size, s.spots, s.spotBytes)
	}
}
