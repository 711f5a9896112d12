package redisbus_test

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
	"github.com/atrium-go/atrium/redisbus"
	"github.com/redis/go-redis/v9"
)

// allow makes a user who may do everything, but only with channels of the pattern.
func (s *server) allow(t testing.TB, channels string) {
	t.Helper()
	if err := s.client.Do(t.Context(), "acl", "setuser", "less", "reset", "on", ">p", "~*", "+@all", "resetchannels", channels).Err(); err != nil {
		t.Fatal(err)
	}
}

func (s *server) connectAsLess(t testing.TB) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: s.addr, Username: "less", Password: "p"})
	t.Cleanup(func() { client.Close() })
	return client
}

// A channel that the server's access rules forbid is an error at once, in the server's words, for
// who subscribes and for who publishes.
func TestRefused(t *testing.T) {
	server := start(t)
	server.allow(t, "&other:*")
	bus := redisbus.New(server.connectAsLess(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for range 3 {
		if _, err := bus.Subscribe(ctx, "topic", func([]byte) {}); !redis.HasErrorPrefix(err, "NOPERM") || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("Subscribe: %v", err)
		}
	}
	if err := bus.Publish(ctx, "topic", nil); err != nil {
		t.Errorf("Publish: %v", err)
	}
	if err := bus.Flush(ctx); !redis.HasErrorPrefix(err, "NOPERM") || !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "1 messages") {
		t.Errorf("Flush: %v", err)
	}
	if err := bus.Flush(ctx); err != nil {
		t.Errorf("Flush again: %v", err)
	}
}

// A hub that is refused, from the start or later, knows it in the server's words, and works when it
// is not any more.
func TestHubRefused(t *testing.T) {
	t.Parallel()
	server := start(t)
	server.allow(t, "&other:*")
	h := atrium.New(atrium.Options{Bus: redisbus.New(server.connectAsLess(t))})
	ready := func(want error, words string) {
		t.Helper()
		bustest.Eventually(t, func() error {
			if err := h.Ready(); !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), words) {
				return fmt.Errorf("Ready: %v, want %v", err, want)
			}
			return nil
		})
	}
	ready(atrium.ErrBus, "NOPERM")
	if _, err := h.Count(t.Context()); !errors.Is(err, atrium.ErrBus) {
		t.Errorf("Count: %v", err)
	}
	server.allow(t, "&atrium:*")
	ready(nil, "")
	if _, err := h.Count(t.Context()); err != nil {
		t.Errorf("Count: %v", err)
	}
	server.allow(t, "&other:*")
	ready(atrium.ErrBus, "NOPERM")
	server.allow(t, "&atrium:*")
	ready(nil, "")
	ctx, cancel := context.WithTimeout(t.Context(), bustest.Patience)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil && !strings.Contains(err.Error(), "NOPERM") { // of what was refused before
		t.Error(err)
	}
}

// Any prefix works, also one with what has a meaning in a pattern or to a cluster; what a cluster
// cannot allow is refused.
func TestOddPrefix(t *testing.T) {
	single, cluster := start(t), startCluster(t)
	prefixes := []string{"", " ", "a b:", "*", "?[a-z]", "\\", "\r\nPING\r\n", "\x00", "{", "{a}:", "}", "日本", strings.Repeat("x", 5000)}
	for _, client := range []redis.UniversalClient{single.connect(t), cluster.connect(t)} {
		_, sharded := client.(*redis.ClusterClient)
		for _, prefix := range prefixes {
			var bus *redisbus.Bus
			func() {
				defer func() {
					e := recover()
					if refused := sharded && strings.Contains(prefix, "}"); (e != nil) != refused {
						t.Errorf("prefix %.20q, sharded: %v: %v", prefix, sharded, e)
					}
				}()
				bus = redisbus.New(client, redisbus.Prefix(prefix))
			}()
			if bus == nil {
				continue
			}
			for _, topic := range []string{"a", "b", "c", "room:/,}", ""} {
				heard := make(chan string, 1)
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
	}
}
