package guide

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/atrium-go/atrium"
)

// User is somebody whom the application knows.
type User struct{ ID, Name string }

// Users is what the application stores of them.
type Users interface {
	ByToken(ctx context.Context, token string) (User, error) // ErrNoUser if there is none
	Ban(ctx context.Context, id string) error
	Banned(ctx context.Context, id string) (bool, error)
	Seen(ctx context.Context, id string, at time.Time) error // keeps the latest
}

// ErrNoUser says that a token is nobody's.
var ErrNoUser = errors.New("no such user")

// Close codes of the application, from 4000 to 4999 (RFC 6455 §7.4.2).
const (
	closeKicked = 4001
	closeBanned = 4003
)

// app is a hub and its users.
type app struct {
	hub   *atrium.Hub
	users Users
	limit *limiter
}

func newApp(options atrium.Options, users Users) *app {
	a := &app{hub: atrium.New(options), users: users, limit: newLimiter(100*time.Millisecond, 20)}
	h := a.hub

	// [devices]
	h.Use(func(s *atrium.Socket) error {
		var auth struct{ Token string }
		if err := s.Handshake().Bind(&auth); err != nil {
			return err
		}
		user, err := users.ByToken(s.Context(), auth.Token)
		if errors.Is(err, ErrNoUser) {
			return atrium.Errorf("Auth failed") // the client reads this
		} else if err != nil {
			return err // the log has this, and the client reads "internal error"
		}
		if banned, err := users.Banned(s.Context(), user.ID); banned || err != nil {
			return atrium.Errorf("You cannot come in at the moment")
		}
		s.Set("user", user)
		if err := s.SetUser(user.ID); err != nil {
			return err
		}
		if err := s.Join("room:lobby"); err != nil {
			return err
		}
		return s.Present("room:lobby", "", Profile{Name: user.Name})
	})
	// [end]

	// [ban]
	h.OnConnect(func(s *atrium.Socket) {
		user, _ := atrium.Value[User](s, "user")
		if banned, err := users.Banned(s.Context(), user.ID); banned || err != nil {
			s.DisconnectWith(closeBanned, "banned")
		}
	})
	// [end]

	// [limit]
	h.UseEvent(func(e *atrium.Event) error {
		user, _ := atrium.Value[User](e.Socket(), "user")
		if !a.limit.allow(user.ID) {
			return atrium.Errorf("too many events: wait a moment")
		}
		return nil
	})
	// [end]

	a.tellWhoIsHere()
	return a
}

// newBounded makes a hub that anyone may connect to.
func newBounded() *atrium.Hub {
	// [bounds]
	h := atrium.New(atrium.Options{
		Limits: atrium.Limits{
			ConnectionsPerClient: 20,
			EventsPerSecond:      100,
			EventBurst:           500, // a network that stalls brings the events of seconds at once
			SocketsPerUser:       10,  // tabs and devices, on each node
		},
		ReplaceOldest: true, // "connected elsewhere" for the oldest, in place of a refusal
		// Behind proxies all clients have their address. This reads what they add to
		// X-Forwarded-For or Forwarded, and believes nobody else.
		ClientKey: atrium.ForwardedClient(netip.MustParsePrefix("10.0.0.0/8")),
	})
	// [end]
	return h
}

// notify tells all devices of a user; s.ToUser(id) would leave out the one that s is.
func (a *app) notify(id, text string) error {
	return a.hub.ToUser(id).Emit("notification", text)
}

// [kick]

// kick disconnects all devices of a user, on every node, also those that are away and could be
// recovered.
func (a *app) kick(ctx context.Context, id string) error {
	return a.hub.ToUser(id).DisconnectWith(ctx, closeKicked, "kicked")
}

// ban keeps a user out. The store comes first, so that who comes back meets it.
func (a *app) ban(ctx context.Context, id string) error {
	if err := a.users.Ban(ctx, id); err != nil {
		return err
	}
	return a.hub.ToUser(id).DisconnectWith(ctx, closeBanned, "banned")
}

// [end]

// limiter lets each user do something burst times at once, and once more in every interval.
type limiter struct {
	every time.Duration
	burst int

	mu   sync.Mutex           // guards:
	free map[string]time.Time // by user, when all of the burst is theirs again
	next time.Time            // when to forget those of whom that is so
}

func newLimiter(every time.Duration, burst int) *limiter {
	return &limiter{every: every, burst: burst, free: make(map[string]time.Time)}
}

func (l *limiter) allow(user string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, whole := time.Now(), time.Duration(l.burst)*l.every
	if now.After(l.next) {
		maps.DeleteFunc(l.free, func(_ string, at time.Time) bool { return at.Before(now) })
		l.next = now.Add(whole)
	}
	at := l.free[user]
	if at.Before(now) {
		at = now
	}
	if at.Add(l.every).Sub(now) > whole {
		return false
	}
	l.free[user] = at.Add(l.every)
	return true
}
