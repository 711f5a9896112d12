package guide

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/atriumtest"
)

// downUsers is a store that is down.
type downUsers struct{ Users }

func (downUsers) ByToken(context.Context, string) (User, error) { return User{}, errors.New("down") }

func TestCookie(t *testing.T) {
	srv := atriumtest.NewServer(newCookieHub(new(memory)))
	defer srv.Close()
	connect := func(cookie string) error {
		c := atrium.NewClient(srv.URL, atrium.ClientOptions{Dial: atrium.DialOptions{
			DialContext: srv.DialContext,
			Header:      http.Header{"Cookie": {cookie}},
		}})
		defer c.Close()
		return c.Connect(t.Context())
	}
	if err := connect("session=7"); err != nil {
		t.Error(err)
	}
	for _, cookie := range []string{"session=", "other=7"} {
		err := connect(cookie)
		refused, ok := errors.AsType[*atrium.Error](err)
		if !ok || refused.Message != "Please sign in" || refused.Data == nil {
			t.Errorf("with the cookie %q: %v", cookie, err)
		}
	}
	down := atriumtest.NewServer(newCookieHub(downUsers{}))
	defer down.Close()
	_, resp, err := atrium.Dial(t.Context(), "ws://localhost", atrium.DialOptions{
		DialContext: down.DialContext,
		Header:      http.Header{"Cookie": {"session=7"}},
	})
	if resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("with the store down: %v", err)
	}
}

func TestToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		verify := func(text string) (Token, error) {
			if text == "" {
				return Token{}, ErrNoUser
			}
			return Token{User{ID: text}, time.Now().Add(time.Hour)}, nil
		}
		srv := atriumtest.NewServer(newTokenHub(verify))
		defer srv.Close()
		gone := make(chan time.Time, 1)
		began := time.Now()
		c := device(t, srv, "7")
		c.OnDisconnect(func(*atrium.Client, atrium.Reason) { gone <- time.Now() })
		if err := c.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Minute)
		if _, err := atrium.Call[any](t.Context(), c, "renew", "7"); err != nil {
			t.Error(err)
		}
		if _, err := atrium.Call[any](t.Context(), c, "renew", "8"); err == nil {
			t.Error("a token of somebody else was good enough")
		}
		if after := (<-gone).Sub(began).Round(time.Minute); after != 90*time.Minute {
			t.Errorf("disconnected after %v, want an hour after the token was renewed", after)
		}
		if err := device(t, srv, "").Connect(t.Context()); err == nil || err.Error() != "Auth failed" {
			t.Errorf("without a token: %v", err)
		}
	})
}
