package guide

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/atrium-go/atrium"
)

// [cookie]

// userKey is the key of a request's User in its context.
type userKey struct{}

func newCookieHub(users Users) *atrium.Hub {
	h := atrium.New(atrium.Options{
		Accept: func(r *http.Request) (context.Context, error) {
			cookie, err := r.Cookie("session")
			if err != nil {
				return r.Context(), nil // Use refuses, in words that the page can read
			}
			user, err := users.ByToken(r.Context(), cookie.Value)
			if errors.Is(err, ErrNoUser) {
				return r.Context(), nil
			} else if err != nil {
				return nil, &atrium.Error{Message: "try again later", Status: http.StatusServiceUnavailable}
			}
			return context.WithValue(r.Context(), userKey{}, user), nil
		},
	})
	h.Use(func(s *atrium.Socket) error {
		user, ok := s.Context().Value(userKey{}).(User)
		if !ok {
			return &atrium.Error{Message: "Please sign in", Data: map[string]string{"login": "/login"}}
		}
		s.Set("user", user)
		return s.SetUser(user.ID)
	})
	return h
}

// [end]

// Token is what a token says.
type Token struct {
	User    User
	Expires time.Time
}

func newTokenHub(verify func(token string) (Token, error)) *atrium.Hub {
	h := atrium.New(atrium.Options{})
	// [token]
	h.Use(func(s *atrium.Socket) error {
		var auth struct{ Token string }
		if err := s.Handshake().Bind(&auth); err != nil {
			return err
		}
		token, err := verify(auth.Token)
		if err != nil {
			return atrium.Errorf("Auth failed")
		}
		s.Set("user", token.User)
		s.DisconnectAt(token.Expires)
		return s.SetUser(token.User.ID)
	})
	atrium.On(h, "renew", func(s *atrium.Socket, text string) error {
		token, err := verify(text)
		user, _ := atrium.Value[User](s, "user")
		if err != nil || token.User.ID != user.ID {
			return atrium.Errorf("Auth failed")
		}
		s.DisconnectAt(token.Expires) // in place of the earlier time
		return nil
	})
	// [end]
	return h
}
