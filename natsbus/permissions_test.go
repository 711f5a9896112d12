package natsbus_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bustest"
	"github.com/atrium-go/atrium/natsbus"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// users are a server's: one who may do everything, and one who may do what is given.
func users(p *server.Permissions) server.Options {
	return server.Options{Users: []*server.User{{Username: "full", Password: "p"}, {Username: "less", Password: "p", Permissions: p}}}
}

// mutePermissions leave it to a user to publish, and refuse all subscriptions.
func mutePermissions() *server.Permissions {
	return &server.Permissions{Subscribe: &server.SubjectPermission{Allow: []string{"other.>"}}}
}

func connectAs(t testing.TB, s *server.Server, user string) *nats.Conn {
	t.Helper()
	silent := func(*nats.Conn, *nats.Subscription, error) {}
	conn, err := nats.Connect(s.ClientURL(), nats.UserInfo(user, "p"), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ErrorHandler(silent))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// A subscription that the server refuses is an error, though the client takes it; others succeed
// beside it.
func TestRefusedSubscription(t *testing.T) {
	s := start(t, users(&server.Permissions{Subscribe: &server.SubjectPermission{Deny: []string{"atrium.secret"}}}))
	bus := natsbus.New(connectAs(t, s, "less"))
	for i := range 20 {
		if _, err := bus.Subscribe(t.Context(), "secret", func([]byte) {}); !errors.Is(err, nats.ErrPermissionViolation) || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("Subscribe to what is forbidden: %v", err)
		}
		cancel, err := bus.Subscribe(t.Context(), fmt.Sprint("open ", i), func([]byte) {})
		if err != nil {
			t.Errorf("Subscribe to what is allowed: %v", err)
			continue
		}
		cancel()
	}
}

// What the server refuses to publish is an error of Flush, once.
func TestRefusedPublish(t *testing.T) {
	s := start(t, users(&server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"atrium.secret"}}}))
	bus := natsbus.New(connectAs(t, s, "less"))
	if err := bus.Publish(t.Context(), "secret", nil); err != nil {
		t.Error(err)
	}
	if err := bus.Flush(t.Context()); !errors.Is(err, nats.ErrPermissionViolation) || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Flush: %v", err)
	}
	if err := bus.Publish(t.Context(), "open", nil); err != nil {
		t.Error(err)
	}
	if err := bus.Flush(t.Context()); err != nil {
		t.Errorf("Flush after nothing was refused: %v", err)
	}
}

// A hub whose subscriptions, or messages, the server refuses is told, in the server's words.
func TestHubRefused(t *testing.T) {
	for name, p := range map[string]*server.Permissions{
		"subscriptions": mutePermissions(),
		"messages":      {Publish: &server.SubjectPermission{Allow: []string{"other.>"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, users(p))
			h := atrium.New(atrium.Options{Bus: natsbus.New(connectAs(t, s, "less"))})
			defer h.Shutdown(t.Context())
			bustest.Eventually(t, func() error {
				if err := h.Ready(); !errors.Is(err, atrium.ErrBus) || !strings.Contains(err.Error(), "Permissions Violation") {
					return fmt.Errorf("Ready: %v", err)
				}
				return nil
			})
			if _, err := h.Count(t.Context()); !errors.Is(err, atrium.ErrBus) {
				t.Errorf("Count: %v", err)
			}
		})
	}
}

// A hub that loses its subscriptions later notices that, and their return.
func TestHubLosesSubscriptions(t *testing.T) {
	t.Parallel()
	before := users(nil)
	s := start(t, before)
	other := atrium.New(atrium.Options{Bus: natsbus.New(connectAs(t, s, "full"))})
	h := atrium.New(atrium.Options{Bus: natsbus.New(connectAs(t, s, "less"))})
	ready := func(h *atrium.Hub, want error) {
		t.Helper()
		bustest.Eventually(t, func() error {
			if err := h.Ready(); !errors.Is(err, want) {
				return fmt.Errorf("Ready: %v, want %v", err, want)
			}
			if n := len(h.Nodes().List()); want == nil && n != 1 {
				return fmt.Errorf("%d nodes", n)
			}
			return nil
		})
	}
	reload := func(p *server.Permissions) {
		t.Helper()
		o := users(p)
		o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
		if err := s.ReloadOptions(&o); err != nil {
			t.Fatal(err)
		}
	}
	ready(h, nil)
	ready(other, nil)
	reload(mutePermissions())
	ready(h, atrium.ErrBus)
	if err := other.Ready(); err != nil {
		t.Errorf("the other hub: %v", err)
	}
	reload(nil)
	ready(h, nil)
	for _, h := range []*atrium.Hub{h, other} {
		ctx, cancel := context.WithTimeout(t.Context(), bustest.Patience)
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		cancel()
	}
}

// A prefix that no subject can begin with is refused, and any other works.
func TestOddPrefix(t *testing.T) {
	s := start(t, server.Options{})
	conn := connect(t, s.ClientURL())
	for _, prefix := range []string{"a b.", "a.*.", "a.>", "*", "a*b.", "a..b.", ".a.", ".", "a..", "a\tb.", "a\r\nPING\r\n", "\x00.", "$SYS.", strings.Repeat("x", 1025)} {
		func() {
			defer func() {
				if e := recover(); e == nil || !strings.Contains(fmt.Sprint(e), "natsbus: prefix: expected") {
					t.Errorf("New with prefix %.20q: %v", prefix, e)
				}
			}()
			natsbus.New(conn, natsbus.Prefix(prefix))
		}()
	}
	for _, prefix := range []string{"", "chat", "chat.", "a.b.", "é.", "a-b_c/d.", "%2E.", strings.Repeat("x", 1023) + "."} {
		bus := natsbus.New(conn, natsbus.Prefix(prefix))
		heard := make(chan string, 1)
		topic := "room:/" + strings.Repeat(" ", 255) + "," + strings.Repeat(" ", 256)
		cancel, err := bus.Subscribe(t.Context(), topic, func(msg []byte) { heard <- string(msg) })
		if err != nil {
			t.Errorf("prefix %.20q: %v", prefix, err)
			continue
		}
		if err := bus.Publish(t.Context(), topic, []byte("hello")); err != nil {
			t.Errorf("prefix %.20q: %v", prefix, err)
		}
		if msg := <-heard; msg != "hello" {
			t.Errorf("prefix %.20q: heard %q", prefix, msg)
		}
		cancel()
	}
}
