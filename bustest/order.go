package bustest

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/atrium-go/atrium"
)

// orderPublisher is the publisher of the events that questions follow.
const orderPublisher = 2000

// order checks that what a goroutine does to a target on other nodes, or asks of it, happens after
// what it has emitted to the target.
func (c *cluster) order() {
	const rounds = 300
	room := func(n int) string { return fmt.Sprint("order ", n) }
	for n := 1; n <= rounds; n++ {
		i := n % len(c.members)
		m, there, name := c.members[i], c.hub(i+1), room(n)
		if err := m.socket().Join(name); err != nil {
			c.t.Fatal(err)
		}
		to := there.To(name)
		if n%3 == 0 {
			to = there.To(name, "nobody's room")
		}
		if err := to.Emit("e", heard{orderPublisher, n, name}); err != nil {
			c.t.Fatal(err)
		}
		if n%2 == 0 {
			c.call(to, n)
		}
		if err := to.Leave(context.Background(), name); err != nil {
			c.t.Fatal(err)
		}
		await(c.t, fmt.Sprintf("event %d, which was emitted before Leave", n), func() bool { return m.latest(orderPublisher) == n })
	}
	for i := range min(len(c.members), rounds/3) {
		m, there, n := c.members[i], c.hub(i+1), rounds+1+i
		if err := m.socket().Join(room(n)); err != nil {
			c.t.Fatal(err)
		}
		if err := there.To(room(n)).Emit("e", heard{orderPublisher, n, room(n)}); err != nil {
			c.t.Fatal(err)
		}
		if err := there.To(room(n)).Disconnect(context.Background()); err != nil {
			c.t.Fatal(err)
		}
		await(c.t, fmt.Sprintf("event %d, which was emitted before Disconnect", n), func() bool { return m.latest(orderPublisher) == n })
	}
}

// call asks the only member of the target for its last event.
func (c *cluster) call(to atrium.Target, want int) {
	ctx, cancel := context.WithTimeout(c.t.Context(), Patience)
	defer cancel()
	replies, err := to.Call(ctx, "latest")
	if err != nil || len(replies) != 1 || replies[0].Err != nil || string(replies[0].Data) != fmt.Sprint(want) {
		c.t.Errorf("Call after event %d: %+v, %v", want, replies, err)
	}
}

// answer responds to a call of the hub with the last event of order.
func (m *member) answer(id int64) error {
	reply, err := json.Marshal(map[string]any{"id": id, "data": m.latest(orderPublisher)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return m.conn.Write(ctx, atrium.MessageText, reply)
}
