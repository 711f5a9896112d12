package atrium

import (
	"encoding/json"
	"fmt"
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
