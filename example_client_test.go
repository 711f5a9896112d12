package atrium_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"
	"time"

	"github.com/atrium-go/atrium"
)

// A ply is a move of one player, the same type at both ends.
type ply struct{ From, To string }

func (m ply) Validate() error {
	if m.From == m.To {
		return atrium.Errorf("To: expected another square")
	}
	return nil
}

// A client that stays connected. Its handlers are registered before Connect, so that it misses
// nothing.
func ExampleClient() {
	h := atrium.New(atrium.Options{})
	h.OnConnect(func(s *atrium.Socket) { _ = s.Emit("welcome", "to the lobby") })
	server := httptest.NewServer(h)
	defer server.Close()

	c := atrium.NewClient(server.URL, atrium.ClientOptions{Auth: map[string]string{"token": "secret"}})
	defer c.Close()
	welcomed := make(chan struct{})
	atrium.On(c, "welcome", func(_ *atrium.Client, where string) error {
		fmt.Println("welcome", where)
		close(welcomed)
		return nil
	})
	c.OnDisconnect(func(_ *atrium.Client, why atrium.Reason) {
		if why != atrium.ReasonClientDisconnect { // our own Close
			log.Print("disconnected: ", why) // and already on its way to connect again
		}
	})

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := c.Connect(ctx)
	if refused, ok := errors.AsType[*atrium.Error](err); ok {
		log.Fatalf("the server does not want us: %s", refused.Message)
	} else if err != nil {
		log.Fatal(err)
	}
	<-welcomed
	// Output: welcome to the lobby
}

// A list of who is in a room, which the hub keeps up to date.
func ExampleClient_Presence() {
	h := atrium.New(atrium.Options{})
	h.OnConnect(func(s *atrium.Socket) {
		_ = s.Join("lobby")
		_ = s.Present("lobby", "Ada", map[string]string{"mood": "curious"})
	})
	server := httptest.NewServer(h)
	defer server.Close()

	c := atrium.NewClient(server.URL, atrium.ClientOptions{})
	defer c.Close()
	changed := make(chan struct{}, 1)
	here := c.Presence("lobby")
	here.OnChange(func(people []atrium.Present) {
		for _, p := range people {
			fmt.Printf("%s %s\n", p.Key, p.Infos)
		}
		changed <- struct{}{}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	<-changed
	fmt.Println(here.Count(), "here")
	// Output:
	// Ada [{"mood":"curious"}]
	// 1 here
}

// Call asks the server. What its handler returns, or what is wrong, comes back.
func ExampleClient_call() {
	h := atrium.New(atrium.Options{})
	atrium.OnCall(h, "move", func(_ *atrium.Socket, m ply) (string, error) { return m.From + "-" + m.To, nil })
	server := httptest.NewServer(h)
	defer server.Close()

	c := atrium.NewClient(server.URL, atrium.ClientOptions{CallRetries: 3})
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(atrium.Call[string](ctx, c, "move", ply{"e2", "e4"}))
	fmt.Println(atrium.Call[string](ctx, c, "move", ply{"e2", "e2"}))
	fmt.Println(atrium.Call[int](ctx, c, "move", ply{"e2", "e4"}))
	// Output:
	// e2-e4 <nil>
	//  To: expected another square
	// 0 data: expected an integer, got string
}

// A server may ask its clients, too. Handlers of clients are those of servers, but for who is
// called s there.
func ExampleClient_handlers() {
	h := atrium.New(atrium.Options{})
	answered := make(chan struct{})
	h.OnConnect(func(s *atrium.Socket) {
		fmt.Println(atrium.Call[string](s.Context(), s, "your-move", ply{"e2", "e4"}))
		fmt.Println(atrium.Call[string](s.Context(), s, "your-move", ply{"e2", "e2"}))
		close(answered)
	})
	server := httptest.NewServer(h)
	defer server.Close()

	c := atrium.NewClient(server.URL, atrium.ClientOptions{})
	defer c.Close()
	atrium.OnCall(c, "your-move", func(_ *atrium.Client, m ply) (string, error) { return "after " + m.To + ": e7-e5", nil })
	if err := c.Connect(context.Background()); err != nil {
		log.Fatal(err)
	}
	<-answered
	// Output:
	// after e4: e7-e5 <nil>
	//  To: expected another square
}

// How often to try again is yours to say.
func ExampleBackoff() {
	backoff := atrium.Backoff{Min: 100 * time.Millisecond, Max: time.Second, NoJitter: true}
	for attempt := range 6 {
		fmt.Println(backoff.Delay(attempt))
	}
	// Output:
	// 100ms
	// 200ms
	// 400ms
	// 800ms
	// 1s
	// 1s
}
