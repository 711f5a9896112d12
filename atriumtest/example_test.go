package atriumtest_test

import (
	"context"
	"fmt"
	"log"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/atriumtest"
)

// A hub, a client, and no network. In a test this stands in a bubble of testing/synctest.
func Example() {
	h := atrium.New(atrium.Options{})
	atrium.OnCall(h, "greet", func(s *atrium.Socket, name string) (string, error) { return "hello, " + name, nil })
	srv := atriumtest.NewServer(h)
	defer srv.Close()

	c := atrium.NewClient(srv.URL, atrium.ClientOptions{Dial: atrium.DialOptions{DialContext: srv.DialContext}})
	defer c.Close()
	ctx := context.Background()
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(atrium.Call[string](ctx, c, "greet", "Ann"))
	// Output: hello, Ann <nil>
}
