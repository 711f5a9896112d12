package atrium

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An id is told from other names, by itself.
func TestSocketIDs(t *testing.T) {
	seen := make(map[string]bool)
	for range 10_000 {
		id := newSocketID("abcde")
		if node, ok := nodeOfID(id); len(id) != socketIDLength || strings.Trim(id, base64url) != "" || node != "abcde" || !ok || seen[id] {
			t.Fatalf("%q: %q, %t", id, node, ok)
		}
		seen[id] = true
		for i := range id {
			changed := []byte(id)
			for changed[i] == id[i] {
				changed[i] = randomText(1)[0]
			}
			if _, ok := nodeOfID(string(changed)); ok {
				t.Fatalf("%q with another character, %q, is an id", id, changed)
			}
		}
		for _, name := range []string{id + "A", id[:19], " " + id[:19], ""} {
			if _, ok := nodeOfID(name); ok {
				t.Fatalf("%q is an id", name)
			}
		}
	}
	ids := 0
	for i := range 1_000_000 {
		if _, ok := nodeOfID(fmt.Sprintf("room-%015d", i)); ok {
			ids++
		}
	}
	if ids > 2 {
		t.Errorf("%d of a million names of rooms are taken for ids", ids)
	}
}

const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// A room of 20 characters is a room like others, on every node.
func TestRoomsAsLongAsIDs(t *testing.T) {
	noLeaks(t)
	all := newTestCluster(t, overTCP, 2, new(MemoryBus), Options{})
	c := all[1].connect(t, nil)
	s := c.socket(all[1].Hub)
	for _, name := range []string{"abcdefghijklmnopqrst", all[0].node + "fghijklmnopqrst", all[1].node + "fghijklmnopqrst"} {
		if err := s.Join(name); err != nil {
			t.Fatal(err)
		}
		all[0].To(name).Emit("hello", name)
		c.want(fmt.Sprintf(`{"event":"hello","data":%q}`, name))
		if n, err := all[0].To(name).Count(t.Context()); n != 1 || err != nil {
			t.Error(n, err)
		}
	}
}

// While a node was cut off from the Bus it forgot the others; a client could then join a room that
// is named like a socket of theirs, and got that one's mail.
func TestRoomNamedLikeAForgottenNodesSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &scriptedBus{Bus: new(MemoryBus)}
		all := newTestCluster(t, overPipe, 2, bus, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
		spy, victim := all[0].connect(t, nil), all[1].connect(t, nil)
		s := spy.socket(all[0].Hub)
		refused := func(when string) {
			t.Helper()
			if err := s.Join(victim.sid); !errors.Is(err, ErrRoomName) || len(s.Rooms()) > 0 {
				t.Errorf("%s: %v, in %q", when, err, s.Rooms())
			}
		}
		refused("together")
		bus.fails.Store(true)
		<-time.After(nodeTimeout + 2*nodeHeartbeat)
		if len(all[0].Nodes().List()) != 0 {
			t.Fatal("the other node is not forgotten")
		}
		refused("cut off")
		bus.fails.Store(false)
		<-time.After(nodeTimeout)
		all[0].To(victim.sid).Emit("private")
		victim.want(`{"event":"private"}`)
		spy.settle()
	})
}

// What is for one socket finds it before its node was heard of, and in order with what follows.
func TestSocketOfANodeNotHeardOf(t *testing.T) {
	noLeaks(t)
	all := newTestCluster(t, overTCP, 2, new(MemoryBus), Options{Timeouts: Timeouts{PingInterval: time.Hour}})
	c := all[1].connect(t, nil)
	s := c.socket(all[1].Hub)
	forget := func() { all[0].cluster.goodbye(all[1].node) } // until its next heartbeat
	forget()
	for i := range 10 {
		if i == 5 {
			all[0].cluster.hello(all[1].node)
		}
		all[0].To(c.sid).Emit("n", i)
		c.want(fmt.Sprintf(`{"event":"n","data":%d}`, i))
	}
	forget()
	if err := all[0].To(c.sid).Join(t.Context(), "room"); err != nil {
		t.Error(err)
	}
	eventually(t, "it to be in the room", func() bool { return s.In("room") })
	// One whose node is gone for good is not waited for.
	if err := all[0].To(newSocketID("ghost")).Disconnect(t.Context()); err != nil {
		t.Error(err)
	}
}
