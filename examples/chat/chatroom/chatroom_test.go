package chatroom

import (
	"testing"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/atriumtest"
)

// A client that names a person's room, or a room that it is not in, gets nowhere.
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
	enter("Ada")
	eve := enter("Eve")
	if _, err := atrium.Call[any](t.Context(), eve, "join", Room{Room: "person:Ada"}); err != nil {
		t.Errorf("a room may have any name: %v", err)
	}
	if n, err := h.To("person:Ada").Count(t.Context()); n != 1 || err != nil {
		t.Errorf("%d sockets are in Ada's own room (%v), want hers alone", n, err)
	}
	for _, room := range []string{"lobby", "person:Eve", eve.ID()} {
		_, err := atrium.Call[any](t.Context(), eve, "say", map[string]string{"room": room, "text": "hello"})
		if err == nil || err.Error() != "You are not in this room." {
			t.Errorf("saying something in %q: %v", room, err)
		}
	}
}
