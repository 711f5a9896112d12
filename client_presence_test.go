package atrium

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

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
