package chatroom

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/atriumtest"
)

// A client that names a room of ours, a person or a socket, or a room that it is not in, gets
// nowhere.
func TestRoomsThatClientsName(t *testing.T) {
	h := New("secret", atrium.Options{})
	srv := atriumtest.NewServer(Handler(h))
	defer srv.Close()
	enter := func(name string) *atrium.Client {
		c := atrium.NewClient(srv.URL, atrium.ClientOptions{
			Auth: SignIn{Name: name, Password: "secret"},
			Dial: atrium.DialOptions{DialContext: srv.DialContext},
		})
		t.Cleanup(func() { c.Close() })
		if err := c.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		return c
	}
	ada := enter("Ada")
	eve := enter("Eve")
	for _, room := range []string{everyone, "Ada", ada.ID()} {
		if _, err := atrium.Call[any](t.Context(), eve, "join", Room{Room: room}); err != nil {
			t.Errorf("a room may have any name: %v", err)
		}
	}
	if n, err := h.ToUser("Ada").Count(t.Context()); n != 1 || err != nil {
		t.Errorf("%d sockets are Ada's (%v), want hers alone", n, err)
	}
	_, err := atrium.Call[any](t.Context(), eve, "typing", Typing{Room: "lobby", Typing: true})
	if err == nil || !strings.HasPrefix(err.Error(), "presence: expected a room that the socket is in") {
		t.Errorf("typing in a room that she is not in: %v", err)
	}
	for _, room := range []string{"lobby", "Eve", eve.ID()} {
		_, err := atrium.Call[any](t.Context(), eve, "say", map[string]string{"room": room, "text": "hello"})
		if err == nil || err.Error() != "You are not in this room." {
			t.Errorf("saying something in %q: %v", room, err)
		}
	}
}

// Somebody may be in as many rooms as there is space for in a list of them, and is told of the
// bound.
func TestManyRooms(t *testing.T) {
	h := New("secret", atrium.Options{})
	srv := atriumtest.NewServer(Handler(h))
	defer srv.Close()
	c := atrium.NewClient(srv.URL, atrium.ClientOptions{
		Auth: SignIn{Name: "Ada", Password: "secret"},
		Dial: atrium.DialOptions{DialContext: srv.DialContext},
	})
	defer c.Close()
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	joined := 0
	for ; ; joined++ {
		long := Room{Room: fmt.Sprint(strings.Repeat("\x01", 30), joined+10)} // as JSON, six bytes a character
		if _, err := atrium.Call[any](t.Context(), c, "join", long); err != nil {
			if !strings.Contains(err.Error(), "rooms") {
				t.Errorf("the error of too many rooms is %q", err)
			}
			break
		}
	}
	if joined != 19 {
		t.Errorf("Ada is in %d rooms, want 19 beside the one that all are in", joined)
	}
}
