package atrium

import (
	"context"
	"encoding/json"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A client that only looks on has the truth after its connection broke: when everybody has left
// meanwhile, when it is not joined to the room again, and when the hub knows of no presence. Who is
// in the room again is told once.
func TestClientPresenceAsksWhenConnected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Presence: PresenceOptions{Grace: time.Millisecond}})
		srv := serve(t, overPipe, h)
		joins := true
		On(h, "join", func(s *Socket, room string) error {
			if !joins {
				return nil
			}
			return s.Join(room)
		})
		ada := watch(t, h, srv, "r", true)
		mustPresent(t, ada.socket, "r", "Ada", 1)
		<-time.After(presenceTick)

		c := clientOf(srv, ClientOptions{CallRetries: 3})
		defer c.Close()
		p := c.Presence("r")
		var told []string
		p.OnChange(func(list []Present) { told = append(told, describe(list)) })
		c.OnConnect(func(c *Client) { c.Emit("join", "r") }) // after Presence
		want := func(what string, lists ...string) {
			t.Helper()
			<-time.After(10 * time.Second)
			synctest.Wait()
			if diff := cmp.Diff(lists, told); diff != "" || describe(p.List()) != lists[len(lists)-1] {
				t.Errorf("%s: %v, the list is %s", what, diff, describe(p.List()))
			}
			told = nil
		}
		cut := func() { h.Namespace.socket(c.ID()).session.closeNow() }
		mustConnect(t, c)
		want("connected", "Ada[1]")
		cut()
		want("again", "Ada[1]")
		cut()
		ada.socket.Leave("r")
		want("everybody has left", "")
		join(t, ada, "r")
		mustPresent(t, ada.socket, "r", "Ada", 2)
		want("somebody is there", "Ada[2]")
		joins = false
		cut()
		want("not in the room", "")
		joins = true
		cut()
		want("in the room", "Ada[2]")
		joins = false
		cut()
		h.presences.used.Store(false) // as in a hub that has just started
		want("of no presence", "")
	})
}

// A server that does not know the event is asked once for each connection, and nothing waits for
// its answer.
func TestClientPresenceElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		var asked int
		h.HandleAny(func(e *Event) { // as a server that ignores what it does not know
			if e.Name() == "presence" {
				asked++
			}
		})
		c := clientOf(srv, ClientOptions{CallRetries: 3})
		defer c.Close()
		p := c.Presence("r")
		mustConnect(t, c)
		for i := range 3 {
			<-time.After(time.Minute)
			synctest.Wait()
			if asked != i+1 || len(p.List()) != 0 || c.queue.calls != nil || c.reading.calls.Load() != 0 {
				t.Error(i, asked, p.List(), c.queue.calls, c.reading.calls.Load())
			}
			h.Namespace.socket(c.ID()).session.closeNow()
		}
	})
}

// Parts of a state without the one before are no list, and Close ends a presence alone.
func TestClientPresencePartsAndClose(t *testing.T) {
	c := NewClient("http://example.com/", ClientOptions{})
	defer c.Close()
	p, other := c.Presence("r"), c.Presence("r")
	want := func(list, event string) {
		t.Helper()
		if p.take([]json.RawMessage{json.RawMessage(event)}); describe(p.List()) != list {
			t.Errorf("after %s: %s, want %s", event, describe(p.List()), list)
		}
	}
	want("", `{"room":"r","version":3,"state":[{"key":"b","infos":[1]}],"part":1,"parts":2}`)
	want("", `{"room":"r","version":3,"state":[{"key":"a","infos":[1]}],"part":0,"parts":3}`)
	want("", `{"room":"r","version":3,"state":[{"key":"c","infos":[1]}],"part":2,"parts":3}`)
	want("", `{"room":"r","version":4,"joined":[{"key":"d","infos":[1]}]}`)
	want("", `{"room":"r","version":3,"state":[{"key":"a","infos":[1]}],"part":0,"parts":2}`)
	want("a[1] b[1]", `{"room":"r","version":3,"state":[{"key":"b","infos":[1]}],"part":1,"parts":2}`)
	want("b[1]", `{"room":"r","version":4,"left":["a"]}`)
	p.Close()
	p.Close()
	if w := c.registry.current.Load().watch; len(w) != 1 || w[0] != presenceWatcher(other) || describe(p.List()) != "b[1]" {
		t.Error(w, p.List())
	}
}

// clientOf returns a Client of the server, in the bubble.
func clientOf(srv *server, options ClientOptions) *Client {
	options.Dial.DialContext = func(context.Context, string, string) (net.Conn, error) { return srv.kind.dial(srv.listener) }
	return NewClient("http://example.com/", options)
}

// A Client keeps who is in a room: from before it has joined and from after, over a gap in what it
// was told, and over a connection that broke.
func TestClientPresence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		h.OnConnect(func(s *Socket) {
			if s.Handshake().URL().Query().Get("join") != "" {
				s.Join("r")
				s.Present("r", "client", nil)
			}
		})
		ada := watch(t, h, srv, "r", true)
		mustPresent(t, ada.socket, "r", "Ada", 1)

		dial := DialOptions{DialContext: func(context.Context, string, string) (net.Conn, error) { return srv.kind.dial(srv.listener) }}
		c := NewClient("http://example.com/?join=yes", ClientOptions{Dial: dial})
		defer c.Close()
		early, other := c.Presence("r"), c.Presence("other")
		var told []string
		early.OnChange(func(list []Present) { told = append(told, describe(list)) })
		mustConnect(t, c)
		<-time.After(presenceTick)
		late := c.Presence("r")
		<-time.After(presenceTick)
		want := func(list string) {
			t.Helper()
			synctest.Wait()
			for i, p := range []*ClientPresence{early, late} {
				if got := describe(p.List()); got != list {
					t.Errorf("presence %d: %s, want %s", i, got, list)
				}
			}
		}
		want("Ada[1] client[null]")
		mustPresent(t, ada.socket, "r", "Ada", 2)
		<-time.After(presenceTick)
		want("Ada[2] client[null]")

		// A gap.
		h.Emit("presence", map[string]any{"room": "r", "version": 100, "left": []string{"Ada"}})
		<-time.After(presenceTick)
		want("Ada[2] client[null]")
		mustPresent(t, ada.socket, "r", "Eve", 3)
		<-time.After(presenceAnswers) // since the other Presence has asked
		want("Eve[3] client[null]")

		// A connection that breaks.
		h.Namespace.socket(c.ID()).session.closeNow()
		ada.socket.Leave("r")
		<-time.After(10 * time.Second)
		want("client[null]")
		if early.Count() != 1 || other.Count() != 0 || len(other.List()) != 0 {
			t.Error(early.Count(), other.Count())
		}
		early.OnChange(nil)
		join(t, ada, "r")
		mustPresent(t, ada.socket, "r", "Ada", 4)
		<-time.After(presenceTick)
		want("Ada[4] client[null]")

		// A room that it leaves, and joins again when nobody is there.
		socket := h.Namespace.socket(c.ID())
		socket.Leave("r")
		want("")
		ada.socket.Leave("r")
		<-time.After(time.Minute)
		if err := socket.Join("r"); err != nil {
			t.Error(err)
		}
		want("")
		mustPresent(t, socket, "r", "client", nil)
		<-time.After(presenceTick)
		want("client[null]")
		c.Close()
		if last := told[len(told)-1]; told[0] != "Ada[1] client[null]" || last != "client[null]" {
			t.Errorf("%q", told)
		}
	})
}
