package atrium

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// What the cluster once got wrong and must not get wrong again. Each test is named after what it guards.

// A room that nobody can join is no topic: its name, which may be a client's, is of any length, and NATS closes the
// connection on a subject of more than 4 KiB.
func TestImpossibleRoomIsNotPublished(t *testing.T) {
	bus := newSpiedBus()
	synctest.Test(t, func(t *testing.T) {
		h := newHouses(t, overPipe, 2, bus, Options{})[0]
		c := h.connect(t, nil)
		s := c.socket(h.Hub)
		for _, name := range []string{"", strings.Repeat("x", maxRoomName+1), "\xff"} {
			if err := s.To(name).Emit("e"); err != nil {
				t.Error(err)
			}
			if n, err := h.To(name).Count(t.Context()); n != 0 || err != nil {
				t.Error(n, err)
			}
		}
		h.To(strings.Repeat("x", maxRoomName)).Emit("e")
		synctest.Wait()
		bus.mu.Lock()
		defer bus.mu.Unlock()
		for topic := range bus.published {
			if topic != everyNode && topic != roomTopic("/", strings.Repeat("x", maxRoomName)) {
				t.Errorf("published: %.40q, %d bytes", topic, len(topic))
			}
		}
	})
}

// A client whose answer is nested as deeply as an answer may be does not take the answers of others with it.
func TestDeepReplyLeavesTheOthers(t *testing.T) {
	noLeaks(t)
	all := newHouses(t, overTCP, 2, NewMemoryBus(), Options{})
	want := make(map[string]string)
	for i := range 10 {
		c := all[0].connect(t, nil)
		c.socket(all[0].Hub)
		depth := maxDepth - i%3
		answer := strings.Repeat("[", depth) + strings.Repeat("]", depth)
		want[c.sid] = answer
		go func() {
			for {
				_, p, err := c.Read(context.Background())
				if err != nil {
					return
				}
				var q struct{ ID *int64 }
				if json.Unmarshal(p, &q) == nil && q.ID != nil {
					c.Write(context.Background(), OpText, fmt.Appendf(nil, `{"id":%d,"data":%s}`, *q.ID, answer))
				}
			}
		}()
	}
	here, err := all[0].Call(t.Context(), "q")
	if err != nil {
		t.Fatal(err)
	}
	if len(here) != len(want) {
		t.Fatalf("%d replies on their own node", len(here))
	}
	there, err := all[1].Call(t.Context(), "q")
	if err != nil || len(there) != len(want) {
		t.Fatalf("%d replies on another node, want %d; %v", len(there), len(want), err)
	}
	for _, r := range there {
		if r.Err != nil || string(r.Data) != want[r.SocketID] {
			t.Errorf("%s: %.10s… %v", r.SocketID, r.Data, r.Err)
		}
	}
}
