package atrium

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// expiries returns a channel that gets each socket that has expired.
func expiries(n *Namespace) <-chan *Socket {
	expired := newChannel[*Socket]()
	n.OnExpire(func(s *Socket) { expired <- s })
	return expired
}

// wantExpired checks the socket that has expired, and that nothing that is done with it panics.
func wantExpired(t testing.TB, expired <-chan *Socket, id string, rooms ...string) {
	t.Helper()
	s := within(t, expired, "OnExpire")
	name, _ := Value[string](s, "name")
	if s.ID() != id || !slices.Equal(s.Rooms(), rooms) || name != "Ada" || s.Namespace() == nil || s.Context().Err() == nil {
		t.Errorf("%s in %q, %q has expired, not %s in %q", s.ID(), s.Rooms(), name, id, rooms)
	}
	s.Set("late", 1)
	s.Emit("late", Binary("x"))
	s.Volatile().Emit("late")
	s.Compress(true).Emit("late")
	s.Join("late")
	s.Leave("a")
	s.Disconnect()
	s.DisconnectWith(4000, "late")
	s.DisconnectClient()
	s.DisconnectAt(time.Now())
	s.Buffered()
	s.Handshake().Header()
	s.Handshake().URL()
	s.Recovered()
	s.SetPublic("late", 1)
	if _, err := Call[any](context.Background(), s, "late"); !errors.Is(err, ErrDisconnected) {
		t.Errorf("Call: %v", err)
	}
	if err := s.Flush(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("Flush: %v", err)
	}
	if got := s.Rooms(); !slices.Equal(got, rooms) {
		t.Errorf("it is in %q", got)
	}
}

// nameAll has each socket named and in a room.
func nameAll(h *Hub) {
	h.Use(func(s *Socket) error { s.Set("name", "Ada"); return s.Join("a") })
}

// Whoever cannot come back has gone for good when its functions have returned, of every kind.
func TestExpireAtOnce(t *testing.T) {
	noLeaks(t)
	for _, away := range []time.Duration{0, time.Minute} {
		h := newHub(t, Options{Recovery: Recovery{MaxDisconnection: away}})
		nameAll(h)
		srv, left, expired := serve(t, overTCP, h), leavings(h), expiries(h.Namespace)
		h.OnExpire(func(*Socket) { panic("too") }) // is logged
		disconnected := make(chan bool, 10)
		h.OnDisconnect(func(*Socket, Reason) { disconnected <- len(expired) == 0 })
		check := func(id string) {
			t.Helper()
			within(t, left, "OnDisconnect")
			if !<-disconnected {
				t.Error("OnExpire came first")
			}
			wantExpired(t, expired, id, "a")
		}
		plain := srv.connect(t, nil)
		plain.CloseNow()
		check(plain.sid)
		c := srv.socketIO(t)
		c.send("40")
		id := c.next()[len(`40{"sid":"`):][:socketIDLength]
		c.send("41")
		check(id)
		refused := errors.New("no")
		h.Use(func(*Socket) error { return refused })
		c = srv.socketIO(t)
		c.send("40")
		c.next()
		if len(expired) != 0 {
			t.Error("a refused one has expired")
		}
	}
}

// The others have gone for good when they are given up.
func TestExpireLater(t *testing.T) {
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{Recovery: Recovery{MaxBytes: 64 << 10}})
	nameAll(l.Hub)
	expired := expiries(l.Namespace)
	away := func() *recoveryClient {
		g := l.enter(t, "")
		l.cut(g)
		if len(expired) > 0 {
			t.Fatal("it has expired though it may come back")
		}
		return g
	}
	g := away()
	g.socket.Join("b")
	g.socket.Disconnect()
	wantExpired(t, expired, g.id, "a", "b")

	g = away()
	if back := l.enter(t, proof(g.pid, "no number")); back.socket.Recovered() {
		t.Error("it came back")
	}
	wantExpired(t, expired, g.id, "a")

	g = away()
	back := l.enter(t, proof(g.pid, ""))
	back.send("41")
	within(t, l.went, "OnDisconnect")
	wantExpired(t, expired, g.id, "a")

	g = away()
	l.Emit("large", strings.Repeat("x", 64<<10))
	for len(expired) == 0 {
		l.cut(l.enter(t, "")) // until the oldest must go
	}
	wantExpired(t, expired, g.id, "a")
}

// Time passes, and Shutdown ends all.
func TestExpireInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRecoveryHub(t, overPipe, Options{})
		nameAll(l.Hub)
		expired := expiries(l.Namespace)
		g := l.enter(t, "")
		l.cut(g)
		<-time.After(time.Minute - time.Second)
		if synctest.Wait(); len(expired) > 0 {
			t.Error("it has expired early")
		}
		<-time.After(5 * time.Second)
		wantExpired(t, expired, g.id, "a")
		g = l.enter(t, "")
		l.cut(g)
		l.shutdown(t)
		if len(expired) != 1 {
			t.Error("Shutdown has not waited for OnExpire")
		}
		wantExpired(t, expired, g.id, "a")
	})
}

// Those that are saved for a successor have not gone.
func TestExpireNotIfSaved(t *testing.T) {
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "state")
	old := successor(t, overTCP, path, Options{})
	nameAll(old.Hub)
	expired := expiries(old.Namespace)
	g, stays := old.enter(t, ""), old.enter(t, "")
	old.cut(g)
	old.shutdown(t, stays)
	if len(expired) > 0 {
		t.Errorf("%s has expired", (<-expired).ID())
	}
	l := successor(t, overTCP, path, Options{})
	expired = expiries(l.Namespace)
	l.To(g.id).Disconnect(t.Context()) // which has never been here
	wantExpired(t, expired, g.id, "a")
}
