package atrium_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/atrium-go/atrium"
)

// Two hubs with one Bus are one: what the first emits reaches the second's clients. In two
// processes, the Bus is one of redisbus or natsbus, and that is all the difference.
func ExampleBus() {
	bus := new(atrium.MemoryBus)
	first, second := atrium.New(atrium.Options{Bus: bus}), atrium.New(atrium.Options{Bus: bus})
	joined := make(chan struct{})
	second.OnConnect(func(s *atrium.Socket) {
		_ = s.Join("news") // returns when it hears what other nodes emit
		close(joined)
	})
	server := httptest.NewServer(second)
	defer server.Close()

	ctx := context.Background()
	client, _, err := atrium.Dial(ctx, "ws"+strings.TrimPrefix(server.URL, "http"), atrium.DialOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.CloseNow()
	if _, _, err := client.Read(ctx); err != nil { // {"event":"connect",…}
		log.Fatal(err)
	}
	<-joined

	_ = first.To("news").Emit("headline", "It rains.")
	_, message, err := client.Read(ctx)
	fmt.Println(string(message), err)
	// Output: {"event":"headline","data":"It rains."} <nil>
}

// Nodes carries events between the hubs themselves: here, that what each has cached is not true any
// more.
func ExampleNodes() {
	var users sync.Map
	h := atrium.New(atrium.Options{Bus: new(atrium.MemoryBus)})
	atrium.On(h.Nodes(), "user-changed", func(node, user string) error {
		users.Delete(user)
		return nil
	})
	changed := func(user string) error {
		users.Delete(user)
		return h.Nodes().Emit("user-changed", user) // the others; this node is not told
	}
	_ = changed("ada")
}
