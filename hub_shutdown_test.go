package atrium

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A handler that does not return is named, with its event, its socket and since when, by Shutdown's
// error and, before that, in the log.
func TestShutdownNamesHandlers(t *testing.T) {
	rows := []struct {
		name string
		set  func(h *Hub, gate <-chan struct{})
		want string
	}{
		{"an event", func(h *Hub, gate <-chan struct{}) { h.Handle("block", func(*Event) { <-gate }) },
			`event "block" of socket %s, for `},
		{"of one who has left", func(h *Hub, gate <-chan struct{}) {
			h.Handle("block", func(e *Event) { e.Socket().Disconnect(); <-gate })
		}, `event "block" of socket %s, for `},
		{"OnConnect", func(h *Hub, gate <-chan struct{}) { h.OnConnect(func(*Socket) { <-gate }) },
			`Use or OnConnect of socket %s, for `},
		{"OnDisconnect", func(h *Hub, gate <-chan struct{}) { h.OnDisconnect(func(*Socket, Reason) { <-gate }) },
			`OnDisconnect of socket %s, for `},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				logger, log := newLog()
				h := newHub(t, Options{Logger: logger})
				gate := make(chan struct{})
				row.set(h, gate)
				c := serve(t, overPipe, h).connect(t, nil)
				c.send(`{"event":"quick"}`)
				c.send(`{"event":"block"}`)
				go c.listen()
				<-time.After(time.Second)
				ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
				defer cancel()
				err := h.Shutdown(ctx)
				want := fmt.Sprintf(row.want, c.sid)
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 clients left") || !strings.Contains(err.Error(), want) {
					t.Errorf("Shutdown: %v\nwant %s", err, want)
				}
				if at := strings.LastIndex(err.Error(), ", for "); at > 0 {
					if d, _ := time.ParseDuration(err.Error()[at+len(", for "):]); d < 6*time.Second || d > 8*time.Second {
						t.Errorf("it runs for %v", d)
					}
				}
				text := log.String()
				quoted := strings.ReplaceAll(want, `"`, `\"`)
				if !strings.Contains(text, "Shutdown waits for handlers") || !strings.Contains(text, quoted) {
					t.Errorf("the log has %s\nwant %s", text, quoted)
				}
				close(gate)
			})
		})
	}
}

// Shutdown in a handler waits for that handler, and so for itself: it is told who it is that does
// not return.
func TestShutdownInAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logger, log := newLog()
		h := newHub(t, Options{Logger: logger})
		ended := make(chan error, 1)
		h.Handle("stop", func(e *Event) {
			ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
			defer cancel()
			ended <- h.Shutdown(ctx)
		})
		c := serve(t, overPipe, h).connect(t, nil)
		c.send(`{"event":"stop"}`)
		go c.listen()
		if err := <-ended; err == nil || !strings.Contains(err.Error(), `event "stop" of socket `+c.sid+", for 8s") {
			t.Errorf("Shutdown: %v", err)
		}
		if text := log.String(); !strings.Contains(text, `event \"stop\" of socket `+c.sid+", for 5s") {
			t.Errorf("the log has %s", text)
		}
	})
}

// Of many handlers the first are named.
func TestShutdownNamesTenHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{})
		gate := make(chan struct{})
		h.Handle("block", func(*Event) { <-gate })
		srv := serve(t, overPipe, h)
		for range maxNamed + 2 {
			c := srv.connect(t, nil)
			c.send(`{"event":"block"}`)
			go c.listen()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := h.Shutdown(ctx)
		if n := strings.Count(err.Error(), "of socket"); n != maxNamed || !strings.Contains(err.Error(), "; and 2 more") {
			t.Errorf("%d are named: %v", n, err)
		}
		close(gate)
	})
}

// A function of an OfFunc runs where the connection is read: whatever it does, that goes on, the
// client is refused the namespace, and the hub can be shut down.
func TestGoexitInOfFunc(t *testing.T) {
	ends := map[string]func(){"Goexit": runtime.Goexit, "panic": func() { panic("oops") }}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			logger, log := newLog()
			h := newEcho(t, Options{Logger: logger})
			h.OfFunc(func(string) bool { end(); return true })
			srv := serve(t, overTCP, h)
			const refusal = `44/odd,{"message":"Invalid namespace"}`
			c := srv.direct(t)
			c.send("40/odd,")
			c.want(refusal)
			c.send("40")
			if got := c.next(); !strings.HasPrefix(got, `40{"sid":`) {
				t.Errorf("afterwards: %s", got)
			}
			c.CloseNow()
			e := srv.polls(t)
			e.post("40/odd,").want(t, 200, "ok")
			e.get().want(t, 200, refusal)
			e.leave()
			if text := log.String(); !strings.Contains(text, "the function of an OfFunc panicked") || !strings.Contains(text, "namespace=/odd") {
				t.Errorf("the log has %s", text)
			}
		})
	}
}

// A Bus that panics is one that fails: the hub goes on alone, and the log says why.
func TestBusPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logger, log := newLog()
		h := New(Options{Logger: logger, Bus: &scriptedBus{
			publish:   func(context.Context, string, []byte) error { panic("publish oops") },
			subscribe: func(context.Context, string, func([]byte)) (func(), error) { panic("subscribe oops") },
		}})
		c := serve(t, overPipe, h).connect(t, nil)
		h.Emit("tick")
		c.want(`{"event":"tick"}`)
		c.CloseNow()
		<-time.After(5 * time.Second)
		h.Shutdown(t.Context())
		if text := log.String(); !strings.Contains(text, "oops") {
			t.Errorf("the log has %s", text)
		}
	})
}
