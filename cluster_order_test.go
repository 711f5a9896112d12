package atrium

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// What is asked of a target does not overtake what the same goroutine has emitted to it, although
// the two go by different topics.
func TestQuestionOvertakesEvent(t *testing.T) {
	call := func(to Target) error {
		replies, err := to.Call(context.Background(), "question")
		if err == nil && (len(replies) != 1 || string(replies[0].Data) != `"answer"`) {
			return fmt.Errorf("replies %+v", replies)
		}
		return err
	}
	for _, question := range []struct {
		name string
		ask  func(to Target) error
	}{
		{"Disconnect", func(to Target) error { return to.Disconnect(context.Background()) }},
		{"Leave", func(to Target) error { return to.Leave(context.Background(), "room") }},
		{"Join", func(to Target) error { return to.Join(context.Background(), "other") }},
		{"Call", call},
	} {
		for _, target := range []struct {
			name, topic string
			of          func(h *Hub) Target
		}{
			{"room", roomTopic("/", "room"), func(h *Hub) Target { return h.To("room") }},
			{"room less some", roomTopic("/", "room"), func(h *Hub) Target { return h.To("room").Except("nobody") }},
			{"rooms", roomTopic("/", ""), func(h *Hub) Target { return h.To("room", "empty") }},
			{"everyone", roomTopic("/", ""), func(h *Hub) Target { return h.Except() }},
		} {
			t.Run(question.name+" of "+target.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					bus := &heldBus{Bus: new(MemoryBus)}
					all := newTestCluster(t, overPipe, 2, bus, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
					c := all[1].connect(t, nil)
					if err := c.socket(all[1].Hub).Join("room"); err != nil {
						t.Fatal(err)
					}
					bus.hold(target.topic, false)
					to := target.of(all[0].Hub)
					if err := to.Emit("last", "words"); err != nil {
						t.Fatal(err)
					}
					asked := make(chan error, 1)
					go func() { asked <- question.ask(to) }()
					synctest.Wait()
					if n := len(asked); n != 0 {
						t.Error("the question was answered before the event came")
					}
					bus.release(t)
					c.want(`{"event":"last","data":"words"}`)
					if question.name == "Call" {
						var q struct{ ID int64 }
						if err := json.Unmarshal([]byte(c.next()), &q); err != nil {
							t.Fatal(err)
						}
						c.send(fmt.Sprintf(`{"id":%d,"data":"answer"}`, q.ID))
					}
					if err := within(t, asked, "the answers"); err != nil {
						t.Error(err)
					}
					if question.name == "Disconnect" {
						c.wantClosed(StatusNormalClosure)
					}
				})
			})
		}
	}
}

// An event that the Bus has lost holds up the question behind it for a moment, and within what the
// caller waits.
func TestQuestionAfterLostEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &heldBus{Bus: new(MemoryBus)}
		all := newTestCluster(t, overPipe, 2, bus, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
		c := all[1].connect(t, nil)
		c.socket(all[1].Hub).Join("room")
		bus.hold(roomTopic("/", "room"), true)
		all[0].To("room").Emit("lost")
		start := time.Now()
		if err := all[0].To("room").Leave(t.Context(), "other"); err != nil || time.Since(start) != maxHold {
			t.Errorf("Leave: %v after %v, want nil after %v", err, time.Since(start), maxHold)
		}
		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		replies, err := all[0].To("room").Call(ctx, "question")
		if err != nil || len(replies) != 1 || time.Since(start) > time.Second {
			t.Errorf("Call: %+v, %v after %v", replies, err, time.Since(start))
		}
		bus.hold("", false)
		start = time.Now()
		if err := all[0].To("room").Disconnect(ctx); err != nil || time.Since(start) != 0 {
			t.Errorf("Disconnect after a later marker: %v after %v", err, time.Since(start))
		}
	})
}

// A node without members of the room hears nothing of it, and does not wait for that.
func TestQuestionAboutUnheardRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &heldBus{Bus: new(MemoryBus)}
		all := newTestCluster(t, overPipe, 2, bus, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
		bus.hold(roomTopic("/", "room"), true)
		all[0].To("room").Emit("e")
		start := time.Now()
		if err := all[0].To("room").Disconnect(t.Context()); err != nil || time.Since(start) != 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A question that waits for a topic goes on when the node gives that up, and a topic forgets the
// markers of nodes that have gone.
func TestMarkersAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newTopics(new(MemoryBus), func(*topic, []byte) {})
		ts.acquire("room")
		synctest.Wait()
		waited := make(chan struct{})
		go func() {
			ts.awaitMark(t.Context(), "room", "other", 1)
			close(waited)
		}()
		synctest.Wait()
		ts.mu.Lock()
		room := ts.byName["room"]
		ts.mu.Unlock()
		ts.mark(room, "third", 1) // which is not the one
		synctest.Wait()
		select {
		case <-waited:
			t.Error("another node's marker will do")
		default:
		}
		ts.unmark(room, func(node string, _ uint64) bool { return node == "third" })
		if len(room.marks) != 0 {
			t.Errorf("%v", room.marks)
		}
		ts.dropAll()
		<-waited
	})
}
