package atrium

import (
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
