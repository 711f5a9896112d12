package guide

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/atriumtest"
)

// memory is a store for tests: a token is the id of its user.
type memory struct {
	mu     sync.Mutex // guards:
	banned map[string]bool
	seen   map[string]time.Time
	asked  func() // called by Banned with its answer already decided, if set
}

func (m *memory) Seen(_ context.Context, id string, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen == nil {
		m.seen = make(map[string]time.Time)
	}
	if at.After(m.seen[id]) {
		m.seen[id] = at
	}
	return nil
}

func (m *memory) lastSeen(id string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen[id]
}

func (m *memory) ByToken(_ context.Context, token string) (User, error) {
	if token == "" {
		return User{}, ErrNoUser
	}
	return User{ID: token, Name: "name of " + token}, nil
}

func (m *memory) Ban(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.banned == nil {
		m.banned = make(map[string]bool)
	}
	m.banned[id] = true
	return nil
}

func (m *memory) Banned(_ context.Context, id string) (bool, error) {
	m.mu.Lock()
	banned, asked := m.banned[id], m.asked
	m.asked = nil
	m.mu.Unlock()
	if asked != nil {
		asked()
	}
	return banned, nil
}

// device makes a client of a user. It does not connect.
func device(t *testing.T, srv *atriumtest.Server, user string) *atrium.Client {
	c := atrium.NewClient(srv.URL, atrium.ClientOptions{
		Auth: map[string]string{"token": user},
		Dial: atrium.DialOptions{DialContext: srv.DialContext},
	})
	t.Cleanup(func() { c.Close() })
	return c
}

func connected(t *testing.T, srv *atriumtest.Server, user string) *atrium.Client {
	t.Helper()
	c := device(t, srv, user)
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func newTestApp(t *testing.T, users Users) (*app, *atriumtest.Server) {
	a := newApp(atrium.Options{}, users)
	srv := atriumtest.NewServer(a.hub)
	t.Cleanup(srv.Close)
	return a, srv
}

func TestDevices(t *testing.T) {
	a, srv := newTestApp(t, new(memory))
	heard := make(chan string)
	for _, user := range []string{"7", "7", "8"} {
		c := device(t, srv, user)
		atrium.On(c, "notification", func(_ *atrium.Client, text string) error {
			heard <- user + " " + text
			return nil
		})
		if err := c.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"7", "8"} {
		if err := a.notify(id, "hello"); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]int{<-heard: 1}
	got[<-heard]++
	got[<-heard]++
	if got["7 hello"] != 2 || got["8 hello"] != 1 {
		t.Errorf("heard: %v", got)
	}
	if err := device(t, srv, "").Connect(t.Context()); err == nil || err.Error() != "Auth failed" {
		t.Errorf("without a token: %v", err)
	}
}

func TestKickAndBan(t *testing.T) {
	a, srv := newTestApp(t, new(memory))
	for _, test := range []struct {
		name string
		end  func() error
		code int
		back bool
	}{
		{"kick", func() error { return a.kick(t.Context(), "7") }, closeKicked, true},
		{"ban", func() error { return a.ban(t.Context(), "7") }, closeBanned, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			told := make(chan int, 2)
			for range 2 {
				c := device(t, srv, "7")
				atrium.On(c, "disconnect_reason", func(_ *atrium.Client, why struct{ Code int }) error {
					told <- why.Code
					return nil
				})
				if err := c.Connect(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if err := test.end(); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if code := <-told; code != test.code {
					t.Errorf("told %d, want %d", code, test.code)
				}
			}
			if err := device(t, srv, "7").Connect(t.Context()); (err == nil) != test.back {
				t.Errorf("coming back: %v", err)
			}
		})
	}
}

// Who is away is kicked as well: what Options.Recovery keeps of them is forgotten.
func TestKickWhileAway(t *testing.T) {
	for _, kicked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			a := newApp(atrium.Options{Recovery: atrium.Recovery{MaxDisconnection: time.Minute}}, new(memory))
			srv := atriumtest.NewServer(a.hub)
			defer srv.Close()
			var network net.Conn
			c := atrium.NewClient(srv.URL, atrium.ClientOptions{
				Auth: map[string]string{"token": "7"},
				Dial: atrium.DialOptions{DialContext: func(ctx context.Context, n, addr string) (conn net.Conn, err error) {
					conn, err = srv.DialContext(ctx, n, addr)
					network = conn
					return conn, err
				}},
			})
			defer c.Close()
			recovered := make(chan bool, 2)
			c.OnConnect(func(*atrium.Client) { recovered <- c.Recovered() })
			if err := c.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-recovered
			network.Close()
			synctest.Wait() // both ends know
			if kicked {
				if err := a.kick(t.Context(), "7"); err != nil {
					t.Error(err)
				}
			}
			if got := <-recovered; got == kicked {
				t.Errorf("kicked while away: %v; recovered: %v", kicked, got)
			}
		})
	}
}

// A ban that comes when Use has asked the store and the socket is not yet in its rooms.
func TestBanBetweenUseAndConnect(t *testing.T) {
	users := new(memory)
	a, srv := newTestApp(t, users)
	banned := make(chan error, 1)
	users.asked = func() { banned <- a.ban(t.Context(), "7") }
	gone := make(chan atrium.Reason, 1)
	c := device(t, srv, "7")
	c.OnDisconnect(func(_ *atrium.Client, why atrium.Reason) { gone <- why })
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-banned; err != nil {
		t.Fatal(err)
	}
	if why := <-gone; why != atrium.ReasonServerDisconnect {
		t.Errorf("gone: %s", why)
	}
}

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(100*time.Millisecond, 20)
		times := func(user string) (n int) {
			for l.allow(user) {
				n++
			}
			return n
		}
		if n := times("7"); n != 20 {
			t.Errorf("%d at once, want 20", n)
		}
		if n := times("8"); n != 20 {
			t.Errorf("%d of another user, want 20", n)
		}
		time.Sleep(550 * time.Millisecond)
		if n := times("7"); n != 5 {
			t.Errorf("%d after 550 ms, want 5", n)
		}
		time.Sleep(time.Minute)
		l.allow("9")
		if len(l.free) != 1 {
			t.Errorf("%d users are remembered, want 1", len(l.free))
		}
	})
}

// A second device gives no second share.
func TestLimitOfEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no time passes
		_, srv := newTestApp(t, new(memory))
		for range 20 {
			if err := say(t, connected(t, srv, "7")); err != nil {
				t.Fatal(err)
			}
		}
		for _, user := range []string{"7", "8"} {
			var limited *atrium.Error
			err := say(t, connected(t, srv, user))
			if errors.As(err, &limited) != (user == "7") {
				t.Errorf("event number 21, of user %s: %v", user, err)
			}
		}
	})
}

func say(t *testing.T, c *atrium.Client) error {
	_, err := atrium.Call[any](t.Context(), c, "people", "lobby")
	return err
}
