package atrium_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/atrium-go/atrium"
)

// Large events are compressed, once for everyone. Those that hold a secret beside what others have
// written are not: their length would tell about it.
func ExampleOptions_compression() {
	h := atrium.New(atrium.Options{Compression: atrium.Compression{Level: 1}})
	defer h.Shutdown(context.Background())
	h.OnConnect(func(s *atrium.Socket) {
		s.Emit("history", strings.Repeat("hello, ", 1000))
		s.Compress(false).Emit("token", "4711", "a name that the client has chosen")
	})
	srv := httptest.NewServer(h)
	defer srv.Close()

	// Browsers offer compression by themselves; Dial does when asked to.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, resp, err := atrium.Dial(ctx, "ws"+strings.TrimPrefix(srv.URL, "http"), atrium.DialOptions{Compression: atrium.Compression{Level: 1}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.CloseNow()
	fmt.Println(resp.Header["Sec-Websocket-Extensions"])
	for range 3 {
		_, message, err := c.Read(ctx)
		fmt.Println(len(message) > 7000, err)
	}
	// Output:
	// [permessage-deflate; server_no_context_takeover; client_no_context_takeover]
	// false <nil>
	// true <nil>
	// false <nil>
}
