package guide

import (
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/atriumtest"
)

func newHub() *atrium.Hub {
	h := newTokenHub(func(token string) (Token, error) {
		return Token{User{ID: token}, time.Now().Add(time.Hour)}, nil
	})
	handleRooms(h, func(User, string) bool { return true })
	return h
}

// [httptest]

func TestSay(t *testing.T) {
	srv := httptest.NewServer(newHub())
	defer srv.Close()
	c := atrium.NewClient(srv.URL, atrium.ClientOptions{Auth: map[string]string{"token": "7"}})
	defer c.Close()
	said := make(chan string, 1)
	atrium.On(c, "said", func(_ *atrium.Client, m ChatMessage) error {
		said <- m.Text
		return nil
	})
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	message := ChatMessage{Room: "lobby", Text: "hello"}
	if _, err := atrium.Call[any](t.Context(), c, "say", message); err == nil {
		t.Error("a client may speak where it is not")
	}
	if _, err := atrium.Call[any](t.Context(), c, "join", "lobby"); err != nil {
		t.Fatal(err)
	}
	if _, err := atrium.Call[any](t.Context(), c, "say", message); err != nil {
		t.Fatal(err)
	}
	if got := <-said; got != "hello" {
		t.Errorf("heard %q", got)
	}
}

// [end]

// [synctest]

func TestTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := atriumtest.NewServer(newHub())
		defer srv.Close()
		c := atrium.NewClient(srv.URL, atrium.ClientOptions{
			Auth: map[string]string{"token": "7"},
			Dial: atrium.DialOptions{DialContext: srv.DialContext},
		})
		defer c.Close()
		gone := make(chan atrium.Reason, 1)
		c.OnDisconnect(func(_ *atrium.Client, why atrium.Reason) { gone <- why })
		began := time.Now()
		if err := c.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if why := <-gone; why != atrium.ReasonServerDisconnect {
			t.Errorf("disconnected: %s", why)
		}
		if took := time.Since(began).Round(time.Minute); took != time.Hour {
			t.Errorf("disconnected after %v", took)
		}
	})
}

// [end]
