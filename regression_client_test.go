package atrium

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// What the client once got wrong and must not get wrong again. Each test is named after what it
// guards.

// Auth may find that nobody is to come back: Close in it does not wait for itself.
func TestClientCloseInAuth(t *testing.T) {
	noLeaks(t)
	for _, reconnecting := range []bool{false, true} {
		f := newFakeServer(t, overTCP)
		var c *Client
		var attempts atomic.Int32
		closed := newChannel[error]()
		last := int32(1)
		if reconnecting {
			last = 2
		}
		c = f.client(t, ClientOptions{AuthFunc: func(context.Context) (any, error) {
			if attempts.Add(1) == last {
				closed <- c.Close()
			}
			return nil, nil
		}})
		result := connecting(c)
		if reconnecting {
			s := f.welcome(t)
			if err := within(t, result, "Connect"); err != nil {
				t.Fatal(err)
			}
			s.CloseNow()
		} else if err := within(t, result, "Connect"); !errors.Is(err, ErrClosed) {
			t.Errorf("Connect: %v", err)
		}
		if err := within(t, closed, "Close"); err != nil {
			t.Error(err)
		}
		if s := c.State(); s != StateClosed {
			t.Errorf("the state is %v", s)
		}
	}
}

// An Auth that does not end with its context holds up neither Connect nor Close; one that ends its
// goroutine has failed.
func TestClientAuthIsNotWaitedFor(t *testing.T) {
	noLeaks(t)
	f := newFakeServer(t, overTCP)
	goOn := make(chan struct{})
	defer close(goOn)
	called := newChannel[int]()
	n := 0
	c := f.client(t, ClientOptions{AuthFunc: func(context.Context) (any, error) {
		n++
		called <- n
		if n == 1 {
			runtime.Goexit()
		}
		<-goOn
		return nil, nil
	}})
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- c.Connect(ctx) }()
	for range 2 {
		within(t, called, "an attempt")
	}
	cancel()
	if err := within(t, result, "Connect"); !errors.Is(err, context.Canceled) || !errors.Is(err, errAuthPanicked) {
		t.Errorf("Connect: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// An event that a flooded client has not taken is one that it has missed: it asks for it when it
// comes back.
func TestClientFloodedAsksForTheRest(t *testing.T) {
	noLeaks(t)
	f := newFakeServer(t, overTCP)
	c := f.client(t, ClientOptions{})
	release := make(chan struct{})
	handled := newChannel[int]()
	On(c, "e", func(_ *Client, n int) error { <-release; handled <- n; return nil })
	left := reasons(c)
	result := connecting(c)
	s := f.accept(t)
	s.send(engineHello)
	s.want("40")
	s.send(`40{"sid":"socket","pid":"secret"}`)
	if err := within(t, result, "Connect"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		Call[int](ctx, c, "ask")
	}()
	s.want(`420["ask"]`)
	for n := range 3 * maxClientInboxEvents {
		if s.Write(context.Background(), MessageText, fmt.Appendf(nil, `42["e",%d,"%d"]`, n+1, n+1)) != nil {
			break // it was given up
		}
	}
	eventually(t, "given up", func() bool { return c.State() != StateOpen })
	close(release)
	cancel()
	<-asked
	if why := within(t, left, "OnDisconnect"); why != ReasonTransportError {
		t.Errorf("disconnected for %q", why)
	}
	s = f.accept(t)
	s.send(engineHello)
	s.want(fmt.Sprintf(`40{"pid":"secret","offset":"%d"}`, len(handled)))
	s.send(`40{"sid":"socket","pid":"secret"}`)
	eventually(t, "recovered", c.Recovered)
}

// A Client with a pending Call comes back whatever number of events it has missed: they come before
// the answer to CONNECT, and the Call is sent again behind that.
func TestClientMissedMuchWhileItCalls(t *testing.T) {
	noLeaks(t)
	f := newFakeServer(t, overTCP)
	c := f.client(t, ClientOptions{CallRetries: 1})
	release := make(chan struct{})
	handled := make(chan int, 3*maxClientInboxEvents)
	On(c, "e", func(_ *Client, n int) error {
		<-release
		handled <- n
		return nil
	})
	result := connecting(c)
	s := f.accept(t)
	s.send(engineHello)
	s.want("40")
	s.send(`40{"sid":"socket","pid":"secret"}`)
	if err := within(t, result, "Connect"); err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() {
		_, err := Call[int](context.Background(), c, "ask")
		answer <- err
	}()
	s.want(`420["ask"]`)
	s.CloseNow()

	s = f.accept(t)
	s.send(engineHello)
	s.want(`40{"pid":"secret"}`)
	for n := range cap(handled) {
		s.send(fmt.Sprintf(`42["e",%d,"%d"]`, n, n+1))
	}
	s.send(`40{"sid":"socket","pid":"secret"}`)
	s.want(`420["ask"]`)
	s.send("430[1]")
	if err := within(t, answer, "Call"); err != nil {
		t.Error(err)
	}
	close(release)
	for n := range cap(handled) {
		if got := within(t, handled, "an event"); got != n {
			t.Fatalf("event %d came as number %d", got, n)
		}
	}
}

// Backoff.Rand is the application's, and may ask the client something.
func TestClientBackoffAsksClient(t *testing.T) {
	noLeaks(t)
	f := newFakeServer(t, overTCP)
	var c *Client
	c = f.client(t, ClientOptions{Backoff: Backoff{Min: time.Millisecond, Rand: func() float64 { c.State(); return 0 }}})
	result := connecting(c)
	f.accept(t).CloseNow()
	f.welcome(t)
	if err := within(t, result, "Connect"); err != nil {
		t.Error(err)
	}
}
