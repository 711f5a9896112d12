//go:build unix

package main

import (
	"context"
	"maps"
	"os"
	"testing"
	"time"
)

// TestMain is main in the server processes that the test starts.
func TestMain(m *testing.M) {
	if os.Getenv("LISTEN_FDS") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestRestartIsNotNoticed restarts the server three times under clients that talk all the time.
func TestRestartIsNotNoticed(t *testing.T) {
	s, err := newSupervisor("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.restart(); err != nil {
		t.Fatal(err)
	}
	const clients, plain, restarts = 10, 2, 3
	c := &crowd{addr: s.addr, pause: 100 * time.Millisecond}
	ctx, stop := context.WithCancel(t.Context())
	defer c.leave()
	defer stop()
	if err := c.enter(ctx, clients); err != nil {
		t.Fatal(err)
	}
	c.everyoneTalks(t, clients)
	for range restarts {
		if err := s.restart(); err != nil {
			t.Error(err)
		}
		c.everyoneTalks(t, clients)
	}
	stop()
	c.talking.Wait()
	c.until(t, "all that was said has arrived", func() bool {
		for hearer, heard := range c.heard {
			for sender, said := range c.said {
				if hearer != sender && heard[sender] < said {
					return false
				}
			}
		}
		return len(c.heard) == clients-plain
	})

	t.Log(c)
	if c.lost+c.again > 0 || len(c.problems) > 0 {
		t.Error("clients have noticed it")
	}
	if want := clients * restarts; c.back != want || c.anew > 0 {
		t.Errorf("%d times a client came back, want %d; %d times it began anew", c.back, want, c.anew)
	}
}

// everyoneTalks waits until each client has said three more messages.
func (c *crowd) everyoneTalks(t *testing.T, clients int) {
	t.Helper()
	c.mu.Lock()
	before := maps.Clone(c.said)
	c.mu.Unlock()
	c.until(t, "everyone has said something", func() bool {
		for name, said := range c.said {
			if said < before[name]+3 {
				return false
			}
		}
		return len(c.said) == clients
	})
}

// until waits until a condition on what the clients have noticed holds.
func (c *crowd) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	look := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return holds()
	}
	deadline := time.After(time.Minute)
	for tick := time.Tick(5 * time.Millisecond); !look(); {
		select {
		case <-tick:
		case <-deadline:
			t.Fatalf("waited in vain until %s: %v", what, c)
		}
	}
}
