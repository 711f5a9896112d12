package atriumtest_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/atriumtest"
)

func newClient(srv *atriumtest.Server) *atrium.Client {
	return atrium.NewClient(srv.URL, atrium.ClientOptions{Dial: atrium.DialOptions{DialContext: srv.DialContext}})
}

// A hub gives a client up that says nothing to a ping for 20 seconds. In a bubble they take no
// time.
func TestHeartbeatInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan atrium.Reason, 1)
		h := atrium.New(atrium.Options{})
		h.OnDisconnect(func(s *atrium.Socket, why atrium.Reason) { gone <- why })
		srv := atriumtest.NewServer(h)
		defer srv.Close()

		ws, _, err := atrium.Dial(t.Context(), "ws://localhost", atrium.DialOptions{DialContext: srv.DialContext})
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow() // it answers no ping: nobody reads
		began := time.Now()
		if why := <-gone; why != atrium.ReasonPingTimeout {
			t.Errorf("the client has gone: %s, want %s", why, atrium.ReasonPingTimeout)
		}
		if took := time.Since(began); took < 20*time.Second || took > time.Minute {
			t.Errorf("it took %v of the bubble's time, want Timeouts.Ping (20 s) and up to PingInterval more", took)
		}
	})
}

// All that is connected hears of Close, and no goroutine is left: the bubble would say so.
func TestCloseEndsWebSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan atrium.Reason, 1)
		h := atrium.New(atrium.Options{})
		h.OnDisconnect(func(s *atrium.Socket, why atrium.Reason) { gone <- why })
		srv := atriumtest.NewServer(h)
		c := newClient(srv)
		defer c.Close()
		if err := c.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		srv.Close()
		if why := <-gone; why != atrium.ReasonTransportError {
			t.Errorf("the hub sees %q, want %q", why, atrium.ReasonTransportError)
		}
		srv.Close() // again
		if _, err := srv.DialContext(t.Context(), "tcp", "localhost:80"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dialing a closed server: %v, want %v", err, net.ErrClosed)
		}
	})
}

func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := atriumtest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.Host+r.URL.Path)
		}))
		defer srv.Close()
		for range 2 { // the second on the same connection
			resp, err := srv.Client().Get(srv.URL + "/hello")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(body) != "localhost/hello" {
				t.Errorf("got %q, %v", body, err)
			}
		}
	})
}

func TestDialEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := atriumtest.Listen() // nobody accepts
		defer l.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := l.DialContext(ctx, "tcp", "localhost:80"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
	})
}
