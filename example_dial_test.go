package atrium_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/atrium-go/atrium"
)

// A server that greets, and a client that dials it; then one that asks for what is not there.
func ExampleDial() {
	mux := http.NewServeMux()
	mux.HandleFunc("/greet", func(w http.ResponseWriter, r *http.Request) {
		c, err := atrium.Upgrade(w, r, atrium.UpgradeOptions{})
		if err != nil {
			return // the client has been answered
		}
		defer c.Close(atrium.StatusNormalClosure, "goodbye")
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if op, name, err := c.Read(ctx); err == nil {
			c.Write(ctx, op, append([]byte("hello, "), name...))
		}
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	address := "ws" + strings.TrimPrefix(srv.URL, "http") // ws://127.0.0.1:…

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, _, err := atrium.Dial(ctx, address+"/greet", atrium.DialOptions{
		Header: http.Header{"Authorization": {"Bearer sesame"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.CloseNow()
	if err := c.Write(ctx, atrium.MessageText, []byte("Ann")); err != nil {
		fmt.Println(err)
		return
	}
	_, greeting, err := c.Read(ctx)
	fmt.Printf("%s %v\n", greeting, err)
	_, _, err = c.Read(ctx)
	fmt.Println(err)

	_, _, err = atrium.Dial(ctx, address+"/lost", atrium.DialOptions{})
	if e, ok := errors.AsType[*atrium.HandshakeError](err); ok {
		fmt.Println(e)
	}
	// Output:
	// hello, Ann <nil>
	// atrium: connection closed with status 1000: "goodbye"
	// the server answers with status "404 Not Found" instead of 101: "404 page not found"
}
